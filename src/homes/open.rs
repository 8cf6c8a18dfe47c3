//! Finding a home, so that what was checked is what is used.
//!
//! A user owns the home and whatever is in it, and with a template such as `{username}/work` also directories on the
//! way to it. So the way is walked by the kernel in one call that follows no link and never leaves the
//! directory of homes (openat2(2)), and everything else is done with the descriptor that comes out of it.

use super::Fault;
use crate::control::HomeFault;
use crate::sys::identity;
use accounts::UserName;
use accounts::homes::Homes;
use accounts::uid::Ids;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Opens the home of a user: a directory, with O_PATH.
///
/// With `ids`, the home must belong to that uid, and a home that root may not reach (an NFS export with root_squash
/// makes root nobody) is tried again as that user: **the calling thread then acts on files as the user for good**
/// ([`identity::act_on_files_as`]). Call it in a child or in a thread that is there for nothing else.
/// Without `ids` the owner is not looked at and the thread stays what it is.
///
/// # Errors
/// [`Fault`]: there is no home, it is somebody else's, a link is in the way, or the file system says no.
pub fn open(homes: &Homes, user: &UserName, ids: Option<Ids>) -> Result<OwnedFd, Fault> {
    let path = Place::of(homes, user)?;
    let (fd, found) = match (path.open(), ids) {
        (Err(Errno::EACCES | Errno::EPERM), Some(ids)) => {
            identity::act_on_files_as(ids.uid(), ids.gid()).map_err(|e| {
                Fault::new(HomeFault::Failed, &format!("cannot act as uid {}: {e}", ids.uid()))
            })?;
            path.open()
        }
        (outcome, _) => outcome,
    }
    .map_err(|e| path.fault(e))?;
    match ids {
        Some(ids) if ids.uid() != found.st_uid => Err(Fault::new(
            HomeFault::NotTheirs,
            &format!("{path} belongs to uid {}, the session has uid {}", found.st_uid, ids.uid()),
        )),
        _ => Ok(fd),
    }
}

/// Where the home of a user should be, for messages.
#[must_use]
pub fn path(homes: &Homes, user: &UserName) -> String {
    Place::of(homes, user).map_or_else(|fault| fault.detail, |place| place.to_string())
}

/// Opens the directory of homes, with O_PATH: for questions about its file system ([`super::quota::support`]).
///
/// # Errors
/// [`Fault`]: it is not there, or the file system says no.
pub fn open_root(homes: &Homes) -> Result<OwnedFd, Fault> {
    open_dir(&homes.root).map_err(|e| root_fault(&homes.root, e))
}

/// Opens a directory of the administrator's choice, with O_PATH. Links on the way are the administrator's.
///
/// The `/.` at its end makes an automounter mount what belongs there (open(2): O_PATH alone does not), and asks
/// for the right to search the directory.
///
/// # Errors
/// The system's.
pub fn open_dir(path: &Path) -> nix::Result<OwnedFd> {
    openat2(AT_FDCWD, &path.join("."), how(ResolveFlag::RESOLVE_NO_MAGICLINKS))
}

/// Opens a directory beneath another, following no link, with O_PATH.
///
/// # Errors
/// The system's; `ELOOP` for a link, `ENOTDIR` for anything else that is no directory.
pub fn beneath(dir: BorrowedFd<'_>, relative: &Path) -> nix::Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(dir, &relative.join("."), how(resolve))
}

fn how(resolve: ResolveFlag) -> OpenHow {
    OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve)
}

/// Where a home should be.
pub(super) struct Place<'a> {
    pub root: &'a Path,
    pub relative: PathBuf,
}

impl<'a> Place<'a> {
    pub fn of(homes: &'a Homes, user: &UserName) -> Result<Self, Fault> {
        let relative = homes.template.expand(user).map_err(|e| {
            Fault::new(HomeFault::Failed, &format!("homes.template makes no path of {user}: {e}"))
        })?;
        Ok(Self { root: &homes.root, relative: relative.into() })
    }

    fn open(&self) -> Result<(OwnedFd, FileStat), Errno> {
        let root = open_dir(self.root)?;
        let home = beneath(root.as_fd(), &self.relative)?;
        let found = fstat(&home)?;
        Ok((home, found))
    }

    fn fault(&self, error: Errno) -> Fault {
        // Which of the two it was: without its root the whole file system of homes is missing, not one home.
        if let Err(e) = open_dir(self.root) {
            return root_fault(self.root, e);
        }
        match error {
            Errno::ENOENT => Fault::new(HomeFault::Missing, &format!("{self} does not exist")),
            Errno::ELOOP => {
                Fault::new(HomeFault::NotTheirs, &format!("{self} is a symbolic link, or behind one"))
            }
            Errno::ENOTDIR => Fault::new(HomeFault::NotTheirs, &format!("{self} is not a directory")),
            e => Fault::of_error(&self.to_string(), e),
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.root.join(&self.relative).display())
    }
}

