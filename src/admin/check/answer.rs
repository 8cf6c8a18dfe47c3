//! Parses the parts of an HTTP response that `check` judges: status, headers, start of the body.
//!
//! The response comes from whatever listens at the configured address, so headers are made
//! printable and cut short.

use httparse::{EMPTY_HEADER, ParserConfig, Response, Status};
use std::time::UNIX_EPOCH;

/// Longest header value that is kept, in characters; longer ones are cut.
const MAX_SHOWN: usize = 200;
/// Most headers in a response.
const MAX_HEADERS: usize = 128;

/// An HTTP response: status, headers and the start of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body as received, with chunk sizes if it is chunked.
    pub body: Vec<u8>,
}

impl Answer {
    /// Parses what has been received so far; `None` if the head is incomplete or this is not
    /// HTTP/1.
    ///
    /// Malformed header lines are skipped, and so are values with control characters.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        let mut lenient = ParserConfig::default();
        lenient.ignore_invalid_headers_in_responses(true);
        let Ok(Status::Complete(length)) = lenient.parse_response(&mut response, bytes) else { return None };
        let headers = response.headers.iter().map(|header| {
            let value = String::from_utf8_lossy(header.value);
            (header.name.to_ascii_lowercase(), ::hub::text::printable(value.trim(), MAX_SHOWN))
        });
        Some(Self { status: response.code?, headers: headers.collect(), body: bytes.get(length..)?.to_vec() })
    }

    /// The value of the first header with this name. `name` is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// True if nothing of the body is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        // After this status another protocol follows, and no body.
        self.status == 101
            || self
                .header("content-length")
                .and_then(|text| text.parse().ok())
                .is_some_and(|length| self.body.len() >= length)
    }

    /// The JSON object in the body, if there is one. Works for short chunked bodies, because they
    /// have a single chunk.
    #[must_use]
    pub fn object(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let start = self.body.iter().position(|byte| *byte == b'{')?;
        let end = self.body.iter().rposition(|byte| *byte == b'}')?;
        ::hub::json::object(self.body.get(start..=end)?).ok()
    }
}

/// Parses an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7) into seconds since
/// 1970.
#[must_use]
pub fn seconds(date: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(date.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok()?.as_secs().try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_taken_apart() {
        let answer = Answer::parse(
            b"HTTP/1.1 302 Found\r\nLocation:  /x \r\nX: a:b\r\nbad\r\nY: \xc2\x9b2J!\r\nZ: a\x1b[2J\r\n\
              content-length: 2\r\n\r\nab",
        )
        .unwrap();
        assert_eq!(
            (answer.status, answer.header("location"), answer.header("x")),
            (302, Some("/x"), Some("a:b"))
        );
        // A terminal's control sequence: C1 passes as UTF-8 and is made harmless, ESC makes the
        // header malformed.
        assert_eq!((answer.header("y"), answer.header("z")), (Some("2J!"), None));
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
            "HTTP/1.1 200 OK\r\n{}\r\n".replace("{}", &"a: b\r\n".repeat(MAX_HEADERS + 1)).as_bytes(),
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
            // The two obsolete forms, which a recipient has to accept.
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
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
            "Sun, 06 Nov 1969 08:49:37 GMT",
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
