//! The jail takes a gateway over for the connection that sshd has granted.
//!
//! The gateway listens on an abstract socket (`SOCK_SEQPACKET`) and hears root only, or its own uid
//! where sshd runs without root. The jail sends a [`ClaimRequest`], gets a [`ClaimReply`] and sends
//! a [`JailReport`], each one packet of JSON of at most [`crate::MAX_MESSAGE`] bytes. It keeps the
//! connection until sshd has ended; its end is the gateway's.

use serde::{Deserialize, Serialize};

/// The jail's first message to the gateway. Two descriptors come with it: the listener of the
/// session socket, and the datagram socket that is `/dev/log` in the jail.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// Second half of the handle: proves that the sender got it from PAM.
    pub secret: String,
    /// The login name that sshd has granted; the gateway compares it with the one that it verified.
    pub user: String,
    /// The uid of the session: the only one that the gateway will accept on the session socket.
    pub uid: u32,
}

/// The gateway's answer to a claim.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ClaimReply {
    /// The gateway serves this session until the claim connection closes. It waits for a
    /// [`JailReport`] first.
    Claimed {
        /// Of the hub's groups that `[[shares]]` names, those that the user is a member of.
        groups: Vec<String>,
    },
    /// Why not; for the log.
    Refused(String),
}

/// The jail's second and last message to the gateway, before sshd goes on.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct JailReport {
    /// What became of the home.
    pub home: HomeState,
    /// Lines for the log, such as a share that could not be mounted; printable, bounded.
    pub notes: Vec<String>,
    /// Accounts of this host that have the session's uid as well; printable, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
}

/// Whether a session can reach its home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeState {
    /// This host has no homes: `homes.root` is not set.
    Unconfigured,
    /// It is where the account says.
    Mounted,
    /// It is not there.
    Unavailable {
        /// Why, in kind: what the user is told depends on it.
        fault: HomeFault,
        /// Why, in detail: for the log; printable, bounded.
        detail: String,
    },
}

/// Why a home cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeFault {
    /// There is none, and none is to be created.
    Missing,
    /// The file system did not answer in time.
    NoAnswer,
    /// It belongs to somebody else, or a symbolic link is in the way.
    NotTheirs,
    /// It was missing and could not be created.
    NotCreated,
    /// The file system refused it, or something else failed.
    Failed,
}
