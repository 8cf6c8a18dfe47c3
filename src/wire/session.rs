//! The session program asks the gateway for a terminal, a command, or files.
//!
//! The gateway listens on a `SOCK_SEQPACKET` socket in the jail and accepts only the connection's
//! uid. One packet is one message, in JSON of at most [`crate::MAX_MESSAGE`] bytes; anything else
//! ends the channel. The session program hands over its standard input, output and error
//! (SCM_RIGHTS) with the request, and the gateway moves the bytes itself.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest command, in bytes. sshd passes the command in an environment variable, which can't be
/// longer (MAX_ARG_STRLEN in execve(2)).
pub const MAX_COMMAND: usize = 128 * 1024;

/// A program of the distribution that serves files in the jail.
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

/// The size of a terminal. Rows come before columns everywhere.
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

/// What the session program sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SessionRequest {
    /// With three descriptors: open a login shell.
    Shell {
        /// The client's terminal; without one the shell reads its standard input.
        tty: Option<Tty>,
        /// TERM, SSH_CLIENT, SSH_CONNECTION and what the client has sent. The gateway checks each
        /// variable.
        environment: BTreeMap<String, String>,
    },
    /// With three descriptors: run a command. Unless `length` is 0, the command follows as one
    /// packet of raw bytes.
    Exec {
        /// The command's length in bytes, at most [`MAX_COMMAND`].
        length: u32,
        /// The client's terminal; without one standard output and error are separate.
        tty: Option<Tty>,
        /// The variables, as in [`SessionRequest::Shell`].
        environment: BTreeMap<String, String>,
    },
    /// With three descriptors, after [`SessionReply::Elsewhere`]: serve sftp in the user's server.
    Sftp {
        /// The variables, as in [`SessionRequest::Shell`].
        environment: BTreeMap<String, String>,
    },
    /// First message, without descriptors: asks whether to serve files from the home.
    Files {
        /// The program that the client asked for.
        tool: FileTool,
        /// The client's command, cut, for the log.
        command: String,
    },
    /// The answer to [`SessionReply::Attach`]: the terminal is raw now; relay its bytes.
    Ready {
        /// The size now; it may have changed while the server started.
        size: WindowSize,
        /// What was typed before, at most 4 KiB, in base64. It precedes what can still be read.
        typed: String,
    },
    /// The client's window has changed.
    Resize {
        /// The new size.
        size: WindowSize,
    },
    /// The session program got a signal that is meant for the remote process.
    Signal {
        /// The signal's name without SIG (RFC 4254, section 6.9).
        name: String,
    },
}

/// What the gateway sends to the session program.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SessionReply {
    /// The user's server is being started.
    Progress {
        /// The spawner's estimate, 0–100, if it makes one.
        percent: Option<u8>,
        /// The hub's message, printable and bounded.
        message: String,
    },
    /// The remote terminal is open: switch to raw mode and answer [`SessionRequest::Ready`].
    Attach,
    /// The answer to [`SessionRequest::Files`]: become that program.
    Serve {
        /// Arguments that the configuration adds. The session program knows the program's path.
        arguments: Vec<String>,
        /// The umask to set first.
        umask: u32,
    },
    /// The answer to [`SessionRequest::Files`]: the user's server serves the files. Send
    /// [`SessionRequest::Sftp`], or [`SessionRequest::Exec`] with the client's command, on the same
    /// socket.
    Elsewhere,
    /// The remote process has closed its standard error: close yours too. Sent only without a
    /// terminal.
    ErrorEnded,
    /// The channel is over, because a signal ended the remote process: end by the same signal.
    Killed {
        /// The signal's name without SIG.
        signal: String,
        /// The message for the user, as in [`SessionReply::Exit`].
        message: Option<String>,
    },
    /// The channel is over: restore the terminal, show `message` on stderr, exit with `status`.
    Exit {
        /// The exit status for sshd.
        status: u8,
        /// Two lines, what happened and what to do; `None` after a clean end.
        message: Option<String>,
    },
}
