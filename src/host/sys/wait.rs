//! Waits for descriptors, for a limited time (poll(2)).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Returns the index of a descriptor that has something to read or has ended, the last of several;
/// `None` at `until`.
///
/// # Errors
/// poll(2) fails.
pub fn readable_before(fds: &[BorrowedFd<'_>], until: Instant) -> io::Result<Option<usize>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            Ok(0) if left.is_zero() => return Ok(None),
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(polled.iter().rposition(|fd| fd.any() == Some(true))),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits until `fd` can be read or its other end is closed; false at `end`.
///
/// # Errors
/// poll(2) fails.
pub fn readable(fd: BorrowedFd<'_>, end: Instant) -> io::Result<bool> {
    Ok(readable_before(&[fd], end)?.is_some())
}
