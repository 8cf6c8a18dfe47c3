//! What our processes say to each other: every message, with its writer beside its reader.
//!
//! | module | who says it to whom | form |
//! |---|---|---|
//! | [`login`] | the PAM module to a new gateway: check this login | lines |
//! | [`confinement`] | the PAM module to the jail's program: does sshd confine this login? | lines |
//! | [`jail`] | the PAM module to the jail's program: build a jail | lines |
//! | [`claim`] | the jail to the gateway: serve this connection | JSON |
//! | [`session`] | the session program to the gateway: a terminal, a command, files | JSON |
//! | [`admin`] | the administrator's program to a gateway: your status; end | JSON |
//! | [`keeper`] | the keeper to its gateway: the token, or why there is none | bytes, JSON |
//! | [`handle`] | the gateway's address and secret, which PAM carries from one call to the next | text |
//!
//! Everything here is pure: no file, no socket, no clock. The modules with JSON need the feature
//! `json`, which the PAM module does without. `docs/wire.md` describes each message, who may send
//! it, and what happens to one that is wrong.

#[cfg(feature = "json")]
pub mod admin;
#[cfg(feature = "json")]
pub mod claim;
pub mod confinement;
pub mod handle;
pub mod jail;
#[cfg(feature = "json")]
pub mod keeper;
mod lines;
pub mod login;
#[cfg(feature = "json")]
pub mod session;
pub mod token;

/// Longest JSON message in either direction, in bytes; a command may be longer.
#[cfg(feature = "json")]
pub const MAX_MESSAGE: usize = 16 * 1024;

/// How users prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By a token of the hub.
    Token,
    /// By a key or certificate, which sshd has checked.
    Key,
}

impl By {
    /// The word for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
        }
    }
}
