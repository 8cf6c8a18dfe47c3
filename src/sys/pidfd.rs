//! A process by descriptor: it cannot be confused with a later process of the same number.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Opens process `pid` (pidfd_open(2), Linux 5.3). The descriptor becomes readable when the process ends,
/// whoever its parent is.
///
/// # Errors
/// The system's; `ESRCH` when there is no such process.
pub fn open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: the kernel has just given us this descriptor (close-on-exec); nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    #[test]
    fn becomes_readable_when_the_process_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let fd = open(child.id() as libc::pid_t).unwrap();
        let ended = |timeout: u8| {
            poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(timeout)).unwrap()
        };
        assert_eq!(ended(0), 0);
        child.kill().unwrap();
        assert_eq!(ended(250), 1);
        child.wait().unwrap();
    }

    #[test]
    fn no_such_process() {
        assert!(open(i32::MAX).is_err());
    }
}
