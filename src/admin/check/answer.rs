//! An HTTP answer, taken apart far enough to be judged. Pure.

/// Longest piece of a header that is repeated, in characters.
const MAX_SHOWN: usize = 200;

/// Status, headers and the start of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// As it came: chunks and all.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads what has come so far; `None`: the head isn't there as a whole, or it is no HTTP.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = bytes.split_at(end + 4);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        if !words.next()?.starts_with("HTTP/1.") {
            return None;
        }
        let status = words.next()?.parse().ok()?;
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), ::hub::text::printable(value.trim(), MAX_SHOWN)))
        });
        Some(Self { status, headers: headers.collect(), body: body.to_vec() })
    }

    /// A header by its name in lower case; printable and cut short.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether more of the body is to come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        // Nothing of what follows is an answer to us.
        self.status == 101
            || self
                .header("content-length")
                .and_then(|text| text.parse().ok())
                .is_some_and(|length| self.body.len() >= length)
    }

    /// The JSON object in the body, if there is one; also when it came in chunks, as short ones do in one.
    #[must_use]
    pub fn object(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let start = self.body.iter().position(|byte| *byte == b'{')?;
        let end = self.body.iter().rposition(|byte| *byte == b'}')?;
        ::hub::json::object(self.body.get(start..=end)?).ok()
    }
}

/// The time that an HTTP date names, in seconds since 1970: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
#[must_use]
pub fn seconds(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let number =
        |text: &str, most: i64| text.parse::<i64>().ok().filter(|number| (0..=most).contains(number));
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let mut parts = time.split(':');
    let (hour, minute, second) =
        (number(parts.next()?, 23)?, number(parts.next()?, 59)?, number(parts.next()?, 60)?);
    // Days since 1970-03-01 in a calendar that starts in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_taken_apart() {
        let answer = Answer::parse(
            b"HTTP/1.1 302 Found\r\nLocation:  /x\x1b[2J \r\nX: a:b\r\nbad\r\ncontent-length: 2\r\n\r\nab",
        )
        .unwrap();
        assert_eq!(
            (answer.status, answer.header("location"), answer.header("x")),
            (302, Some("/x"), Some("a:b"))
        );
        assert!(answer.is_whole() && answer.body == b"ab");
        assert!(!Answer::parse(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\na").unwrap().is_whole());
        assert!(Answer::parse(b"HTTP/1.1 101 Switching\r\n\r\n").unwrap().is_whole());
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 x y\r\n\r\n",
            b"HTTP/1.1 99999 y\r\n\r\n",
        ] {
            assert_eq!(Answer::parse(bad), None);
        }
    }

    #[test]
    fn an_object_is_found_in_chunks_too() {
        let body = |text: &str| Answer { status: 200, headers: Vec::new(), body: text.as_bytes().to_vec() };
        for good in ["{\"version\": \"5.0\"}", "14\r\n{\"version\": \"5.0\"}\r\n0\r\n\r\n"] {
            assert_eq!(body(good).object().unwrap()["version"], "5.0");
        }
        for bad in ["", "{", "}{", "<html>{}x}", "[1]"] {
            assert_eq!(body(bad).object(), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_read() {
        for (date, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
            ("Sun, 22 Nov 2026 09:46:41 GMT", 1_795_340_801),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ] {
            assert_eq!(seconds(date), Some(expected), "{date}");
        }
        for bad in [
            "",
            "now",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            "Sun, 06 Nov 1994 8 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
            let _ = Answer::parse(&bytes).map(|answer| (answer.is_whole(), answer.object()));
            let _ = Answer::parse(&[b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat()).map(|answer| answer.object());
            let _ = seconds(&text);
        }
    }
}
