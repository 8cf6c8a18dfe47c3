//! Asking a file server itself, not what is remembered of its answers.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the file system look anew at what `fd` is open on (`AT_STATX_FORCE_SYNC`, statx(2)). On a local file system this
/// costs nothing. On NFS it is a call to the server, which shows whether it answers, and whether it still knows
/// the file, however short ago it was asked.
///
/// # Errors
/// The system's: `ESTALE` when the file has been deleted on the server.
pub(crate) fn refresh(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path is an empty C string, `fd` is open while borrowed, and the kernel fills the struct that we own.
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
