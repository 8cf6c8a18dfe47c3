//! The process that runs the jail's program: the PAM module, in a process of sshd.

use super::failure::{Failure, why};
use host::sys::pidfd;
use host::sys::wait::readable;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::jail::MAX_REQUEST;

/// How long the caller may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long the caller may take to join.
pub const JOIN_TIME: Duration = Duration::from_secs(10);

/// Opens the sshd process that has run this program.
///
/// A pid alone might have been reused. If the process is our parent after the descriptor was
/// opened, it is the right one.
pub fn sshd(pid: libc::pid_t) -> Result<OwnedFd, Failure> {
    let sshd = pidfd::open(pid).map_err(why("cannot open sshd's process"))?;
    if nix::unistd::getppid().as_raw() == pid {
        Ok(sshd)
    } else {
        Err("run by a process that is not the sshd it names".into())
    }
}

/// Reads the request from standard input, up to the empty line at its end.
pub fn read_request() -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    let end = Instant::now() + REQUEST_TIME;
    let mut text = Vec::new();
    // The caller says nothing more until it is answered, so a read never takes what belongs to
    // later.
    while !text.ends_with(b"\n\n") {
        let mut buffer = [0; MAX_REQUEST];
        if !readable(stdin.as_fd(), end).map_err(why("no request"))? || text.len() > MAX_REQUEST {
            return Err("no request".into());
        }
        match nix::unistd::read(stdin.as_fd(), &mut buffer) {
            Ok(0) => return Err("the request ended too early".into()),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(format!("no request: {e}")),
        }
    }
    Ok(text)
}

/// Reads one line of at most 1 KiB, without its end; what was there when the writer closed counts
/// as one.
pub fn read_line(fd: BorrowedFd<'_>, within: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + within;
    let mut file = File::from(fd.try_clone_to_owned()?);
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while line.len() < 1024 {
        if !readable(fd, end)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match file.read(&mut buffer)? {
            0 => break,
            n => line.extend_from_slice(&buffer[..n]),
        }
        if let Some(at) = line.iter().position(|b| *b == b'\n') {
            line.truncate(at);
            break;
        }
    }
    Ok(line)
}
