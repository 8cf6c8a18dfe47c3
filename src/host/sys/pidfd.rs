//! Refers to a process by descriptor, which cannot be confused with a later process of the same id.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Opens process `pid` (pidfd_open(2), Linux 5.3). The descriptor becomes readable when the process
/// ends, even if it is not our child.
///
/// # Errors
/// pidfd_open(2) fails; `ESRCH` if there is no such process.
pub fn open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: the kernel has just given us this descriptor (close-on-exec); nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends SIGTERM to the process (pidfd_send_signal(2), Linux 5.1).
///
/// # Errors
/// pidfd_send_signal(2) fails; `ESRCH` if the process has ended.
pub fn terminate(process: BorrowedFd<'_>) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: an open descriptor, two integers, and no siginfo.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGTERM, info, 0) };
    Errno::result(done)?;
    Ok(())
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
        terminate(fd.as_fd()).unwrap();
        assert_eq!(ended(250), 1);
        child.wait().unwrap();
        assert!(terminate(fd.as_fd()).is_err());
    }

    #[test]
    fn no_such_process() {
        assert!(open(i32::MAX).is_err());
    }
}
