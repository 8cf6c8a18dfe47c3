//! Disk quotas of homes, on local file systems that support them (ext4, XFS).
//!
//! A **project** quota counts everything in a directory, whoever owns it: right for homes that
//! share one uid, and statvfs(3) in the home shows the user this limit instead of the whole file
//! system's size. A **user** quota counts everything that a uid owns.

use crate::sys::quota::{self as sys, Figures, Kind};
use common::UserName;
use common::homes::Quota;
use common::uid::Range;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Project ids for homes, far from the small ones that administrators assign by hand (projects(5)).
const PROJECTS: (u32, u32) = (1_000_000_000, 1_999_999_999);
/// How many ids are tried for a new home.
const TRIES: u32 = 16;

/// The quotas that a file system both counts and enforces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Support {
    /// Project quotas (mount option `prjquota`).
    pub project: bool,
    /// User quotas (`usrquota`).
    pub user: bool,
}

/// What a usage includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This home alone.
    Project(u32),
    /// Everything that the uid owns in the file system, in this home or not.
    User(u32),
}

/// Usage of one resource and its limits; `None` means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// In use.
    pub used: u64,
    /// Soft limit, which may be exceeded for the file system's grace time.
    pub soft: Option<u64>,
    /// Hard limit, which cannot be exceeded.
    pub hard: Option<u64>,
}

/// The usage of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What the usage includes.
    pub whose: Whose,
    /// In bytes.
    pub bytes: Amount,
    /// Number of files and directories.
    pub files: Amount,
}

/// Returns which quotas are on in the file system of `fd`; O_PATH is enough. None for a file system
/// without quotas (NFS).
///
/// # Errors
/// The quota state cannot be read, for another reason than that there are no quotas.
pub fn support(fd: BorrowedFd<'_>) -> io::Result<Support> {
    match sys::enforced(fd) {
        Ok((user, project)) => Ok(Support { project, user }),
        Err(e) if none_here(&e) => Ok(Support::default()),
        Err(e) => Err(e),
    }
}

/// Returns the usage of the home that `home` is open on, of its project's quota or else of its
/// owner's; `None` if the file system counts neither. O_PATH is enough. Needs root.
///
/// # Errors
/// The quota cannot be read.
pub fn usage(home: BorrowedFd<'_>) -> io::Result<Option<Usage>> {
    let support = support(home)?;
    let project = if support.project { project(home)? } else { 0 };
    let (kind, whose) = if project != 0 {
        (Kind::Project, Whose::Project(project))
    } else if support.user {
        let owner = fstat(home)?.st_uid;
        (Kind::User, Whose::User(owner))
    } else {
        return Ok(None);
    };
    let (Whose::Project(id) | Whose::User(id)) = whose;
    let found = figures(home, kind, id)?;
    let amount = |used, soft, hard| Amount { used, soft: limit(soft), hard: limit(hard) };
    Ok(Some(Usage {
        whose,
        bytes: amount(found.bytes, found.soft_bytes, found.hard_bytes),
        files: amount(found.files, found.soft_files, found.hard_files),
    }))
}

/// Sets the limits of an existing home: of its project if it has one, else of its owner. Needs
/// root.
///
/// # Errors
/// The quota cannot be set.
pub(crate) fn set(home: BorrowedFd<'_>, whose: Whose, limits: Quota) -> io::Result<()> {
    let (kind, id) = match whose {
        Whose::Project(id) => (Kind::Project, id),
        Whose::User(id) => (Kind::User, id),
    };
    sys::set(home, kind, id, limits.soft, limits.hard)
}

