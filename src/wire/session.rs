//! The session program asks the gateway for a terminal, a command, or files.
//!
//! The gateway listens on a `SOCK_SEQPACKET` socket in the jail and hears the uid of the connection
//! only. One packet is one message, in JSON of at most [`crate::MAX_MESSAGE`] bytes; anything else
//! ends the connection. The program hands over its standard input, output and error (SCM_RIGHTS)
//! with the request, and the gateway moves the bytes itself.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest command in bytes: what one string of an environment may have (execve(2),
/// MAX_ARG_STRLEN), in which sshd hands it to the session.
pub const MAX_COMMAND: usize = 128 * 1024;

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
        /// TERM, SSH_CLIENT, SSH_CONNECTION and what the client has sent; the gateway validates
        /// each.
        environment: BTreeMap<String, String>,
    },
    /// With three descriptors: run a command. Unless `length` is 0, the command follows as one
    /// packet of raw bytes.
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
    /// The answer to [`SessionRequest::Files`]: it is served in the user's server. Ask for
    /// [`SessionRequest::Sftp`], or [`SessionRequest::Exec`] with the client's own words, on this
    /// connection.
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
