//! Why a line of authorized_keys is not a key that a login here may use.

use super::blob::{self, BlobError};
use std::fmt;

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The line contains a NUL byte or another control character.
    Control,
    /// Its options are malformed.
    Options,
    /// It has an unknown option: the name, printable and cut short.
    UnknownOption(String),
    /// The option of this name limits the key to something other than a login here.
    Limited(&'static str),
    /// Nothing follows the options, or the key type.
    NoKey,
    /// We don't accept keys of this type: its name, printable and cut short.
    Kind(String),
    /// What follows the type is not a key of this type.
    Blob(BlobError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => write!(f, "it contains control characters"),
            Self::Options => write!(f, "its options are not written as sshd(8) says"),
            Self::UnknownOption(name) => write!(f, "the option '{name}' is unknown"),
            Self::Limited(name) => {
                write!(
                    f,
                    "{name} is not possible here, and without it the key could do more than its owner meant"
                )
            }
            Self::NoKey => write!(f, "there is no key on it"),
            Self::Kind(name) => write!(f, "keys of type '{name}' are not taken"),
            Self::Blob(BlobError::Base64) => write!(f, "its key is not base64"),
            Self::Blob(BlobError::TooLong) => write!(f, "its key is longer than {} bytes", blob::MAX_BLOB),
            Self::Blob(BlobError::OtherKind) => write!(f, "its key is not of the type that it names"),
        }
    }
}

impl std::error::Error for Refused {}
