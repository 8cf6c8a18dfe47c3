//! The homes on this host: finding them without trusting their users, creating missing ones,
//! limiting their size.
//!
//! A home may be on a file server that has stopped answering, so every function here that takes a
//! path or a descriptor of a home may block forever. Call them where a deadline applies: the jail
//! does so in a child that it kills, the administrator's programs in a thread that they stop
//! waiting for.
//!
//! | module | concern |
//! |---|---|
//! | [`mod@open`] | finding a home |
//! | [`mod@create`] | creating a missing home |
//! | [`claim`] | which of two users a home belongs to |
//! | [`mounted`] | whether the file system of the homes is mounted |
//! | [`quota`] | limits of what a home may hold |

pub mod claim;
pub mod create;
pub mod mounted;
pub mod open;
pub mod quota;

use common::text::head;
use common::text::one_line;
use serde::{Deserialize, Serialize};
use std::fmt;
use wire::claim::HomeFault;

pub use create::create;
pub use open::{open, open_root};

/// Longest detail of a fault, in bytes.
const MAX_DETAIL: usize = 500;

/// Why there is no home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The kind of fault, which decides what the user is told.
    pub kind: HomeFault,
    /// The detail with the path: one line for the log, printable and limited in length.
    pub detail: String,
}

impl Fault {
    /// Makes a fault; cleans and truncates the detail.
    #[must_use]
    pub fn new(kind: HomeFault, detail: &str) -> Self {
        Self { kind, detail: bounded(detail, MAX_DETAIL) }
    }

    /// Interprets a system error on `what`. Distinguishes a file server that didn't answer within
    /// the time of its mount options from one that answered.
    #[must_use]
    pub fn of_error(what: &str, error: nix::Error) -> Self {
        use nix::errno::Errno;
        let kind = match error {
            Errno::ETIMEDOUT
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::ECONNREFUSED
            | Errno::ENOTCONN => HomeFault::NoAnswer,
            _ => HomeFault::Failed,
        };
        Self::new(kind, &format!("{what}: {}", error.desc()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}

/// Returns one printable line of at most `bytes` bytes.
#[must_use]
pub fn bounded(text: &str, bytes: usize) -> String {
    let mut line = one_line(text);
    if line.len() > bytes {
        line.truncate(head(&line, bytes.saturating_sub('…'.len_utf8())).len());
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_printable_and_bounded() {
        let fault = Fault::new(HomeFault::Failed, &format!("a\n\x1b{}", "ü".repeat(1000)));
        assert!(fault.detail.starts_with("a; \\u{1b}ü") && fault.detail.ends_with('…'), "{fault}");
        assert!(fault.detail.len() <= MAX_DETAIL);
        assert_eq!(bounded("abc", 3), "abc");
        assert_eq!(bounded("ab€d", 6), "ab€d");
        assert_eq!(bounded("abcd€", 6), "abc…");
    }

    #[test]
    fn a_server_that_does_not_answer_is_told_from_one_that_refuses() {
        use nix::errno::Errno;
        assert_eq!(Fault::of_error("x", Errno::ETIMEDOUT).kind, HomeFault::NoAnswer);
        assert_eq!(Fault::of_error("x", Errno::ESTALE).kind, HomeFault::Failed);
    }
}
