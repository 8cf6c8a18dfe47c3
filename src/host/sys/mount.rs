//! Mounts by descriptor, with the system calls of Linux 5.2–5.12 that nix lacks.
//!
//! A tree is cloned, gets its flags while it is attached nowhere, and appears in its place with all
//! of them: it is never visible and, say, still writable. Unlike `MS_REMOUNT | MS_BIND`,
//! mount_setattr(2) keeps the flags that it isn't told about and can reach every submount.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Flags of a mount, by their names in mount(8): `ro`, `nosuid`, `nodev`, `noexec`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// Read-only: even root cannot write, or change modes or owners.
    pub const RO: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed, or mapped executable.
    pub const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
}

impl std::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A copy of a mount (or of a directory or file in one) that is not attached yet; dropping it
/// before that removes it.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// Clones what is at `path`, without mounts below it. A final symbolic link is not followed.
    ///
    /// # Errors
    /// open_tree(2) fails; `ENOSYS` before Linux 5.2.
    pub fn clone_path(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let flags =
            libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW as libc::c_uint;
        // SAFETY: the path is NUL-terminated and outlives the call; the rest are integers.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        Self::from_result(fd)
    }

    /// Clones the file or directory that `fd` is open on, with everything mounted below it: what
    /// gets mounted is what was checked, whatever has happened to its path since.
    ///
    /// # Errors
    /// open_tree(2) fails.
    pub fn clone_descriptor(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = libc::OPEN_TREE_CLONE
            | libc::OPEN_TREE_CLOEXEC
            | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
        // SAFETY: `fd` is open while borrowed, the path is the empty C string.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) };
        Self::from_result(fd)
    }

    fn from_result(fd: libc::c_long) -> io::Result<Self> {
        let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| io::Error::from(Errno::EBADF))?;
        // SAFETY: open_tree has just given us this descriptor; nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds `flags` to this tree and every mount in it; flags already set stay.
    ///
    /// # Errors
    /// mount_setattr(2) fails; `ENOSYS` before Linux 5.12.
    pub fn restrict(self, flags: Flags) -> io::Result<Self> {
        self.restrict_with(flags, 0)
    }

    /// Does the same as [`Tree::restrict`], and makes the propagation of every mount in the tree
    /// private: none learns of mounts made elsewhere, or announces its own.
    ///
    /// # Errors
    /// The same as for [`Tree::restrict`].
    pub fn restrict_private(self, flags: Flags) -> io::Result<Self> {
        self.restrict_with(flags, MsFlags::MS_PRIVATE.bits())
    }

    fn restrict_with(self, flags: Flags, propagation: libc::c_ulong) -> io::Result<Self> {
        let at = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
        set_attributes(self.0.as_raw_fd(), c"", at, flags, propagation)?;
        Ok(self)
    }

    /// Takes a tree that another process has cloned and sent. The receiver can attach it in its own
    /// mount namespace (move_mount(2): an unattached tree belongs to no namespace).
    #[must_use]
    pub fn received(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Attaches the tree at `path`, which must exist and be of the same kind. A symbolic link there
    /// is not followed.
    ///
    /// # Errors
    /// move_mount(2) fails.
    pub fn attach(self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        // SAFETY: the tree's descriptor is open, both paths are NUL-terminated and outlive the
        // call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        Errno::result(result)?;
        Ok(())
    }

    /// Returns the tree's root, to check what was cloned before it is attached.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.as_fd()
    }
}

/// Adds `flags` to the mount at `path`, not to those below it.
///
/// # Errors
/// mount_setattr(2) fails; `EBUSY` for [`Flags::RO`] while a file there is open for writing.
pub fn restrict(path: &Path, flags: Flags) -> io::Result<()> {
    set_attributes(libc::AT_FDCWD, &c_path(path)?, libc::AT_SYMLINK_NOFOLLOW, flags, 0)
}

/// Detaches everything mounted at `path` in this mount namespace, layer by layer. Asks no file
/// system, so one whose server hangs is detached too.
///
/// # Errors
/// umount2(2) fails, for another reason than that nothing is mounted there or `path` doesn't exist.
pub fn detach_all(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not, or no longer, a mount point.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

fn set_attributes(
    dir: RawFd,
    path: &std::ffi::CStr,
    at: libc::c_int,
    flags: Flags,
    propagation: libc::c_ulong,
) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: flags.0, attr_clr: 0, propagation, userns_fd: 0 };
    // SAFETY: path and struct outlive the call and the size is that of the struct passed
    // (mount_setattr(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            at,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Makes every mount of this mount namespace receive the host's unmounts (so that its `umount`
/// isn't blocked), but announce nothing: what is mounted here from now on stays here.
///
/// # Errors
/// mount(2) fails.
pub fn stop_propagation() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?)
}

/// Mounts an empty tmpfs at `path`, owned by root, mode 0755, nosuid, nodev, noexec, with room for
/// `bytes` and `inodes`.
///
/// # Errors
/// mount(2) fails.
pub fn tmpfs(path: &Path, bytes: u32, inodes: u32) -> io::Result<()> {
    tmpfs_of_mode(path, 0o755, bytes, inodes)
}

/// Does the same as [`tmpfs`] with another mode.
///
/// # Errors
/// mount(2) fails.
pub fn tmpfs_of_mode(path: &Path, mode: u32, bytes: u32, inodes: u32) -> io::Result<()> {
    let options = format!("mode={mode:04o},size={bytes},nr_inodes={inodes}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("jupyterhub-openssh"), path, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Moves the mount at `from`, with what is mounted in it, on top of `to`.
///
/// # Errors
/// mount(2) fails; `EINVAL` if the mount that contains `from` is shared.
pub fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)?)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(Errno::EINVAL))
}
