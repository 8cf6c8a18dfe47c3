//! The jail claims a gateway for the connection that sshd has accepted.
//!
//! The gateway listens on an abstract socket (`SOCK_SEQPACKET`) and answers root only, or its own
//! uid where sshd runs without root. The jail sends a [`ClaimRequest`], gets a [`ClaimReply`] and
//! sends a [`JailReport`], each one packet of JSON of at most [`crate::MAX_MESSAGE`] bytes. It
//! keeps the socket open until sshd has ended; when the socket closes, the gateway ends.

use serde::{Deserialize, Serialize};

/// The jail's first message to the gateway. Two descriptors come with it: the listener of the
/// session socket, and the datagram socket that is `/dev/log` in the jail.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The second half of the handle: proves that the sender got the handle from PAM.
    pub secret: String,
    /// The login name that sshd has accepted; the gateway compares it with the one it verified.
    pub user: String,
    /// The connection's uid: the only one that the gateway accepts on the session socket.
    pub uid: u32,
}

/// The gateway's answer to a claim.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ClaimReply {
    /// The gateway serves this connection until the claim socket closes. It waits for a
    /// [`JailReport`] first.
    Claimed {
        /// The user's groups at the hub, as far as `[[shares]]` names them.
        groups: Vec<String>,
    },
    /// The claim is refused: why, for the log.
    Refused(String),
}

/// The jail's second and last message to the gateway, before sshd goes on.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct JailReport {
    /// Whether the home is there.
    pub home: HomeState,
    /// Lines for the log, such as a share that could not be mounted; printable, bounded.
    pub notes: Vec<String>,
    /// Local accounts that have the connection's uid too; printable, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
}

/// Whether the user can reach the home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeState {
    /// This host has no homes: `homes.root` is not set.
    Unconfigured,
    /// The home is mounted where the account says.
    Mounted,
    /// The home cannot be reached.
    Unavailable {
        /// The kind of failure, which decides what the user is told.
        fault: HomeFault,
        /// The details, for the log; printable, bounded.
        detail: String,
    },
}

/// Why a home cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeFault {
    /// There is no home, and this host doesn't create any.
    Missing,
    /// The file system did not answer in time.
    NoAnswer,
    /// The home belongs to another uid, or a symbolic link is in the way.
    NotTheirs,
    /// There was no home, and it could not be created.
    NotCreated,
    /// The file system refused access, or something else failed.
    Failed,
}