fn root_fault(root: &Path, error: Errno) -> Fault {
    Fault::of_error(&format!("homes.root {}", root.display()), error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    pub fn homes(dir: &Path, more: &str) -> Homes {
        let text = format!("[homes]\nroot = '{}'\n{more}", dir.display());
        accounts::Settings::parse(&text).unwrap().homes.unwrap()
    }

    pub fn alice() -> UserName {
        UserName::parse("alice").unwrap()
    }

    /// Whether the tests may give files away; CI runs them as root.
    pub fn root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    pub fn ids(uid: u32) -> Ids {
        Ids::new(uid, uid).unwrap()
    }

    /// Runs in a thread of its own, whose credentials nobody else has (credentials(7): a thread's attribute).
    pub fn in_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap()
    }

    fn kind(result: Result<OwnedFd, Fault>) -> Option<HomeFault> {
        result.err().map(|fault| fault.kind)
    }

    #[test]
    fn a_home_is_a_directory_and_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let homes = homes(dir.path(), "");
        let home = dir.path().join("alice");
        assert_eq!(kind(open(&homes, &alice(), None)), Some(HomeFault::Missing));
        fs::create_dir(&home).unwrap();
        let fd = open(&homes, &alice(), None).unwrap();
        assert_eq!(fstat(&fd).unwrap().st_ino, fs::metadata(&home).unwrap().ino());
        fs::rename(&home, dir.path().join("bob")).unwrap();
        symlink("bob", &home).unwrap();
        assert_eq!(kind(open(&homes, &alice(), None)), Some(HomeFault::NotTheirs));
        fs::remove_file(&home).unwrap();
        fs::write(&home, "").unwrap();
        assert_eq!(kind(open(&homes, &alice(), None)), Some(HomeFault::NotTheirs));
    }

    #[test]
    fn no_link_on_the_way_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let homes = homes(dir.path(), "template = '{username}/work'");
        fs::create_dir_all(dir.path().join("bob/work")).unwrap();
        for target in ["bob", "./bob", "/proc/self/cwd", "../.."] {
            let link = dir.path().join("alice");
            symlink(target, &link).unwrap();
            assert_eq!(kind(open(&homes, &alice(), None)), Some(HomeFault::NotTheirs), "{target}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn the_root_may_be_reached_by_links_and_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("real/alice")).unwrap();
        symlink("real", dir.path().join("homes")).unwrap();
        assert!(open(&homes(&dir.path().join("homes"), ""), &alice(), None).is_ok());
        let none = homes(&dir.path().join("none"), "");
        let fault = open(&none, &alice(), None).unwrap_err();
        assert_eq!(fault.kind, HomeFault::Failed, "not one home is missing, all are");
        assert!(fault.detail.contains("homes.root"), "{fault}");
        assert!(open_root(&none).is_err());
    }

    #[test]
    fn somebody_elses_home_is_refused() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let homes = homes(dir.path(), "");
        let home = dir.path().join("alice");
        fs::create_dir(&home).unwrap();
        for (owner, fault) in
            [(20_001, None), (20_002, Some(HomeFault::NotTheirs)), (0, Some(HomeFault::NotTheirs))]
        {
            chown(&home, Some(owner), Some(20_001)).unwrap();
            assert_eq!(kind(open(&homes, &alice(), Some(ids(20_001)))), fault, "owner {owner}");
        }
    }

    #[test]
    fn a_home_that_only_its_user_can_reach_is_opened_as_the_user() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let homes = homes(dir.path(), "");
        let home = dir.path().join("alice");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
        chown(&home, Some(20_001), Some(20_001)).unwrap();
        let me = |uid| {
            in_thread(|| {
                identity::squash().unwrap();
                assert_eq!(fs::read_dir(&home).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
                let outcome = open(&homes, &alice(), Some(ids(uid)));
                (outcome.map(|fd| fstat(&fd).unwrap().st_ino), fs::write(dir.path().join("x"), "").is_ok())
            })
        };
        let inode = fs::metadata(&home).unwrap().ino();
        assert_eq!(me(20_001), (Ok(inode), false), "opened, and nothing else can be done any more");
        let (outcome, _) = me(20_002);
        assert_eq!(outcome.unwrap_err().kind, HomeFault::Failed, "permission denied to others");
    }

    /// However a home is swapped with links and other people's directories: what is opened is alice's, or nothing is.
    #[test]
    fn no_race_opens_anybody_elses_directory() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let homes = homes(dir.path(), "template = '{username}/work'");
        let at = |name: &str| dir.path().join(name);
        for (name, owner) in [("alice", 20_001), ("bob", 20_002)] {
            fs::create_dir_all(at(name).join("work")).unwrap();
            chown(at(name), Some(owner), None).unwrap();
            chown(at(name).join("work"), Some(owner), None).unwrap();
        }
        let inode = fs::metadata(at("alice/work")).unwrap().ino();
        let done = AtomicBool::new(false);
        let (mut opened, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(at("alice"), at("aside")).unwrap();
                    symlink("bob", at("alice")).unwrap();
                    fs::remove_file(at("alice")).unwrap();
                    fs::rename(at("bob"), at("alice")).unwrap();
                    fs::rename(at("alice"), at("bob")).unwrap();
                    fs::rename(at("aside"), at("alice")).unwrap();
                    fs::rename(at("alice/work"), at("alice/w")).unwrap();
                    symlink(at("bob/work"), at("alice/work")).unwrap();
                    fs::remove_file(at("alice/work")).unwrap();
                    fs::rename(at("alice/w"), at("alice/work")).unwrap();
                }
            });
            for _ in 0..20_000 {
                match open(&homes, &alice(), Some(ids(20_001))) {
                    Ok(fd) => {
                        let found = fstat(&fd).unwrap();
                        assert_eq!((found.st_uid, found.st_ino), (20_001, inode));
                        opened += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused: no race took place");
    }
}
