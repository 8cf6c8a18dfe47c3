//! `status` and `disconnect` ask a gateway about its connection, or end it.
//!
//! The gateway listens on an abstract socket (`SOCK_SEQPACKET`) and answers root only. One packet
//! is one message, in JSON of at most [`crate::MAX_MESSAGE`] bytes; each request gets one reply.

use serde::{Deserialize, Serialize};

/// What root can ask a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRequest {
    /// Report the connection's state.
    Status,
    /// End the connection.
    Disconnect,
}

/// The gateway's reply to an [`AdminRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminReply {
    /// The connection's state.
    Status(ConnectionStatus),
    /// The connection is being ended.
    Ending,
}

/// The state of a live SSH connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The connection's name, as in the log.
    pub session: String,
    /// The hub's user.
    pub user: String,
    /// The user's named server; empty for the default one.
    pub server: String,
    /// The client's address.
    pub peer: String,
    /// When the connection began, in seconds since 1970.
    pub since: u64,
    /// Seconds since the user was last active; `None` while this host serves files to the client.
    pub idle: Option<u64>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// The open channels.
    pub channels: Vec<ChannelStatus>,
}

/// The state of one channel of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// The channel's number, counted from the first one of the connection.
    pub channel: u64,
    /// `shell`, `command`, `sftp`, …
    pub kind: String,
    /// How long the channel has been open, in seconds.
    pub seconds: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}
