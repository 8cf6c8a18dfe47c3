//! Finds a home safely: what is used is what was checked.
//!
//! A user owns the home and everything in it, and with a template such as `{username}/work` also
//! directories on the way to it. So the path is walked by descriptors, following no link and never
//! leaving the directory of homes (openat2(2)), and everything else uses the resulting descriptor.

use super::Fault;
use super::mounted::{Links, check as check_mounted};
use crate::sys::freshness::refresh;
use crate::sys::identity;
use common::UserName;
use common::homes::Homes;
use common::uid::Ids;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use wire::claim::HomeFault;

/// Opens a user's home: a directory, with O_PATH.
///
/// With `ids`, the home must belong to that uid, and a home that root cannot reach (an NFS export
/// with root_squash makes root nobody) is tried again as that user: **the calling thread then acts
/// on files as the user for good** ([`identity::act_on_files_as`]). Call it in a child process, or
/// in a thread that does nothing else.
/// Without `ids` the owner is not checked and the thread doesn't change.
///
/// # Errors
/// [`Fault`]: there is no home, it belongs to another user, a link is in the way, or an error of
/// the file system.
pub fn open(homes: &Homes, user: &UserName, ids: Option<Ids>) -> Result<OwnedFd, Fault> {
    let path = Place::of(homes, user)?;
    check_mounted("homes.root", &homes.root, Links::Followed)?;
    let home = match (path.open(), ids) {
        (Err(Errno::EACCES | Errno::EPERM), Some(ids)) => {
            identity::act_on_files_as(ids.uid(), ids.gid()).map_err(|e| {
                Fault::new(HomeFault::Failed, &format!("cannot act as uid {}: {e}", ids.uid()))
            })?;
            path.open()
        }
        (outcome, _) => outcome,
    }
    .map_err(|e| path.fault(e))?;
    if homes.create.is_some() && is_unfinished(&home) {
        return Err(Fault::new(
            HomeFault::Missing,
            &format!("{path} does not exist: its creation was broken off"),
        ));
    }
    let owner = home.found.st_uid;
    match (ids, home.stranger) {
        (_, Some(other)) => Err(Fault::new(
            HomeFault::NotTheirs,
            &format!("{path} belongs to uid {owner}, and a directory on the way to it to uid {other}"),
        )),
        (Some(ids), _) if ids.uid() != owner => Err(Fault::new(
            HomeFault::NotTheirs,
            &format!("{path} belongs to uid {owner}, the session has uid {}", ids.uid()),
        )),
        _ => Ok(home.fd),
    }
}

/// What was found on the way to a home.
struct Home {
    fd: OwnedFd,
    found: FileStat,
    /// The status of the directory that contains it.
    parent: FileStat,
    /// An owner, neither root nor the home's, of a directory between the directory of homes and the
    /// home. Such an owner can move another user's home there, if that directory is writable for
    /// all.
    stranger: Option<u32>,
}

/// True if this is an empty directory that reserves the name, left when a login was killed while it
/// moved a home into place ([`mod@super::create`]).
fn is_unfinished(home: &Home) -> bool {
    is_reserved(&home.found, &home.parent) && is_empty(home.fd.as_fd())
}

/// True if a directory can be entered only by root, and only root can change its parent.
pub(super) fn is_reserved(found: &FileStat, parent: &FileStat) -> bool {
    found.st_uid == 0 && found.st_mode & 0o7777 == 0o700 && is_roots_alone(parent)
}

/// True if only root can change the entries of a directory.
pub(super) fn is_roots_alone(found: &FileStat) -> bool {
    found.st_uid == 0 && found.st_mode & 0o022 == 0
}

/// True if a directory can be listed and is empty.
pub(super) fn is_empty(dir: BorrowedFd<'_>) -> bool {
    fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))
        .is_ok_and(|mut entries| entries.next().is_none())
}

/// Returns the path of a user's home, for messages.
#[must_use]
pub fn path(homes: &Homes, user: &UserName) -> String {
    Place::of(homes, user).map_or_else(|fault| fault.detail, |place| place.to_string())
}

