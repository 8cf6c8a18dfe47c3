//! What the parts of one SSH connection say to its gateway, and what it answers.
//!
//! Three unix sockets lead to a gateway, all `SOCK_SEQPACKET`, so that one packet is one message:
//! - the **claim**: the jail, as root, takes the gateway over for the session that sshd has granted;
//! - the **session**: the ForceCommand program, as the user, asks for a terminal and hands over its
//!   standard input, output and error (SCM_RIGHTS). From there the gateway moves the bytes itself;
//! - the **admin** socket: root asks how the session is, or ends it.
//!
//! Messages are JSON, at most [`MAX_MESSAGE`] bytes; anything else ends the connection.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest message in either direction, in bytes; a command may be longer.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Longest command in bytes: what one string of an environment may have (execve(2), MAX_ARG_STRLEN), in which
/// sshd hands it to the session.
pub const MAX_COMMAND: usize = 128 * 1024;

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

/// The jail's first message to the gateway. Two descriptors come with it: the listener of the session socket,
/// and the datagram socket that is `/dev/log` in the jail.
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
    /// The gateway serves this session until the claim connection closes. It waits for a [`JailReport`] first.
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

/// What serves files in the jail: programs of the distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileTool {
    /// `sftp-server(8)`, for the sftp subsystem.
    Sftp,
    /// `rsync --server`.
    Rsync,
    /// `scp -t` or `scp -f`, for `scp -O`.
    Scp,
}

/// Rows and columns of a terminal, in this order everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Height in character cells.
    pub rows: u16,
    /// Width in character cells.
    pub cols: u16,
}

/// The client's terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Size of the client's window.
    pub size: WindowSize,
    /// The terminal's modes before it was made raw, as opcodes and values of RFC 4254, section 8.
    pub modes: Vec<(u8, u32)>,
}

/// What a session says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SessionRequest {
    /// With three descriptors: open a login shell.
    Shell {
        /// None: the shell reads its standard input.
        tty: Option<Tty>,
        /// TERM, SSH_CLIENT, SSH_CONNECTION and what the client has sent; the gateway validates each.
        environment: BTreeMap<String, String>,
    },
    /// With three descriptors: run a command. Unless `length` is 0, the command follows as one packet of raw bytes.
    Exec {
        /// Its length in bytes, at most [`MAX_COMMAND`].
        length: u32,
        /// None: standard output and error are apart.
        tty: Option<Tty>,
        /// As in [`SessionRequest::Shell`].
        environment: BTreeMap<String, String>,
    },
    /// With three descriptors, after [`SessionReply::Elsewhere`]: serve sftp in the user's server.
    Sftp {
        /// As in [`SessionRequest::Shell`].
        environment: BTreeMap<String, String>,
    },
    /// First message, without descriptors: may I run this in the home?
    Files {
        /// What the client asked for.
        tool: FileTool,
        /// In its own words, cut; for the log.
        command: String,
    },
    /// The answer to [`SessionReply::Attach`]: the terminal is raw now, relay.
    Ready {
        /// Size at this moment: it may have changed while the server started.
        size: WindowSize,
        /// What was typed before, at most 4 KiB, in base64: it comes before what can be read.
        typed: String,
    },
    /// The client's window has changed.
    Resize {
        /// The new size.
        size: WindowSize,
    },
    /// The session got a signal that is meant for the process.
    Signal {
        /// Its name without SIG (RFC 4254, section 6.9).
        name: String,
    },
}

/// What the gateway says to a session.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SessionReply {
    /// The user's server is being started.
    Progress {
        /// 0–100, as the spawner estimates it, if it does.
        percent: Option<u8>,
        /// The hub's words, printable and bounded.
        message: String,
    },
    /// The remote terminal is there: switch to raw mode and answer [`SessionRequest::Ready`].
    Attach,
    /// The answer to [`SessionRequest::Files`]: become that program.
    Serve {
        /// Arguments that the configuration adds; the program's path is the session's own constant.
        arguments: Vec<String>,
        /// The umask to set before.
        umask: u32,
    },
    /// The answer to [`SessionRequest::Files`]: it is served in the user's server. Ask for [`SessionRequest::Sftp`], or
    /// [`SessionRequest::Exec`] with the client's own words, on this connection.
    Elsewhere,
    /// The process has closed its standard error: so shall the session, without a terminal.
    ErrorEnded,
    /// The session is over, its process was ended by a signal: end by the same.
    Killed {
        /// Its name without SIG.
        signal: String,
        /// As in [`SessionReply::Exit`].
        message: Option<String>,
    },
    /// The session is over: restore the terminal, show `message` on stderr, exit with `status`.
    Exit {
        /// Exit status for sshd.
        status: u8,
        /// First line what happened, second what to do; nothing after a clean end.
        message: Option<String>,
    },
}
