//! `[session]`: how long sessions may last.

use accounts::ConfigError;
use accounts::table::{Document, Table};
use std::time::Duration;

/// How long sessions may last. None: as long as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// `idle_limit`: how long one may be idle.
    pub idle_limit: Option<Duration>,
    /// `max_length`: how long one may last.
    pub max_length: Option<Duration>,
}

/// Reads `[session]`.
///
/// # Errors
/// A value is not allowed.
pub(super) fn read(document: &Document<'_>) -> Result<Session, ConfigError> {
    let table = document.table("session", &["idle_limit", "max_length"])?;
    Ok(Session { idle_limit: limit(&table, "idle_limit")?, max_length: limit(&table, "max_length")? })
}

/// Allowed, in seconds: from what somebody can still answer a warning within to a year.
const RANGE: std::ops::RangeInclusive<u64> = 5..=31_536_000;

fn limit(table: &Table<'_>, key: &'static str) -> Result<Option<Duration>, ConfigError> {
    match table.number(key)? {
        None | Some(0) => Ok(None),
        Some(seconds) if RANGE.contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        Some(seconds) => Err(table.refuse(
            key,
            format!("{seconds} s is not a limit of sessions"),
            format!("Use a number from {} to {}, or 0 for no limit.", RANGE.start(), RANGE.end()),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(text: &str) -> Result<Session, String> {
        let config = Config::from_str(&format!("[session]\n{text}"), Path::new("/c"));
        config
            .map(|config| config.session)
            .map_err(|e| format!("{} {}", e.key().unwrap_or_default(), e.remedy()))
    }

    #[test]
    fn limits_are_seconds_and_none_by_default() {
        assert_eq!(parse(""), Ok(Session::default()));
        assert_eq!(parse("idle_limit = 0\nmax_length = 0"), Ok(Session::default()));
        let read = parse("idle_limit = 1800\nmax_length = 86400").unwrap();
        assert_eq!((read.idle_limit.unwrap().as_secs(), read.max_length.unwrap().as_secs()), (1800, 86_400));
        for (text, key) in
            [("idle_limit = 4", "session.idle_limit"), ("max_length = 31536001", "session.max_length")]
        {
            let remedy = "Use a number from 5 to 31536000, or 0 for no limit.";
            assert_eq!(parse(text).unwrap_err(), format!("{key} {remedy}"));
        }
        assert!(parse("idle_limit = -1").is_err() && parse("idle = 5").is_err());
    }
}
