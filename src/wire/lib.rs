//! What our processes say to each other.
//!
//! | module | concern |
//! |---|---|
//! | [`handle`] | a gateway's address and secret, which PAM carries |
//! | [`control`] | JSON messages to a gateway and from it |
//!
//! Everything here is pure.

pub mod control;
pub mod handle;

/// What users log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A token of the hub.
    Token,
    /// A key or certificate, which sshd has checked.
    Key,
}

impl By {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
        }
    }
}
