//! authorized_keys(5): the keys, their options, and the files that list them.
//!
//! Used where a user's keys are looked up (`authorized-keys`, `hub-keys`) and where `check`
//! inspects them.
//!
//! | module | concern |
//! |---|---|
//! | [`mod@line`] | one line of an authorized_keys file (pure) |
//! | [`options`] | which options in front of a key are passed on to sshd (pure) |
//! | [`blob`] | key types and the base64 form of a key (pure) |
//! | [`refused`] | why a line is refused (pure) |
//! | [`mod@file`] | reading a file of keys that only its owner and root can change |
//! | [`home`], [`directory`] | the sources `home` and `file` |

pub mod blob;
pub mod directory;
#[cfg(any(test, feature = "testing"))]
pub mod examples;
pub mod file;
pub mod home;
pub mod line;
pub(crate) mod options;
mod refused;
