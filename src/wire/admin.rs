//! Root asks a gateway how its connection is, or ends it.
//!
//! The gateway listens on an abstract socket (`SOCK_SEQPACKET`) and hears root only. One packet is
//! one message, in JSON of at most [`crate::MAX_MESSAGE`] bytes; one question gets one answer.

use serde::{Deserialize, Serialize};

/// What root asks a gateway, on a socket of its own: one question, one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRequest {
    /// How is the session?
    Status,
    /// End it.
    Disconnect,
}

/// The gateway's answer to an [`AdminRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminReply {
    /// How it is.
    Status(SessionStatus),
    /// It is being ended.
    Ending,
}

/// A live session: one SSH connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its name, as in the log.
    pub session: String,
    /// The hub's user.
    pub user: String,
    /// The user's named server; empty for the default one.
    pub server: String,
    /// The client's address.
    pub peer: String,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Seconds since the user was last active; none while this host serves files to it.
    pub idle: Option<u64>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// What it has open.
    pub channels: Vec<ChannelStatus>,
}

/// A channel of a live session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Its number.
    pub channel: u64,
    /// `shell`, `command`, `sftp`, …
    pub kind: String,
    /// Since when, in seconds.
    pub seconds: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}
