//! Changes whom a thread acts for on files, while it may still mount (credentials(7)).
//!
//! These are raw calls: glibc's setgroups(3) would change all threads of the process (nptl(7)).
#![allow(unsafe_code)]

use super::{capabilities, process};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::getppid;
use std::io;

/// Makes the calling thread act on files as a user without supplementary groups. Every capability
/// but CAP_SYS_ADMIN is given up for good, among them those by which root bypasses permissions. The
/// real uid stays root's, so that no other process of the user's uid may send it a signal
/// (kill(2)).
///
/// A change of credentials resets what [`process::harden`] and [`process::die_with_parent`] have
/// set (PR_SET_DUMPABLE(2const), PR_SET_PDEATHSIG(2const)); this function sets both again.
///
/// # Errors
/// `InvalidInput` for root; `NotFound` if the parent has ended meanwhile; any error of the system
/// calls. The caller must stop then: the thread may be half-changed.
pub fn act_on_files_as(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || gid == 0 || uid == u32::MAX || gid == u32::MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "root is no one to act as"));
    }
    let dies_with_parent = prctl::get_pdeathsig()?.is_some();
    let parent = getppid().as_raw();
    // SAFETY: a length of 0 makes setgroups(2) read nothing.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
    // setfsuid(2) and setfsgid(2) return no error but the previous value: a second call tells the
    // present one.
    for (call, id) in [(libc::SYS_setfsgid, gid), (libc::SYS_setfsuid, uid)] {
        // SAFETY: takes an integer.
        unsafe { libc::syscall(call, id) };
        // SAFETY: takes an integer; -1 is no valid id and changes nothing.
        let now = unsafe { libc::syscall(call, -1) };
        if now != libc::c_long::from(id) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
    }
    capabilities::keep_only(&[capabilities::SYS_ADMIN])?;
    process::harden()?;
    if dies_with_parent { process::die_with_parent(parent) } else { Ok(()) }
}

/// Gives the calling thread of a test the rights of root on an NFS export with root_squash: file
/// permissions apply.
#[cfg(test)]
pub(crate) fn squash() -> io::Result<()> {
    use capabilities::{SETGID, SETUID, SYS_ADMIN};
    capabilities::keep_only(&[SETGID, SETUID, SYS_ADMIN])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn permissions_hold_and_there_is_no_way_back() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, owner) in [("mine", 20_001), ("theirs", 20_002), ("roots", 0)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o700)).unwrap();
            chown(dir.path().join(name), Some(owner), Some(owner)).unwrap();
        }
        let readable = |name: &str| fs::read_dir(dir.path().join(name)).is_ok();
        let as_user = || {
            prctl::set_pdeathsig(nix::sys::signal::Signal::SIGUSR1).unwrap();
            act_on_files_as(20_001, 20_001).unwrap();
            assert!(prctl::get_pdeathsig().unwrap().is_some() && !prctl::get_dumpable().unwrap());
            prctl::set_pdeathsig(None).unwrap();
            let seen = ["mine", "theirs", "roots"].map(readable);
            // SAFETY: takes an integer.
            unsafe { libc::syscall(libc::SYS_setfsuid, 0) };
            let again = act_on_files_as(20_002, 20_002).is_ok();
            (seen, ["mine", "theirs", "roots"].map(readable), again)
        };
        let (seen, later, again) = std::thread::scope(|scope| scope.spawn(as_user).join()).unwrap();
        assert_eq!(seen, [true, false, false]);
        // The real uid is still root's, and setfsuid(2) accepts that: without capabilities it is a
        // uid like any other.
        assert_eq!(later, [false, false, true]);
        assert!(!again);
        assert!(["mine", "theirs", "roots"].map(readable) == [true; 3], "other threads are as they were");
    }

    #[test]
    fn nobody_acts_as_root() {
        assert!(act_on_files_as(0, 1).is_err() && act_on_files_as(1, 0).is_err());
    }
}
