//! Creates a missing home.
//!
//! The home is made in a staging directory that only root can enter, and renamed into place when it
//! is complete: nobody sees it half-made, and no other connection of the same uid can interfere
//! while root copies files.
//! In the staging directory it already has its final name, and its maker holds a lock on it. So
//! only one login at a time makes a home, and the next one continues what a killed one has left,
//! with its quota project.

use super::Fault;
use super::mounted::{Links, check as check_mounted};
use super::open::{Place, beneath, is_empty, is_reserved, is_roots_alone, open_dir};
use super::quota;
use common::UserName;
use common::homes::{Create, Homes};
use common::settings::Settings;
use common::uid::{Ids, Rule};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use wire::claim::HomeFault;

/// The staging directory, in the directory of the new homes: a rename cannot cross file systems.
const ASIDE: &str = ".jupyterhub-openssh-new";
/// Age at which an unfinished home counts as abandoned and is removed.
const STALE: Duration = Duration::from_secs(3600);
/// How long one login searches for abandoned homes. Its own home exists by then, and its user
/// waits.
const SWEEP_TIME: Duration = Duration::from_millis(200);
/// Age at which a placeholder for a name counts as abandoned: longer than a login takes to look
/// after its home.
const RESERVED_TIME: Duration = Duration::from_secs(15);
/// How often to retry when another login removes our file or directory at the same moment.
const TRIES: usize = 100;
/// Most files, directories and links of a skeleton.
const MAX_ENTRIES: usize = 4096;
/// Deepest nesting of a skeleton.
const MAX_DEPTH: usize = 16;
/// Most bytes in a skeleton's files.
const MAX_BYTES: u64 = 64 << 20;

/// True if the uid of a created home is its user's alone, so that a user quota limits this home.
/// That holds for computed uids, which users without a home have under the rule `home` too, unless
/// the configuration names the owner of new homes.
#[must_use]
pub fn owns_uid_alone(settings: &Settings) -> bool {
    match settings.accounts {
        Rule::Hash(_) => true,
        Rule::Fixed(_) => false,
        Rule::Home => {
            let create = settings.homes.as_ref().and_then(|homes| homes.create.as_ref());
            create.is_some_and(|create| create.owner.is_none())
        }
    }
}

/// Creates the home of a user whose connection has `ids`; open it afterwards as if it had existed
/// before. It is fine if another login creates it at the same moment. Needs root.
///
/// # Errors
/// [`HomeFault::NotCreated`]: there is no home.
pub fn create(homes: &Homes, user: &UserName, ids: Ids, alone: bool) -> Result<(), Fault> {
    let place = Place::of(homes, user)?;
    let Some(how) = &homes.create else {
        return Err(Fault::new(HomeFault::Missing, &format!("{place} does not exist")));
    };
    check_mounted("homes.root", &homes.root, Links::Followed)?;
    make(&place, how, user, ids, alone)
        .map_err(|why| Fault::new(HomeFault::NotCreated, &format!("{place} could not be created: {why}")))
}

fn make(place: &Place<'_>, how: &Create, user: &UserName, ids: Ids, alone: bool) -> Result<(), String> {
    let owner = how.owner.unwrap_or(ids);
    if owner.uid() != ids.uid() {
        return Err(format!(
            "homes.owner would give it to uid {}, the session has uid {}; leave homes.owner unset, or set \
             accounts.uid = \"home\"",
            owner.uid(),
            ids.uid()
        ));
    }
    let (parent, name) = parent(place)?;
    let Some((aside, new)) = Aside::directory(parent.as_fd(), &name)? else { return Ok(()) };
    let made = fill(new.home.as_fd(), how, user, owner, alone)
        .and_then(|()| aside.rename(&new.name, parent.as_fd(), &name));
    if made != Ok(true) {
        let _ = fs::remove_dir_all(aside.path().join(&new.name));
    }
    drop(new);
    aside.sweep();
    // Another login may be using it.
    let _ = unlinkat(&parent, ASIDE, UnlinkatFlags::RemoveDir);
    made.map(|_| ())
}

