//! The keeper sends its gateway the token that the hub made, or says why there is none.
//!
//! It sends one packet on a socket pair: `token ` and the token, or a [`Denied`] in JSON.

use crate::MAX_MESSAGE;
use common::ConfigError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Stands before the token in the packet.
const TOKEN: &[u8] = b"token ";

/// Why a login is not granted. `for_user` has two lines: what happened, and what to do. `for_log`
/// has one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    /// The hub refuses the login, or the request cannot be right.
    Refused {
        /// For the user.
        for_user: String,
        /// For the log.
        for_log: String,
    },
    /// Nobody could decide: the hub does not answer, or this host is not set up.
    Unavailable {
        /// For the user.
        for_user: String,
        /// For the log.
        for_log: String,
    },
}

impl Denied {
    /// No login is possible, because of an error in the configuration.
    #[must_use]
    pub fn unconfigured(error: &ConfigError) -> Self {
        Self::Unavailable {
            for_user: "This host is not set up yet.\nTell its administrator; its log names the reason."
                .to_owned(),
            for_log: error.one_line(),
        }
    }

    /// The line for the log.
    #[must_use]
    pub fn for_log(&self) -> &str {
        match self {
            Self::Refused { for_log, .. } | Self::Unavailable { for_log, .. } => for_log,
        }
    }
}

/// Writes the packet with a token.
#[must_use]
pub fn token(token: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([TOKEN, token.as_bytes()].concat())
}

/// Writes the packet that says why there is no token.
#[must_use]
pub fn refusal(denied: &Denied) -> Vec<u8> {
    let message = serde_json::to_vec(denied).unwrap_or_default();
    // Cannot happen: every text in it is bounded. An empty packet would look like the end.
    if message.is_empty() || message.len() > MAX_MESSAGE { b"{}".to_vec() } else { message }
}

/// Reads a packet: the text after `token `, whose shape is still to be checked, or the refusal.
/// `None` if it is neither.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Result<&str, Denied>> {
    match message.strip_prefix(TOKEN) {
        Some(token) => std::str::from_utf8(token).ok().map(Ok),
        None => serde_json::from_slice(message).ok().map(Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_or_the_reason_why_not() {
        assert_eq!(parse(&token("m1nted")), Some(Ok("m1nted")));
        let denied = || Denied::Refused { for_user: "No.\nDo \"this\".".into(), for_log: "a reason".into() };
        assert_eq!(parse(&refusal(&denied())), Some(Err(denied())));
        for bad in [&b"{}"[..], b"", b"token \xff", b"tokenabc", b"\0"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        let long = Denied::Refused { for_user: String::new(), for_log: "x".repeat(2 * MAX_MESSAGE) };
        assert_eq!(parse(&refusal(&long)), None);
    }
}
