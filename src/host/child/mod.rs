//! Child processes with a deadline, for work that may never end.
//!
//! A child is killed when its time is over. A child that cannot be killed, because it has another
//! uid or is blocked in a part of the kernel that ignores signals, is left behind.
//!
//! | module | concern |
//! |---|---|
//! | [`forked`] | runs our own code in a child |
//! | [`program`] | runs a program |

pub mod forked;
pub mod program;

use crate::sys::pidfd;
use crate::sys::wait::readable;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a killed child may take to end.
const GRACE: Duration = Duration::from_millis(100);

/// Reads until the other end is closed.
///
/// # Errors
/// `TimedOut` at `end`; `InvalidData` for more than `longest` bytes; any error of read(2) or
/// poll(2).
fn read_all(fd: BorrowedFd<'_>, end: Instant, longest: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    while readable(fd, end)? {
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if bytes.len() > longest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Waits until a child has ended, without reaping it; false at `end`.
///
/// # Errors
/// The child cannot be opened or waited for.
fn has_ended(pid: Pid, end: Instant) -> io::Result<bool> {
    readable(pidfd::open(pid.as_raw())?.as_fd(), end)
}

/// Kills and reaps a child. Nobody has reaped it before, so the process id is still its own.
fn stop(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = has_ended(pid, Instant::now() + GRACE);
    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
}