/// Opens the directory that the home will be in, and returns its name there. Only root may be able
/// to write to it: otherwise users decide what is found under a home's name.
fn parent(place: &Place<'_>) -> Result<(OwnedFd, PathBuf), String> {
    let name = place.relative.file_name().ok_or("its path has no name")?;
    let above = place.relative.parent().unwrap_or(Path::new(""));
    let shown = place.root.join(above);
    let shown = shown.display();
    let root = open_dir(place.root).map_err(|e| format!("{}: {}", place.root.display(), e.desc()))?;
    let parent = beneath(root.as_fd(), above).map_err(|e| match e {
        Errno::ENOENT => format!("{shown} does not exist, and only the last directory is made"),
        e => format!("{shown}: {}", e.desc()),
    })?;
    let found = fstat(&parent).map_err(|e| format!("{shown}: {}", e.desc()))?;
    if !is_roots_alone(&found) {
        return Err(format!(
            "{shown} is not root's alone (owner {}, mode {:04o})",
            found.st_uid,
            found.st_mode & 0o7777
        ));
    }
    Ok((parent, name.into()))
}

/// Makes a home of an empty directory: first its quota, so that copied files count.
fn fill(home: BorrowedFd<'_>, how: &Create, user: &UserName, owner: Ids, alone: bool) -> Result<(), String> {
    if let Some(limits) = how.quota {
        quota::limit_new(home, user, alone.then_some(owner.uid()), limits)?;
    }
    if let Some(skeleton) = &how.skeleton {
        Copying { owner, entries: 0, bytes: 0 }.directory(skeleton, home, 0)?;
    }
    give(home, owner, how.mode).map_err(|e| format!("owner and mode: {}", e.desc()))
}

fn give(fd: BorrowedFd<'_>, owner: Ids, mode: u32) -> nix::Result<()> {
    fchown(fd, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())))?;
    // After the owner: fchown(2) clears the set-user-ID and set-group-ID bits.
    fchmod(fd, Mode::from_bits_truncate(mode))
}

/// True if something exists under a home's name; a placeholder doesn't count.
fn is_there(parent: BorrowedFd<'_>, name: &Path) -> bool {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => !is_abandoned(parent, name, &found),
        Err(_) => false,
    }
}