/// Opens the directory of homes, with O_PATH, to ask about its file system
/// ([`super::quota::support`]).
///
/// # Errors
/// [`Fault`]: it doesn't exist, or an error of the file system.
pub fn open_root(homes: &Homes) -> Result<OwnedFd, Fault> {
    check_mounted("homes.root", &homes.root, Links::Followed)?;
    open_dir(&homes.root).map_err(|e| root_fault(&homes.root, e))
}

/// Opens a directory that the administrator has configured, with O_PATH. Links on the way are the
/// administrator's and are followed.
///
/// A trailing `/.` makes an automounter mount its file system (O_PATH alone does not: open(2)), and
/// requires permission to search the directory.
///
/// # Errors
/// The directory cannot be opened.
pub fn open_dir(path: &Path) -> nix::Result<OwnedFd> {
    openat2(AT_FDCWD, &path.join("."), how(ResolveFlag::RESOLVE_NO_MAGICLINKS))
}

/// Opens a shared directory, with O_PATH. No link is followed: users may be able to change the
/// path, and root would go wherever their link leads. A directory that root cannot reach is tried
/// again as the user `ids`, as with [`open`].
///
/// # Errors
/// [`Fault`]: it doesn't exist, a link is in the way, or an error of the file system.
pub fn open_share(source: &Path, ids: Option<Ids>) -> Result<OwnedFd, Fault> {
    let shown = source.display();
    check_mounted("shares.source", source, Links::Refused)?;
    let open = || {
        let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        openat2(AT_FDCWD, &source.join("."), how(resolve))
    };
    match (open(), ids) {
        (Err(Errno::EACCES | Errno::EPERM), Some(ids)) => {
            identity::act_on_files_as(ids.uid(), ids.gid()).map_err(|e| {
                Fault::new(HomeFault::Failed, &format!("{shown}: cannot act as uid {}: {e}", ids.uid()))
            })?;
            open()
        }
        (outcome, _) => outcome,
    }
    .map_err(|e| match e {
        Errno::ELOOP => Fault::new(
            HomeFault::Failed,
            &format!("{shown} leads through a symbolic link: write the real path in config.toml"),
        ),
        e => Fault::of_error(&shown.to_string(), e),
    })
}