/// Limits a new, still empty home, opened without O_PATH: by a project of its own if the file
/// system has project quotas on, else by the quota of `owner`, which is given if no other user has
/// that uid.
///
/// # Errors
/// For the log: what to switch on, or what failed.
pub(crate) fn limit_new(
    home: BorrowedFd<'_>,
    user: &UserName,
    owner: Option<u32>,
    limits: Quota,
) -> Result<Whose, String> {
    let failed = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    let support = support(home).map_err(failed("cannot ask for quotas"))?;
    let whose = match (support, owner) {
        (Support { project: true, .. }, _) => {
            // A home begun by a killed login has its project already; a second one would waste an
            // id.
            let begun = sys::project(home).map_err(failed("cannot ask for the home's project"))?;
            let project = match candidates(user).find(|candidate| *candidate == begun) {
                Some(project) => project,
                None => free_project(home, user)?,
            };
            sys::set_project(home, project).map_err(failed("cannot set the home's project"))?;
            Whose::Project(project)
        }
        (Support { user: true, .. }, Some(uid)) => Whose::User(uid),
        (Support { user: true, .. }, None) => {
            return Err(
                "homes.quota is set, and homes share their uid, but only user quotas are on: switch on \
                        project quotas (mount option prjquota)"
                    .to_owned(),
            );
        }
        _ => {
            return Err(
                "homes.quota is set, but the file system has no quotas on: switch on project quotas \
                        (mount option prjquota)"
                    .to_owned(),
            );
        }
    };
    set(home, whose, limits).map_err(failed("cannot set the quota"))?;
    Ok(whose)
}

/// Returns a project for a new home: the first of the user's candidates without usage in the file
/// system.
///
/// The id of a removed home is free again. Two homes created at the same moment for users with the
/// same candidate (one chance in 10⁹) would share a limit.
fn free_project(home: BorrowedFd<'_>, user: &UserName) -> Result<u32, String> {
    for project in candidates(user) {
        let used =
            figures(home, Kind::Project, project).map_err(|e| format!("cannot ask for quotas: {e}"))?;
        if used.files == 0 && used.bytes == 0 {
            return Ok(project);
        }
    }
    Err(format!("the {TRIES} project ids for this name are all in use"))
}

/// Returns the project ids that a user's home may get, the same on every bastion: one computed from
/// the name, as [`Range::ids`] computes uids, and those that follow it.
fn candidates(user: &UserName) -> impl Iterator<Item = u32> {
    let (low, high) = PROJECTS;
    // [`Range`] accepts this range; a test checks it.
    let first = Range::new(low, high).unwrap_or(Range::DEFAULT).ids(user).uid();
    (0..TRIES).map(move |round| if first > high - round { low + round } else { first + round })
}

/// Reads an id's figures; zero on XFS for an id that was never used.
fn figures(fd: BorrowedFd<'_>, kind: Kind, id: u32) -> io::Result<Figures> {
    match sys::get(fd, kind, id) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Figures::default()),
        other => other,
    }
}

fn project(home: BorrowedFd<'_>) -> io::Result<u32> {
    // The call needs more than O_PATH. On this host's own file system root may open any directory.
    let opened: OwnedFd = openat(
        home,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    match sys::project(opened.as_fd()) {
        Err(e) if none_here(&e) => Ok(0),
        other => other,
    }
}

fn limit(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

fn none_here(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::ESRCH | libc::EINVAL | libc::ENOTTY | libc::EOPNOTSUPP)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_quotas_there_is_no_usage_and_no_limit() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(support(proc.as_fd()).unwrap(), Support::default());
        assert_eq!(usage(proc.as_fd()).unwrap(), None);
        let user = UserName::parse("alice").unwrap();
        let why = limit_new(proc.as_fd(), &user, Some(20_001), Quota { soft: 1, hard: 2 }).unwrap_err();
        assert!(why.contains("prjquota"), "{why}");
    }

    /// Other bastions of the same homes, and later versions, must compute the same ids.
    #[test]
    fn the_first_candidates_of_a_name_never_change() {
        let user = UserName::parse("alice").unwrap();
        let first: Vec<_> = candidates(&user).take(3).collect();
        assert_eq!(first, [1_090_220_207, 1_090_220_208, 1_090_220_209]);
    }

    proptest! {
        #[test]
        fn candidates_are_in_their_range(name in "[a-z][a-z0-9.@_-]{0,60}") {
            let user = UserName::parse(&name).unwrap();
            prop_assert!(candidates(&user).all(|id| (PROJECTS.0..=PROJECTS.1).contains(&id)));
            prop_assert_eq!(candidates(&user).count(), TRIES as usize);
        }
    }
}