/// True if a directory is a placeholder whose maker must have been killed.
fn is_abandoned(parent: BorrowedFd<'_>, name: &Path, found: &FileStat) -> bool {
    let made = Duration::from_secs(found.st_mtime.try_into().unwrap_or(u64::MAX));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let old = now.checked_sub(made).is_some_and(|age| age > RESERVED_TIME);
    old && fstat(parent).is_ok_and(|parent| is_reserved(found, &parent))
        && open(parent, name.as_os_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .is_ok_and(|dir| is_empty(dir.as_fd()))
}

/// A home that is being made.
struct New {
    home: OwnedFd,
    /// Its name in the staging directory.
    name: OsString,
    /// Keeps other logins away; `None` if directories cannot be locked, and then the name is
    /// unique.
    _lock: Option<Flock<OwnedFd>>,
}

/// The staging directory, in which homes are made.
struct Aside(OwnedFd);

impl Aside {
    /// Returns an empty directory in it that nobody else uses; `None` if another login has created
    /// the home meanwhile.
    fn directory(parent: BorrowedFd<'_>, name: &Path) -> Result<Option<(Self, New)>, String> {
        let failed = |e: Errno| format!("a directory in {ASIDE}: {}", e.desc());
        // Another login may remove either directory between any two of our calls.
        for _ in 0..TRIES {
            let Some(aside) = Self::open(parent)? else { continue };
            let new = aside.locked(name.as_os_str()).map_err(failed)?;
            if is_there(parent, name) {
                if let Some(new) = &new {
                    let _ = unlinkat(&aside.0, new.name.as_os_str(), UnlinkatFlags::RemoveDir);
                }
                let _ = unlinkat(parent, ASIDE, UnlinkatFlags::RemoveDir);
                return Ok(None);
            }
            if let Some(new) = new {
                aside.renew(&new).map_err(|e| format!("what is left in {ASIDE}: {e}"))?;
                return Ok(Some((aside, new)));
            }
        }
        Err(format!("{ASIDE} vanishes again and again"))
    }

    /// Makes and locks the directory for a home, waiting for another login's lock; `None` if it has
    /// vanished meanwhile.
    fn locked(&self, name: &OsStr) -> nix::Result<Option<New>> {
        let Some(home) = self.subdirectory(name)? else { return Ok(None) };
        let lock = home.try_clone().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EMFILE)))?;
        match lock_directory(lock, FlockArg::LockExclusive) {
            Ok(lock) => {
                // The previous holder of the lock has moved it into place, or removed it.
                let same = match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(there) => {
                        fstat(&home).is_ok_and(|f| (f.st_dev, f.st_ino) == (there.st_dev, there.st_ino))
                    }
                    Err(_) => false,
                };
                Ok(same.then(|| New { home, name: name.to_owned(), _lock: Some(lock) }))
            }
            // NFS cannot lock directories (flock(2)). Use a unique name; the sweep removes it if we
            // are killed.
            Err(_) => {
                let _ = unlinkat(&self.0, name, UnlinkatFlags::RemoveDir);
                let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos());
                let name = OsString::from(format!("{}.{now}", std::process::id()));
                Ok(self.subdirectory(&name)?.map(|home| New { home, name, _lock: None }))
            }
        }
    }

    fn subdirectory(&self, name: &OsStr) -> nix::Result<Option<OwnedFd>> {
        let made = match mkdirat(&self.0, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => open(self.0.as_fd(), name, OFlag::O_RDONLY | OFlag::O_DIRECTORY),
            Err(e) => Err(e),
        };
        match made {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes an interrupted home empty again, as if new. It keeps its quota project.
    fn renew(&self, new: &New) -> io::Result<()> {
        fchown(&new.home, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
        fchmod(&new.home, Mode::S_IRWXU)?;
        for entry in fs::read_dir(self.path().join(&new.name))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        // It no longer counts as abandoned.
        File::from(new.home.try_clone()?).set_modified(SystemTime::now())
    }

    /// Makes and opens the staging directory; `None` if it has vanished in between.
    fn open(parent: BorrowedFd<'_>) -> Result<Option<Self>, String> {
        match mkdirat(parent, ASIDE, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e @ (Errno::EACCES | Errno::EPERM)) => {
                return Err(format!(
                    "root may not write to its directory (an NFS export with root_squash?): {}",
                    e.desc()
                ));
            }
            Err(e) => return Err(format!("its directory: {}", e.desc())),
        }
        match open(parent, ASIDE.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(fd) => Self::checked(fd).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(format!("{ASIDE}: {}", e.desc())),
        }
    }

    fn checked(fd: OwnedFd) -> Result<Self, String> {
        let found = fstat(&fd).map_err(|e| format!("{ASIDE}: {}", e.desc()))?;
        if found.st_uid != 0 || found.st_mode & 0o077 != 0 {
            return Err(format!("{ASIDE} in its directory is not root's alone"));
        }
        Ok(Self(fd))
    }

    /// Returns its current path, even after a rename.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Removes homes left by killed logins, for example at a deadline, whose users have not come
    /// back.
    fn sweep(&self) {
        let start = Instant::now();
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        for entry in entries.take_while(|_| start.elapsed() < SWEEP_TIME) {
            let age = entry.metadata().and_then(|found| found.modified()).map(|made| made.elapsed());
            if !matches!(age, Ok(Ok(age)) if age > STALE) {
                continue;
            }
            let opened = open(self.0.as_fd(), &entry.file_name(), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
            let lock = opened.and_then(|fd| lock_directory(fd, FlockArg::LockExclusiveNonblock));
            if !matches!(lock, Err(Errno::EWOULDBLOCK)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Moves a finished home into place. False if another login was faster.
    fn rename(&self, from: &OsStr, parent: BorrowedFd<'_>, to: &Path) -> Result<bool, String> {
        match renameat2(&self.0, from, parent, to, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EINVAL | Errno::EEXIST) => self.rename_plainly(from, parent, to),
            other => other,
        }
        .map(|()| true)
        .or_else(|e| match e {
            Errno::EEXIST | Errno::ENOTEMPTY => Ok(false),
            e => Err(format!("renaming it into its place: {}", e.desc())),
        })
    }

    /// Does the same on file systems without `RENAME_NOREPLACE`, such as NFS: an empty directory,
    /// which rename(2) may replace, reserves the name. For that moment the home belongs to root,
    /// and a second login goes without it. A placeholder left by a login that was killed in that
    /// moment is replaced too.
    fn rename_plainly(&self, from: &OsStr, parent: BorrowedFd<'_>, to: &Path) -> nix::Result<()> {
        match mkdirat(parent, to, Mode::S_IRWXU) {
            Err(Errno::EEXIST) if !is_there(parent, to) => {}
            other => other?,
        }
        renameat(&self.0, from, parent, to).inspect_err(|_| {
            let _ = unlinkat(parent, to, UnlinkatFlags::RemoveDir);
        })
    }
}

/// Locks a directory (flock(2)) for as long as the result lives.
fn lock_directory(fd: OwnedFd, how: FlockArg) -> nix::Result<Flock<OwnedFd>> {
    let mut fd = fd;
    loop {
        match Flock::lock(fd, how) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => fd = again,
            Err((_, e)) => return Err(e),
        }
    }
}

/// A skeleton being copied.
struct Copying {
    owner: Ids,
    entries: usize,
    bytes: u64,
}

impl Copying {
    /// Copies the content of `from`, a directory of the administrator's, into `to`, which only root
    /// can enter.
    fn directory(&mut self, from: &Path, to: BorrowedFd<'_>, depth: usize) -> Result<(), String> {
        let failed =
            |path: &Path, e: &dyn std::fmt::Display| format!("homes.skeleton {}: {e}", path.display());
        if depth > MAX_DEPTH {
            return Err(failed(from, &format_args!("nested more than {MAX_DEPTH} deep")));
        }
        for entry in fs::read_dir(from).map_err(|e| failed(from, &e))? {
            let entry = entry.map_err(|e| failed(from, &e))?;
            let path = entry.path();
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(failed(&path, &format_args!("more than {MAX_ENTRIES} files")));
            }
            self.entry(&path, &entry.file_name(), to, depth).map_err(|e| match e {
                Refused::Told(why) => why,
                Refused::Here(e) => failed(&path, &e),
            })?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, name: &OsStr, to: BorrowedFd<'_>, depth: usize) -> Result<(), Refused> {
        let found = fs::symlink_metadata(from)?;
        let mode = found.mode() & 0o777;
        if found.is_dir() {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let dir = open(to, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            self.directory(from, dir.as_fd(), depth + 1).map_err(Refused::Told)?;
            give(dir.as_fd(), self.owner, mode)?;
        } else if found.is_symlink() {
            symlinkat(&fs::read_link(from)?, to, name)?;
            let (uid, gid) = (Uid::from_raw(self.owner.uid()), Gid::from_raw(self.owner.gid()));
            fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        } else {
            self.file(from, name, to, mode)?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, name: &OsStr, to: BorrowedFd<'_>, mode: u32) -> Result<(), Refused> {
        // O_NONBLOCK: a fifo that has replaced the file must not block us.
        let source =
            File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(from)?;
        if !source.metadata()?.is_file() {
            return Err(io::Error::other("neither a file, a directory nor a link").into());
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut target = File::from(open(to, name, flags)?);
        self.bytes += io::copy(&mut source.take(MAX_BYTES - self.bytes + 1), &mut target)?;
        if self.bytes > MAX_BYTES {
            return Err(io::Error::other(format!("more than {MAX_BYTES} bytes in all")).into());
        }
        Ok(give(target.as_fd(), self.owner, mode)?)
    }
}

/// Why an entry was not copied.
enum Refused {
    /// The error, which already contains the path.
    Told(String),
    /// An error of this entry.
    Here(io::Error),
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        Self::Here(e)
    }
}

impl From<Errno> for Refused {
    fn from(e: Errno) -> Self {
        Self::Here(e.into())
    }
}

fn open(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(dir, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::S_IRUSR | Mode::S_IWUSR)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::open::tests::{alice, homes, ids, root};
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// Makes a directory of homes with `more` in `[homes]`; `None` without root, which these tests
    /// need.
    fn site(more: &str) -> Option<(tempfile::TempDir, Homes)> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("homes")).unwrap();
        fs::set_permissions(dir.path().join("homes"), Permissions::from_mode(0o755)).unwrap();
        let homes = homes(&dir.path().join("homes"), &format!("missing = 'create'\n{more}"));
        root().then_some((dir, homes))
    }

    fn refusal(homes: &Homes) -> String {
        let fault = create(homes, &alice(), ids(20_001), false).unwrap_err();
        assert_eq!(fault.kind, HomeFault::NotCreated);
        fault.detail
    }

    #[test]
    fn a_home_has_its_owner_mode_and_skeleton() {
        let Some((dir, mut homes)) = site("mode = '2750'") else { return };
        homes.create.as_mut().unwrap().owner = Some(Ids::new(20_001, 100).unwrap());
        let skeleton = dir.path().join("skel");
        fs::create_dir_all(skeleton.join("a b/c")).unwrap();
        fs::write(skeleton.join(".profile"), "umask 022\n").unwrap();
        fs::write(skeleton.join("a b/run"), "x").unwrap();
        fs::set_permissions(skeleton.join("a b/run"), Permissions::from_mode(0o4755)).unwrap();
        symlink("/etc/passwd", skeleton.join("a b/link")).unwrap();
        homes.create.as_mut().unwrap().skeleton = Some(skeleton);
        create(&homes, &alice(), ids(20_001), false).unwrap();
        let home = homes.root.join("alice");
        for (name, mode) in
            [("", 0o2750), (".profile", 0o644), ("a b", 0o755), ("a b/c", 0o755), ("a b/run", 0o755)]
        {
            let found = fs::symlink_metadata(home.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (20_001, 100, mode), "{name:?}");
        }
        assert_eq!(fs::read_to_string(home.join(".profile")).unwrap(), "umask 022\n");
        assert_eq!(fs::read_link(home.join("a b/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::symlink_metadata(home.join("a b/link")).unwrap().uid(), 20_001);
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1, "nothing is left aside");
        assert!(super::super::open(&homes, &alice(), Some(ids(20_001))).is_ok());
    }

    #[test]
    fn what_is_there_stays() {
        let Some((_dir, homes)) = site("") else { return };
        fs::create_dir(homes.root.join("alice")).unwrap();
        fs::write(homes.root.join("alice/file"), "").unwrap();
        create(&homes, &alice(), ids(20_001), false).unwrap();
        assert_eq!(fs::metadata(homes.root.join("alice")).unwrap().uid(), 0);
        assert!(homes.root.join("alice/file").exists());
        fs::remove_dir_all(homes.root.join("alice")).unwrap();
        symlink("/etc", homes.root.join("alice")).unwrap();
        create(&homes, &alice(), ids(20_001), false).unwrap();
        assert!(super::super::open(&homes, &alice(), Some(ids(20_001))).is_err(), "a link is not a home");
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1);
    }

    #[test]
    fn one_of_many_at_once_makes_it() {
        let Some((_dir, homes)) = site("") else { return };
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    create(&homes, &alice(), ids(20_001), false).unwrap();
                    super::super::open(&homes, &alice(), Some(ids(20_001))).unwrap();
                });
            }
        });
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1);
    }

    #[test]
    fn only_where_root_alone_decides() {
        let Some((_dir, homes)) = site("template = 'class/{username}'") else { return };
        assert!(refusal(&homes).contains("only the last directory is made"), "{}", refusal(&homes));
        let class = homes.root.join("class");
        fs::create_dir(&class).unwrap();
        for mode in [0o775, 0o1777] {
            fs::set_permissions(&class, Permissions::from_mode(mode)).unwrap();
            assert!(refusal(&homes).contains("not root's alone"), "{}", refusal(&homes));
        }
        fs::set_permissions(&class, Permissions::from_mode(0o755)).unwrap();
        chown(&class, Some(20_001), None).unwrap();
        assert!(refusal(&homes).contains("not root's alone"), "{}", refusal(&homes));
        fs::remove_dir(&class).unwrap();
        symlink("/tmp", &class).unwrap();
        refusal(&homes);
        fs::remove_file(&class).unwrap();
        fs::create_dir(&class).unwrap();
        create(&homes, &alice(), ids(20_001), false).unwrap();
        assert_eq!(fs::metadata(class.join("alice")).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn an_owner_that_is_not_the_session_is_a_fault_of_the_configuration() {
        let Some((_dir, mut homes)) = site("") else { return };
        homes.create.as_mut().unwrap().owner = Some(ids(20_002));
        assert!(refusal(&homes).contains("homes.owner"), "{}", refusal(&homes));
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 0);
    }

    #[test]
    fn a_quota_that_cannot_be_set_is_no_home() {
        let Some((_dir, homes)) = site("quota = ['1G', '2G']") else { return };
        let proc = fs::File::open(&homes.root).unwrap();
        if quota::support(proc.as_fd()).unwrap() != quota::Support::default() {
            return;
        }
        assert!(refusal(&homes).contains("prjquota"), "{}", refusal(&homes));
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_bad_skeleton_is_no_home() {
        let Some((dir, mut homes)) = site("") else { return };
        let skeleton = dir.path().join("skel");
        homes.create.as_mut().unwrap().skeleton = Some(skeleton.clone());
        assert!(refusal(&homes).contains("homes.skeleton"), "none: {}", refusal(&homes));
        fs::create_dir(&skeleton).unwrap();
        let fifo = skeleton.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(refusal(&homes).contains("neither a file"), "{}", refusal(&homes));
        fs::remove_file(&fifo).unwrap();
        let large = File::create(skeleton.join("large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(refusal(&homes).contains("bytes in all"), "{}", refusal(&homes));
        fs::remove_file(skeleton.join("large")).unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        fs::create_dir_all(skeleton.join(deep)).unwrap();
        assert!(refusal(&homes).contains("deep"), "{}", refusal(&homes));
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 0, "nothing is left");
    }

    /// Makes a directory in the staging directory, as a killed login leaves it.
    fn left_aside(homes: &Homes, name: &str, age: Duration) -> PathBuf {
        let aside = homes.root.join(ASIDE);
        fs::create_dir_all(aside.join(name).join("x/y")).unwrap();
        symlink("/etc", aside.join(name).join("link")).unwrap();
        fs::set_permissions(&aside, Permissions::from_mode(0o700)).unwrap();
        File::open(aside.join(name)).unwrap().set_modified(SystemTime::now() - age).unwrap();
        aside.join(name)
    }

    #[test]
    fn what_a_killed_login_left_is_taken_up() {
        let Some((_dir, homes)) = site("") else { return };
        let left = left_aside(&homes, "alice", Duration::ZERO);
        chown(&left, Some(20_002), Some(20_002)).unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o777)).unwrap();
        let inode = fs::metadata(&left).unwrap().ino();
        create(&homes, &alice(), ids(20_001), false).unwrap();
        let found = fs::metadata(homes.root.join("alice")).unwrap();
        assert_eq!(
            (found.ino(), found.uid(), found.mode() & 0o7777),
            (inode, 20_001, 0o700),
            "and its project"
        );
        assert_eq!(fs::read_dir(homes.root.join("alice")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1);
    }

    #[test]
    fn who_finds_it_locked_waits_and_takes_the_winners() {
        let Some((_dir, homes)) = site("") else { return };
        let left = left_aside(&homes, "alice", Duration::ZERO);
        let lock = lock_directory(File::open(&left).unwrap().into(), FlockArg::LockExclusive).unwrap();
        let inode = fs::metadata(&left).unwrap().ino();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| create(&homes, &alice(), ids(20_001), false));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!second.is_finished() && left.join("x/y").exists());
            fs::rename(&left, homes.root.join("alice")).unwrap();
            drop(lock);
            second.join().unwrap().unwrap();
        });
        assert_eq!(fs::metadata(homes.root.join("alice")).unwrap().ino(), inode);
        assert!(homes.root.join("alice/x/y").exists(), "untouched");
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1);
    }

    #[test]
    fn when_the_first_one_fails_the_next_one_makes_it() {
        let Some((_dir, homes)) = site("") else { return };
        let left = left_aside(&homes, "alice", Duration::ZERO);
        let lock = lock_directory(File::open(&left).unwrap().into(), FlockArg::LockExclusive).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| create(&homes, &alice(), ids(20_001), false));
            std::thread::sleep(Duration::from_millis(50));
            fs::remove_dir_all(&left).unwrap();
            drop(lock);
            second.join().unwrap().unwrap();
        });
        assert_eq!(fs::metadata(homes.root.join("alice")).unwrap().uid(), 20_001);
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1);
    }

    #[test]
    fn a_reserved_name_is_used() {
        let Some((_dir, homes)) = site("") else { return };
        let home = homes.root.join("alice");
        let old = SystemTime::now() - RESERVED_TIME * 2;
        let reserve = |at: SystemTime| {
            fs::create_dir(&home).unwrap();
            fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
            File::open(&home).unwrap().set_modified(at).unwrap();
        };
        let owner = || {
            create(&homes, &alice(), ids(20_001), false).unwrap();
            fs::metadata(&home).unwrap().uid()
        };
        reserve(SystemTime::now());
        assert_eq!(owner(), 0, "somebody may be about to use it");
        File::open(&home).unwrap().set_modified(old).unwrap();
        assert_eq!(super::super::open(&homes, &alice(), None).unwrap_err().kind, HomeFault::Missing);
        assert_eq!(owner(), 20_001);
        assert!(super::super::open(&homes, &alice(), Some(ids(20_001))).is_ok());
        fs::remove_dir(&home).unwrap();
        reserve(old);
        fs::write(home.join("file"), "").unwrap();
        File::open(&home).unwrap().set_modified(old).unwrap();
        assert_eq!(owner(), 0, "not empty");
        assert!(home.join("file").exists());
        assert_eq!(fs::read_dir(&homes.root).unwrap().count(), 1);
    }

    #[test]
    fn whose_uid_is_nobody_elses() {
        for (accounts, homes, expected) in [
            ("uid = 'hash'", "", true),
            ("uid = 'fixed'\nfixed = [1000, 100]", "", false),
            ("uid = 'home'", "", true),
            ("uid = 'home'", "owner = [1000, 100]", false),
        ] {
            let text =
                format!("[accounts]\n{accounts}\n[homes]\nroot = '/srv/homes'\nmissing = 'create'\n{homes}");
            assert_eq!(owns_uid_alone(&Settings::parse(&text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn what_nobody_takes_up_is_removed_in_time() {
        let Some((_dir, homes)) = site("") else { return };
        let locked = left_aside(&homes, "carol", STALE * 2);
        let _lock = lock_directory(File::open(&locked).unwrap().into(), FlockArg::LockExclusive).unwrap();
        for (name, age) in [("bob", STALE * 2), ("2.2", Duration::ZERO)] {
            left_aside(&homes, name, age);
        }
        let aside = homes.root.join(ASIDE);
        create(&homes, &alice(), ids(20_001), false).unwrap();
        let mut left: Vec<_> = fs::read_dir(&aside).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2.2", "carol"]);
        fs::set_permissions(&aside, Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir(homes.root.join("alice")).unwrap();
        assert!(refusal(&homes).contains("not root's alone"), "{}", refusal(&homes));
    }

    #[test]
    fn without_noreplace_the_first_one_stays_too() {
        let Some((_dir, homes)) = site("") else { return };
        let parent = File::open(&homes.root).unwrap();
        for (expected, number) in [(Ok(()), 1), (Err(Errno::EEXIST), 2)] {
            let aside = Aside::open(parent.as_fd()).unwrap().unwrap();
            let new = aside.locked("alice".as_ref()).unwrap().unwrap();
            fs::write(aside.path().join("alice").join(number.to_string()), "").unwrap();
            assert_eq!(aside.rename_plainly(&new.name, parent.as_fd(), Path::new("alice")), expected);
        }
        assert!(homes.root.join("alice/1").exists() && !homes.root.join("alice/2").exists());
    }
}
