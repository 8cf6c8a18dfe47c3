//! Disk quotas by descriptor: quotactl_fd(2) of Linux 5.14, and the project of a directory.
//!
//! By descriptor, because a device's name means nothing in a container, and because a checked home
//! is not looked up by its path again. The same generic calls serve ext4 and XFS.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What is counted and limited (linux/quota.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything that a uid owns in a file system.
    User = 0,
    /// Everything in the directories of a project.
    Project = 2,
}

/// Usage and limits; a limit of 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Bytes in use.
    pub bytes: u64,
    /// Soft limit, which may be exceeded for the grace time, in bytes.
    pub soft_bytes: u64,
    /// Hard limit, in bytes.
    pub hard_bytes: u64,
    /// Files and directories in use.
    pub files: u64,
    /// Soft limit of files and directories.
    pub soft_files: u64,
    /// Hard limit of files and directories.
    pub hard_files: u64,
}

/// Unit of the limits, in bytes (quotactl(2), `QIF_DQBLKSIZE`).
const BLOCK: u64 = 1024;
/// `Q_XGETQSTAT` (linux/dqblk_xfs.h): asks which quotas are on; every file system answers it, not
/// only XFS.
const Q_XGETQSTAT: libc::c_int = 0x5805;

/// Returns whether the file system of `fd` both counts and enforces the quotas of users, and of
/// projects.
///
/// # Errors
/// quotactl_fd(2) fails: `ENOSYS` if there are no quotas, `ESRCH` and `EINVAL` if none are on.
pub(crate) fn enforced(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    // struct fs_quota_stat is 80 bytes long; its flags are two bytes at offset 2.
    let mut state = [0_u16; 64];
    call(fd, Q_XGETQSTAT, Kind::User, 0, state.as_mut_ptr().cast())?;
    let flags = state[1];
    // Accounting and enforcement of users: bits 0 and 1; of projects: bits 4 and 5.
    Ok((flags & 0x03 == 0x03, flags & 0x30 == 0x30))
}

/// Returns the usage and the limits of an id.
///
/// # Errors
/// quotactl_fd(2) fails; `ENOENT` on XFS for an id that was never used.
pub(crate) fn get(fd: BorrowedFd<'_>, kind: Kind, id: u32) -> io::Result<Figures> {
    let mut found = empty();
    call(fd, libc::Q_GETQUOTA, kind, id, (&raw mut found).cast())?;
    Ok(Figures {
        bytes: found.dqb_curspace,
        soft_bytes: found.dqb_bsoftlimit.saturating_mul(BLOCK),
        hard_bytes: found.dqb_bhardlimit.saturating_mul(BLOCK),
        files: found.dqb_curinodes,
        soft_files: found.dqb_isoftlimit,
        hard_files: found.dqb_ihardlimit,
    })
}

/// Sets an id's limits in bytes, rounded up to whole blocks; limits of files don't change.
///
/// # Errors
/// quotactl_fd(2) fails.
pub(crate) fn set(fd: BorrowedFd<'_>, kind: Kind, id: u32, soft: u64, hard: u64) -> io::Result<()> {
    let mut wanted = empty();
    wanted.dqb_bsoftlimit = soft.div_ceil(BLOCK);
    wanted.dqb_bhardlimit = hard.div_ceil(BLOCK);
    wanted.dqb_valid = libc::QIF_BLIMITS;
    call(fd, libc::Q_SETQUOTA, kind, id, (&raw mut wanted).cast())
}

fn empty() -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: 0,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: 0,
    }
}

fn call(
    fd: BorrowedFd<'_>,
    command: libc::c_int,
    kind: Kind,
    id: u32,
    data: *mut libc::c_void,
) -> io::Result<()> {
    let command = libc::QCMD(command, kind as libc::c_int);
    // SAFETY: `data` points to what the command reads or fills, of at least its size: every caller
    // is above. The other arguments are integers.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command as libc::c_uint, id, data) };
    Errno::result(result)?;
    Ok(())
}

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Default)]
pub(crate) struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// Makes new files and directories inherit the project of their directory.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

mod request {
    #![allow(missing_docs)]
    nix::ioctl_read!(get_attributes, b'X', 31, super::Attributes);
    nix::ioctl_write_ptr!(set_attributes, b'X', 32, super::Attributes);
}

/// Returns the project of a directory or file; 0 is none. O_PATH is not enough.
///
/// # Errors
/// ioctl(2) fails; `ENOTTY` or `EOPNOTSUPP` if the file system has no projects.
pub(crate) fn project(fd: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(attributes(fd)?.project)
}

/// Puts a directory, and everything that will be created in it, into a project. O_PATH is not
/// enough.
///
/// # Errors
/// ioctl(2) fails.
pub(crate) fn set_project(dir: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(dir)?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: FS_IOC_FSSETXATTR reads the struct that we own; `dir` is open while borrowed.
    unsafe { request::set_attributes(dir.as_raw_fd(), &raw const attributes) }?;
    Ok(())
}

fn attributes(fd: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: FS_IOC_FSGETXATTR fills the struct that we own; `fd` is open while borrowed.
    unsafe { request::get_attributes(fd.as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_kernels_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<libc::dqblk>(), 72);
    }

    #[test]
    fn a_file_system_without_quotas_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(enforced(proc.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOSYS));
        assert!(get(proc.as_fd(), Kind::Project, 1).is_err());
        assert!(project(proc.as_fd()).is_err());
    }
}
