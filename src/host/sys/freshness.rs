//! Asks a file server itself, bypassing this host's cache.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes the file system refresh what it knows about the file that `fd` is open on
/// (`AT_STATX_FORCE_SYNC`, statx(2)). On a local file system this costs nothing. On NFS it is a
/// call to the server, which shows whether the server answers and still knows the file, however
/// recently it was asked.
///
/// # Errors
/// statx(2) fails: `ESTALE` if the file has been deleted on the server.
pub(crate) fn refresh(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path is an empty C string, `fd` is open while borrowed, and the kernel fills the
    // struct that we own.
    let result = unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC,
            libc::STATX_BASIC_STATS,
            found.as_mut_ptr(),
        )
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_there_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let opened = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(refresh(opened.as_fd()), Ok(()));
    }
}
