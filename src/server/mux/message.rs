//! The JSON that packets carry (docs/mux.md), with bounds. No I/O.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wire::session::{Tty, WindowSize};

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;
/// How much of a text in the agent's JSON is used, in characters.
const MAX_TEXT: usize = 1024;

/// The agent's greeting. The user controls all of it: use it for the log and for messages only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hello {
    /// The protocol's version.
    pub version: u32,
    /// Python's version.
    pub python: String,
    /// The image's own SFTP server, if there is one.
    #[serde(default)]
    pub sftp_server: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Status(u8),
    /// By a signal: its name without SIG, upper-case letters and digits.
    Signal(String),
}

#[derive(Deserialize)]
struct RawExit {
    status: Option<u8>,
    signal: Option<String>,
}

#[derive(Deserialize)]
struct RawOpened {
    window: usize,
}

#[derive(Deserialize)]
struct RawRefused {
    error: String,
}

/// Parses HELLO's payload.
#[must_use]
pub(crate) fn hello(payload: &[u8]) -> Option<Hello> {
    let hello: Hello = serde_json::from_slice(payload).ok()?;
    (hello.python.len() <= MAX_TEXT).then_some(hello)
}

/// Parses EXIT's payload.
#[must_use]
pub(crate) fn exit(payload: &[u8]) -> Option<Exit> {
    let raw: RawExit = serde_json::from_slice(payload).ok()?;
    match (raw.status, raw.signal) {
        (Some(status), None) => Some(Exit::Status(status)),
        (None, Some(name)) => {
            let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+';
            (!name.is_empty() && name.len() <= 16 && name.bytes().all(plain)).then_some(Exit::Signal(name))
        }
        _ => None,
    }
}

/// Parses OPENED's payload: the credit of part 0, in bytes.
#[must_use]
pub(crate) fn opened(payload: &[u8]) -> Option<usize> {
    serde_json::from_slice(payload).ok().map(|raw: RawOpened| raw.window)
}

/// Parses REFUSED's payload: the reason.
#[must_use]
pub(crate) fn refused(payload: &[u8]) -> Option<String> {
    let raw: RawRefused = serde_json::from_slice(payload).ok()?;
    Some(raw.error.chars().take(MAX_TEXT).collect())
}

/// Describes a stream to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Description<'a> {
    /// A process.
    Process {
        /// The command for `$SHELL -c`, in base64; `None` for a login shell.
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<String>,
        /// The terminal; `None` for pipes.
        #[serde(skip_serializing_if = "Option::is_none")]
        tty: Option<TtyDescription<'a>>,
        /// Variables that are added to the agent's own environment.
        environment: &'a BTreeMap<String, String>,
    },
    /// An SFTP server.
    Files {
        /// The server's Python source; `None` for the image's own program.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<&'a str>,
        /// The umask for new files and directories.
        umask: u32,
    },
}

/// The terminal of a [`Description::Process`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TtyDescription<'a> {
    rows: u16,
    cols: u16,
    modes: &'a [(u8, u32)],
    /// What was typed and echoed before the process begins, in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    typed: String,
}

impl<'a> TtyDescription<'a> {
    /// Describes the client's terminal, and what was `typed` and echoed there before the process
    /// begins.
    ///
    /// A window without a size (from a client that has no terminal) becomes the usual 24 × 80,
    /// because programs divide by it.
    #[must_use]
    pub fn new(tty: &'a Tty, typed: &[u8]) -> Self {
        let WindowSize { rows, cols } = tty.size;
        let (rows, cols) = (if rows == 0 { 24 } else { rows }, if cols == 0 { 80 } else { cols });
        Self { rows, cols, modes: &tty.modes, typed: STANDARD.encode(typed) }
    }
}

impl<'a> Description<'a> {
    /// Describes a process that runs `command`, or the login shell.
    #[must_use]
    pub fn process(
        command: Option<&[u8]>,
        tty: Option<TtyDescription<'a>>,
        environment: &'a BTreeMap<String, String>,
    ) -> Self {
        let command = command.map(|bytes| STANDARD.encode(bytes));
        Self::Process { command, tty, environment }
    }

    /// Returns the JSON, with the credit that the agent gets for parts 1 and 2, in bytes.
    #[must_use]
    pub(crate) fn to_json(&self, window: usize) -> Vec<u8> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            description: &'a Description<'a>,
            window: usize,
        }
        // Maps with text keys, numbers and texts: JSON has all of them.
        serde_json::to_vec(&Whole { description: self, window }).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says() {
        let text =
            br#"{"version":1,"python":"3.11.7","pid":5,"home":"/h","shell":"/bin/sh","sftp_server":null}"#;
        assert_eq!(hello(text).unwrap(), Hello { version: 1, python: "3.11.7".into(), sftp_server: None });
        assert_eq!(exit(br#"{"status":255}"#), Some(Exit::Status(255)));
        assert_eq!(exit(br#"{"signal":"KILL"}"#), Some(Exit::Signal("KILL".into())));
        assert_eq!(opened(br#"{"window":5}"#), Some(5));
        assert_eq!(refused(br#"{"error":"no"}"#).as_deref(), Some("no"));
    }

    #[test]
    fn what_no_agent_says() {
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"status":256}"#,
            br#"{"status":-1}"#,
            br#"{"signal":"kill"}"#,
            br#"{"signal":""}"#,
            br#"{"signal":"AAAAAAAAAAAAAAAAA"}"#,
            br#"{"status":1,"signal":"KILL"}"#,
            b"\xff",
        ] {
            assert_eq!(exit(bad), None, "{bad:?}");
        }
        assert!(hello(br#"{"version":1}"#).is_none());
        assert!(opened(br#"{"window":-1}"#).is_none());
        assert_eq!(
            refused(format!(r#"{{"error":"{}"}}"#, "x".repeat(5000)).as_bytes()).unwrap().len(),
            MAX_TEXT
        );
    }

    #[test]
    fn descriptions() {
        let environment = BTreeMap::from([("TERM".to_owned(), "vt100".to_owned())]);
        let json = |description: Description<'_>| String::from_utf8(description.to_json(9)).unwrap();
        assert_eq!(
            json(Description::process(Some(b"\xff"), None, &environment)),
            r#"{"type":"process","command":"/w==","environment":{"TERM":"vt100"},"window":9}"#
        );
        let tty = Tty { size: WindowSize { rows: 0, cols: 100 }, modes: vec![(1, 3)] };
        let shell = |typed: &[u8]| {
            json(Description::process(None, Some(TtyDescription::new(&tty, typed)), &BTreeMap::new()))
        };
        assert_eq!(
            shell(b""),
            r#"{"type":"process","tty":{"rows":24,"cols":100,"modes":[[1,3]]},"environment":{},"window":9}"#
        );
        assert!(shell(b"\x04").contains(r#""modes":[[1,3]],"typed":"BA=="}"#));
        assert_eq!(
            json(Description::Files { source: Some("x"), umask: 0o22 }),
            r#"{"type":"files","source":"x","umask":18,"window":9}"#
        );
    }
}