/// Opens a directory beneath another, following no link, with O_PATH.
///
/// # Errors
/// The directory cannot be opened: `ELOOP` for a link, `ENOTDIR` for anything else that is not a
/// directory.
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
    pub(crate) fn of(homes: &'a Homes, user: &UserName) -> Result<Self, Fault> {
        let relative = homes.template.expand(user).map_err(|e| {
            Fault::new(HomeFault::Failed, &format!("homes.template makes no path of {user}: {e}"))
        })?;
        Ok(Self { root: &homes.root, relative: relative.into() })
    }

    fn open(&self) -> Result<Home, Errno> {
        match self.walk() {
            // It was deleted on the file server, and perhaps created again: this host has noticed
            // now and looks up the name again.
            Err(Errno::ESTALE) => self.walk(),
            other => other,
        }
    }

    /// Walks the path one directory at a time, so that whatever is moved meanwhile, each directory
    /// was in the one before. Refreshes each from the file server: a cached answer would hide that
    /// the server is gone, and the connection would hang.
    fn walk(&self) -> Result<Home, Errno> {
        let mut fd = open_dir(self.root)?;
        let mut found = fstat(&fd)?;
        let mut parent = found;
        let mut owners = Vec::new();
        for (number, name) in self.relative.iter().enumerate() {
            if number > 0 && found.st_uid != 0 {
                owners.push(found.st_uid);
            }
            parent = found;
            fd = beneath(fd.as_fd(), Path::new(name))?;
            refresh(fd.as_fd())?;
            found = fstat(&fd)?;
        }
        let stranger = owners.into_iter().find(|owner| *owner != found.st_uid);
        Ok(Home { fd, found, parent, stranger })
    }

    fn fault(&self, error: Errno) -> Fault {
        // Tells the two cases apart: without its root the whole file system of homes is missing,
        // not one home.
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

    pub(crate) fn homes(dir: &Path, more: &str) -> Homes {
        let text = format!("[homes]\nroot = '{}'\n{more}", dir.display());
        common::Settings::parse(&text).unwrap().homes.unwrap()
    }

    pub(crate) fn alice() -> UserName {
        UserName::parse("alice").unwrap()
    }

    /// True if the tests may change owners of files; CI runs them as root.
    pub(crate) fn root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    pub(crate) fn ids(uid: u32) -> Ids {
        Ids::new(uid, uid).unwrap()
    }

    /// Runs a closure in a thread of its own, whose credentials no other thread shares
    /// (credentials(7)).
    pub(crate) fn in_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
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
    fn who_owns_the_way_owns_the_home() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let homes = homes(dir.path(), "template = 'class/{username}/work'");
        let class = dir.path().join("class");
        fs::create_dir_all(class.join("alice/work")).unwrap();
        for (class_owner, way, home, fault) in [
            (0, 0, 20_001, None),
            (0, 20_001, 20_001, None),
            (20_001, 0, 20_001, None),
            (0, 20_002, 20_001, Some(HomeFault::NotTheirs)),
            (20_002, 0, 20_001, Some(HomeFault::NotTheirs)),
            (20_001, 20_002, 20_001, Some(HomeFault::NotTheirs)),
            (0, 20_001, 0, Some(HomeFault::NotTheirs)),
        ] {
            chown(&class, Some(class_owner), None).unwrap();
            chown(class.join("alice"), Some(way), None).unwrap();
            chown(class.join("alice/work"), Some(home), None).unwrap();
            let found = kind(open(&homes, &alice(), Some(ids(20_001))));
            assert_eq!(found, fault, "{class_owner} {way} {home}");
        }
        chown(&class, Some(20_002), None).unwrap();
        chown(class.join("alice/work"), Some(20_001), None).unwrap();
        assert_eq!(kind(open(&homes, &alice(), None)), Some(HomeFault::NotTheirs), "whoever asks");
    }

    #[test]
    fn a_reserved_name_is_no_home() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("alice");
        let look = |more: &str| kind(open(&homes(dir.path(), more), &alice(), Some(ids(20_001))));
        let create = "missing = 'create'";
        fs::create_dir(&home).unwrap();
        for (mode, parent, fault) in [
            (0o700, 0o755, HomeFault::Missing),
            (0o750, 0o755, HomeFault::NotTheirs),
            (0o700, 0o775, HomeFault::NotTheirs),
            (0o700, 0o1777, HomeFault::NotTheirs),
        ] {
            fs::set_permissions(&home, Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(parent)).unwrap();
            assert_eq!(look(create), Some(fault), "{mode:o} {parent:o}");
            assert_eq!(look(""), Some(HomeFault::NotTheirs), "nobody would make it");
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(home.join("file"), "").unwrap();
        assert_eq!(look(create), Some(HomeFault::NotTheirs));
        fs::remove_file(home.join("file")).unwrap();
        chown(&home, Some(20_001), None).unwrap();
        assert_eq!(look(create), None, "an empty home is one");
    }

    #[test]
    fn a_share_is_reached_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/data")).unwrap();
        symlink("real", at("link")).unwrap();
        symlink("data", at("real/last")).unwrap();
        assert!(open_share(&at("real/data"), None).is_ok());
        for name in ["link/data", "real/last", "link"] {
            let fault = open_share(&at(name), None).unwrap_err();
            let why = " leads through a symbolic link: write the real path in config.toml";
            assert_eq!(fault.detail, format!("{}{why}", at(name).display()));
        }
        assert!(open_share(&at("none"), None).unwrap_err().detail.contains("No such file"));
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

    /// However a home is swapped with links and other users' directories, what is opened is
    /// alice's, or nothing is opened.
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
