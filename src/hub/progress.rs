//! Parses the event stream of a starting server (`GET …/server/progress`). Pure.
//!
//! The format is HTML's "Server-sent events": lines end with LF, CR LF or CR; `data:` lines make up
//! an event, which a blank line ends; comments and other fields are skipped.
//! JupyterHub sends one JSON object per event, and blank lines every 8 s so that proxies keep the
//! connection.

use super::json;
use super::text::{MAX_MESSAGE, printable};
use serde::Deserialize;
use std::mem;

/// Longest event, in bytes. Kubernetes' raw events have a few KB; a longer event is skipped.
const MAX_EVENT: usize = 64 << 10;

/// One step of a start, cleaned for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Progress in percent, 0–100, by the spawner's own estimate.
    pub percent: Option<u8>,
    /// What is happening, as one printable line of at most [`MAX_MESSAGE`] characters. May be
    /// empty.
    pub message: String,
}

/// An event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server is still starting.
    Progress(Progress),
    /// The server is up and reachable.
    Ready,
    /// The server failed to start; the hub's reason, as one printable line.
    Failed(String),
}

/// The JSON of an event. `html_message`, `raw_message`, `raw_event` and `url` are not used.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    progress: serde_json::Value,
    #[serde(default)]
    message: serde_json::Value,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    failed: bool,
}

/// Splits the stream into events, in whatever pieces it arrives.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The last byte was a CR, so a LF that follows belongs to it.
    after_cr: bool,
    /// The current line has bytes (kept or not).
    begun: bool,
    /// The current event is longer than [`MAX_EVENT`].
    overlong: bool,
}

impl Parser {
    /// Takes the next bytes and returns the events that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => {
                    self.begun = true;
                    if self.line.len() + self.data.len() < MAX_EVENT {
                        self.line.push(byte);
                    } else {
                        self.overlong = true;
                    }
                }
            }
        }
        events
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = mem::take(&mut self.line);
        if mem::take(&mut self.begun) {
            if let Some(data) = line.strip_prefix(b"data:") {
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
                self.data.push(b'\n');
            }
            return None;
        }
        // A blank line ends the event.
        let data = mem::take(&mut self.data);
        if mem::take(&mut self.overlong) { None } else { event(&data) }
    }
}

/// Parses an event; `None` if it is malformed or of no interest.
fn event(data: &[u8]) -> Option<Event> {
    let raw: Raw = json::object(data).ok()?;
    let message = printable(raw.message.as_str().unwrap_or_default(), MAX_MESSAGE);
    // `failed` first: an event that says both must not start a terminal on a server that isn't
    // there.
    if raw.failed {
        return Some(Event::Failed(message));
    }
    if raw.ready {
        return Some(Event::Ready);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped; `as` saturates
    let percent = raw.progress.as_f64().map(|percent| percent.clamp(0.0, 100.0) as u8);
    Some(Event::Progress(Progress { percent, message }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(percent: u8, message: &str) -> Event {
        Event::Progress(Progress { percent: Some(percent), message: message.to_owned() })
    }

    const STREAM: &str = "\n\ndata: {\"progress\": 0, \"message\": \"Server requested\"}\n\n\n\n: comment\n\
        event: x\ndata:{\"progress\":50.7,\"message\":\"Spawning\\n\\u001b[1mnow\",\"raw_message\":\"<b>\"}\r\n\r\n\
        data: {\"progress\":\r\ndata: 60}\r\n\r\ndata: nonsense\n\n\
        data: {\"progress\": 100, \"ready\": true, \"message\": \"m\", \"html_message\": \"h\", \"url\": \"/user/a/\"}\n\n";

    fn expected() -> Vec<Event> {
        vec![step(0, "Server requested"), step(50, "Spawning now"), step(60, ""), Event::Ready]
    }

    #[test]
    fn whole_and_in_bytes() {
        assert_eq!(Parser::default().feed(STREAM.as_bytes()), expected());
        let mut parser = Parser::default();
        let events: Vec<_> = STREAM.bytes().flat_map(|byte| parser.feed(&[byte])).collect();
        assert_eq!(events, expected());
    }

    #[test]
    fn failed() {
        let text = b"data: {\"progress\": 100, \"failed\": true, \"ready\": true, \"message\": \"Spawn failed: no room\"}\n\n";
        assert_eq!(Parser::default().feed(text), [Event::Failed("Spawn failed: no room".to_owned())]);
        assert_eq!(Parser::default().feed(b"data: {\"failed\":true}\n\n"), [Event::Failed(String::new())]);
    }

    #[test]
    fn odd_values() {
        let percent = |text: &str| match Parser::default().feed(format!("data: {text}\n\n").as_bytes()).pop()
        {
            Some(Event::Progress(progress)) => progress.percent,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(percent("{\"progress\": -5}"), Some(0));
        assert_eq!(percent("{\"progress\": 1e300}"), Some(100));
        assert_eq!(percent("{\"progress\": \"7\", \"message\": [1]}"), None);
        assert_eq!(percent("{}"), None);
        for nothing in [
            "data: []\n\n",
            "data: {\"ready\": \"yes\"}\n\n",
            "data:\n\n",
            "{\"ready\":true}\n\n",
            "data: {\"ready\":true}",
        ] {
            assert_eq!(Parser::default().feed(nothing.as_bytes()), [], "{nothing}");
        }
    }

    #[test]
    fn overlong_events_are_skipped_and_nothing_grows() {
        let mut parser = Parser::default();
        let mut events = parser.feed(b"data: {\"message\": \"");
        for _ in 0..100 {
            events.extend(parser.feed(&[b'x'; 10_000]));
            assert!(parser.line.capacity() + parser.data.capacity() <= 4 * MAX_EVENT);
        }
        events.extend(parser.feed(b"\"}\n\ndata: {\"progress\":3,\"message\":\"next\"}\n\n"));
        assert_eq!(events, [step(3, "next")]);
        // An event of many lines has the same limit.
        let mut parser = Parser::default();
        for _ in 0..100_000 {
            assert_eq!(parser.feed(b"data: xxxxxxxx\n"), []);
        }
        assert!(parser.line.capacity() + parser.data.capacity() <= 4 * MAX_EVENT);
        assert_eq!(parser.feed(b"\n\ndata: {\"ready\":true}\n\n"), [Event::Ready]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in proptest::collection::vec(0usize..400, 0..8)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(STREAM.len())).collect();
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for pair in cuts.windows(2) {
                events.extend(parser.feed(&STREAM.as_bytes()[pair[0]..pair[1]]));
            }
            prop_assert_eq!(events, expected());
        }

        #[test]
        fn garbage_is_never_ready(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(!Parser::default().feed(&bytes).contains(&Event::Ready));
        }
    }
}
