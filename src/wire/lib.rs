//! The messages between our processes, each with its writer beside its reader.
//!
//! | module | sender, receiver: content | form |
//! |---|---|---|
//! | [`login`] | PAM module, new gateway: check this login | lines |
//! | [`confinement`] | PAM module, `jail`: does sshd confine this login? | lines |
//! | [`jail`] | PAM module, `jail`: build a jail | lines |
//! | [`claim`] | `jail`, gateway: serve this connection | JSON |
//! | [`session`] | session program, gateway: a terminal, a command, files | JSON |
//! | [`admin`] | `jupyterhub-openssh`, gateway: report your status; end | JSON |
//! | [`keeper`] | keeper, its gateway: the token, or why there is none | bytes, JSON |
//! | [`handle`] | the gateway's address and secret, which PAM carries between its calls | text |
//! | [`token`] | the shape of a token | text |
//! | [`lines`] | reads messages that consist of lines | |
//!
//! Everything here is pure: no file, no socket, no clock. The modules with JSON need the feature
//! `json`, which the PAM module leaves off. `docs/wire.md` describes each message, who may send it,
//! and what happens to a malformed one.

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

/// Longest line with which our programs answer the PAM module, in bytes.
pub const MAX_ANSWER: usize = 2048;

/// Longest JSON message in either direction, in bytes. A command follows its message and may be
/// longer ([`session::MAX_COMMAND`]).
#[cfg(feature = "json")]
pub const MAX_MESSAGE: usize = 16 * 1024;

/// How users prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// With a token of the hub.
    Token,
    /// With a key or certificate, which sshd has checked.
    Key,
}

impl By {
    /// The word for the log and for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
        }
    }
}
