//! The PAM module asks a new gateway to check a login.
//!
//! The request is the gateway's whole standard input, the answer one line on its standard output:
//!
//! ```text
//! user alice              granted HANDLE
//! peer 192.0.2.7          refused MESSAGE
//! token TOKEN             unavailable MESSAGE
//! ```
//!
//! A login by key has no third line. In a message U+001F stands for a line feed.

use crate::By;
use crate::handle::Handle;
use crate::lines::{self, Malformed};
use common::text::one_line;
use zeroize::Zeroizing;

/// Longest request, in bytes: a name, an address and a token, each bounded, with room to spare.
pub const MAX_REQUEST: usize = 4096;

/// Stands between the lines of a message.
const LINE: char = '\u{1f}';

/// A login to check.
pub struct Request<'a> {
    /// The login name, as sshd knows it.
    pub user: &'a str,
    /// The client's address, for the log.
    pub peer: &'a str,
    /// What the user typed at the prompt; `None` if sshd has checked a key.
    pub token: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// The lines are not exactly those of a login by token or key, as `by` says.
    pub fn parse(text: &'a [u8], by: By) -> Result<Self, Malformed> {
        if text.len() > MAX_REQUEST {
            return Err(Malformed("too long"));
        }
        match by {
            By::Token => lines::values(text, ["user", "peer", "token"]).map(|[user, peer, token]| Self {
                user,
                peer,
                token: Some(token),
            }),
            By::Key => {
                lines::values(text, ["user", "peer"]).map(|[user, peer]| Self { user, peer, token: None })
            }
        }
    }

    /// How the user has proved who they are.
    #[must_use]
    pub fn by(&self) -> By {
        if self.token.is_some() { By::Token } else { By::Key }
    }

    /// Writes the request. Its memory is wiped when dropped, and has its final size from the start:
    /// growing would leave copies of the token behind.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let token = self.token.map_or(["", ""], |token| ["\ntoken ", token]);
        let parts = ["user ", self.user, "\npeer ", self.peer, token[0], token[1], "\n"];
        let mut text = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            text.extend_from_slice(part.as_bytes());
        }
        text
    }
}

/// The gateway's answer. A message has two lines: what happened, and what to do.
pub enum Verdict {
    /// The hub confirms the login, and the gateway waits for a claim with this handle.
    Granted(Handle),
    /// The hub refuses the login: the message for the user.
    Refused(String),
    /// The hub could not be asked: the message for the user.
    Unavailable(String),
}

impl Verdict {
    /// Reads the answer. `None` if it is malformed.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (word, rest) = lines::answer(line)?;
        // Escapes all control characters but the line feeds.
        let message = || rest.split(LINE).map(one_line).collect::<Vec<_>>().join("\n");
        match word {
            "granted" => Handle::parse(rest).map(Self::Granted),
            "refused" => Some(Self::Refused(message())),
            "unavailable" => Some(Self::Unavailable(message())),
            _ => None,
        }
    }

    /// Writes the answer, without a line feed.
    #[must_use]
    pub fn line(&self) -> Zeroizing<String> {
        let (word, rest) = match self {
            Self::Granted(handle) => ("granted", handle.as_str().to_owned()),
            Self::Refused(message) => ("refused", message.replace('\n', "\x1f")),
            Self::Unavailable(message) => ("unavailable", message.replace('\n', "\x1f")),
        };
        Zeroizing::new(format!("{word} {}", *Zeroizing::new(rest)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(line: &[u8]) -> Option<(&'static str, String)> {
        Some(match Verdict::parse(line)? {
            Verdict::Granted(handle) => ("granted", handle.as_str().to_owned()),
            Verdict::Refused(message) => ("refused", message),
            Verdict::Unavailable(message) => ("unavailable", message),
        })
    }

    #[test]
    fn requests_arrive_as_they_are_sent() {
        let sent = Request { user: "alice+gpu", peer: "192.0.2.7", token: Some("abc") }.to_bytes();
        assert_eq!(*sent, b"user alice+gpu\npeer 192.0.2.7\ntoken abc\n");
        let request = Request::parse(&sent, By::Token).unwrap();
        assert_eq!((request.user, request.peer, request.token), ("alice+gpu", "192.0.2.7", Some("abc")));
        assert!(Request::parse(&sent, By::Key).is_err());

        let sent = Request { user: "alice", peer: "::1", token: None }.to_bytes();
        assert_eq!(*sent, b"user alice\npeer ::1\n");
        let request = Request::parse(&sent, By::Key).unwrap();
        assert_eq!((request.user, request.peer, request.token), ("alice", "::1", None));
        assert!(Request::parse(&sent, By::Token).is_err());
    }

    #[test]
    fn a_long_request_is_none() {
        let text = format!("user alice\npeer x\ntoken {}\n", "a".repeat(MAX_REQUEST));
        assert!(Request::parse(text.as_bytes(), By::Token).is_err());
    }

    #[test]
    fn the_gateways_answers() {
        let handle = "0a".repeat(32);
        assert_eq!(heard(format!("granted {handle}\n").as_bytes()), Some(("granted", handle)));
        assert_eq!(
            heard("refused Wrong token.\u{1f}Make a new one. ü\x1b[31m".as_bytes()),
            Some(("refused", "Wrong token.\nMake a new one. ü\\u{1b}[31m".into()))
        );
        assert_eq!(heard(b"unavailable The hub is down."), Some(("unavailable", "The hub is down.".into())));
        let line = Verdict::Unavailable("It is down.\nWait.".into()).line();
        assert_eq!(*line, "unavailable It is down.\u{1f}Wait.");
        assert_eq!(heard(line.as_bytes()), Some(("unavailable", "It is down.\nWait.".into())));
        let handle = Handle::new(&[1; 32], None);
        let text = handle.as_str().to_owned();
        assert_eq!(heard(Verdict::Granted(handle).line().as_bytes()), Some(("granted", text)));
    }

    #[test]
    fn everything_else_is_a_failure() {
        let long = format!("granted {}", "0a".repeat(33));
        let upper = format!("granted {}", "0A".repeat(32));
        let more = format!("granted {} x", "0a".repeat(32));
        for bad in [
            &b""[..],
            b"granted",
            b"granted ",
            b"GRANTED x",
            b"\xff",
            b"ok",
            long.as_bytes(),
            upper.as_bytes(),
            more.as_bytes(),
        ] {
            assert_eq!(heard(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Request::parse(&text, By::Token);
            let _ = Request::parse(&text, By::Key);
            let _ = Verdict::parse(&text);
        }
    }
}
