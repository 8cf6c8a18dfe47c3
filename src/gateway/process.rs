//! What the gateway and its keeper have in common: their name in the log, how they fail, and how
//! they are asked to end.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::io;

/// The name of the gateway and its keeper in the log.
pub const PROGRAM: &str = "jupyterhub-openssh";

/// Why a gateway ended before it served a connection. For the log: the PAM module has its answer
/// already, or sees standard output close.
pub struct Failed {
    tried: &'static str,
    why: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.tried, self.why)
    }
}

/// Adds to an error what was tried.
pub fn trying<T>(tried: &'static str, result: io::Result<T>) -> Result<T, Failed> {
    result.map_err(|why| Failed { tried, why })
}

/// The fields that start each log line about a login.
pub fn context<'a>(session: &'a str, user: &'a str, peer: &'a str) -> [(&'static str, &'a str); 3] {
    [("session", session), ("user", user), ("peer", peer)]
}

/// A descriptor that is readable after SIGTERM, for this thread and those that it starts. A
/// shutdown or the package's removal so gives us the time to close the terminals that we opened.
pub fn termination() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
