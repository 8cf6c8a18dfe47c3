//! Formats times: short durations for people, RFC 3339 for programs.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last second of the year 9999, after which RFC 3339 has no dates.
const LAST: i64 = 253_402_300_799;

/// Formats a number of seconds with its two largest units: `7s`, `1m1s`, `2h`, `3d4h`.
pub fn short(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let Some(first) = units.iter().position(|(size, _)| seconds >= *size) else { return "0s".to_owned() };
    let mut left = seconds;
    let mut text = String::new();
    for (size, unit) in units.iter().skip(first).take(2) {
        if left >= *size {
            text.push_str(&format!("{}{unit}", left / size));
        }
        left %= size;
    }
    text
}

/// Formats seconds since 1970 as RFC 3339 does, in UTC. Later times than its last are cut off to
/// that.
pub fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(LAST).min(LAST);
    // Every time from 1970 to LAST has a date.
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (7, "7s"),
            (60, "1m"),
            (61, "1m1s"),
            (7200, "2h"),
            (7261, "2h1m"),
            (86_400, "1d"),
            (86_460, "1d"),
            (273_600, "3d4h"),
        ] {
            assert_eq!(short(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_732_233_600, "2024-11-22T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
        for late in [LAST.unsigned_abs(), LAST.unsigned_abs() + 1, u64::MAX] {
            assert_eq!(rfc3339(late), "9999-12-31T23:59:59Z");
        }
    }
}
