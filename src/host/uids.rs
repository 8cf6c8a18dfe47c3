//! Records which user a uid belongs to, for the NSS module in every process, and finds this host's
//! own accounts that share such a uid.

use common::paths::UID_DIR;
use common::uid::Ids;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// The file of this host's own accounts (passwd(5)).
const PASSWD: &str = "/etc/passwd";
/// How much of it is read, in bytes.
const MAX_PASSWD: u64 = 8 * 1024 * 1024;
/// Most names that are reported, and most bytes of each.
const MAX_NAMES: usize = 8;
const MAX_NAME: usize = 64;

/// Returns this host's accounts that have a hub user's uid too: they own what the user owns, and
/// can end the user's processes. Read from passwd(5) alone, because a directory's server may hang,
/// and getpwuid(3) would ask our own module.
/// The account with the home `home` (The Littlest JupyterHub makes one for each user) is the user's
/// own, and is left out. `None` if the file cannot be read: this is only a hint for the
/// administrator.
#[must_use]
pub fn local_accounts(uid: u32, home: Option<&Path>) -> Vec<String> {
    names(&passwd(), uid, home)
}

/// An account of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, printable and limited in length.
    pub name: String,
    /// Its uid.
    pub uid: u32,
    /// Its home.
    pub dir: PathBuf,
}

/// Returns these accounts; only the first ones if there are many.
#[must_use]
pub fn local_accounts_that(are_meant: impl Fn(&Account) -> bool) -> Vec<Account> {
    accounts_of(&passwd(), are_meant)
}

fn passwd() -> Vec<u8> {
    let mut text = Vec::new();
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(PASSWD);
    let _ = file.and_then(|file| file.take(MAX_PASSWD).read_to_end(&mut text));
    text
}

/// For tests: as many as can be reported.
#[cfg(any(test, feature = "testing"))]
pub fn most_names() -> Vec<String> {
    names(&format!("{}:x:7:\n", "\"".repeat(2 * MAX_NAME)).repeat(2 * MAX_NAMES).into_bytes(), 7, None)
}

/// Returns the names with this uid and another home, in the order of the file.
fn names(passwd: &[u8], uid: u32, home: Option<&Path>) -> Vec<String> {
    accounts_of(passwd, |account| account.uid == uid && home != Some(account.dir.as_path()))
        .into_iter()
        .map(|account| account.name)
        .collect()
}

fn accounts_of(passwd: &[u8], are_meant: impl Fn(&Account) -> bool) -> Vec<Account> {
    let account = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let field = std::str::from_utf8(fields.get(2)?).ok()?;
        // Only a number in its canonical form counts.
        let uid = field.parse().ok().filter(|uid: &u32| uid.to_string() == field)?;
        let name = crate::homes::bounded(&String::from_utf8_lossy(fields.first()?), MAX_NAME);
        let dir = OsStr::from_bytes(fields.get(5).copied().unwrap_or_default()).into();
        Some(Account { name, uid, dir }).filter(&are_meant)
    };
    passwd.split(|byte| *byte == b'\n').filter_map(account).take(MAX_NAMES).collect()
}

/// Records that `ids` belong to `user`: in a symbolic link owned by `ids`, because making and
/// replacing one is atomic and reading one is a single system call. Users who share a uid (homes
/// that all belong to 1000) share the record; the latest login wins.
///
/// # Errors
/// The link cannot be made; `PermissionDenied` if users other than root can change the directory.
pub fn record(ids: Ids, user: &str) -> io::Result<()> {
    record_in(Path::new(UID_DIR), ids, user)
}

fn record_in(dir: &Path, ids: Ids, user: &str) -> io::Result<()> {
    let (uid, gid) = (ids.uid(), ids.gid());
    make_dir(dir)?;
    let link = dir.join(uid.to_string());
    let same_owner = || std::fs::symlink_metadata(&link).is_ok_and(|m| (m.uid(), m.gid()) == (uid, gid));
    if std::fs::read_link(&link).is_ok_and(|name| name.as_os_str() == user) && same_owner() {
        return Ok(());
    }
    // A name of our own, then rename(2): a reader sees the old or the new name, never none.
    let new = dir.join(format!(".{uid}.{}", std::process::id()));
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(user, &new)?;
    // Its owner tells the NSS module the gid, which then need not look at a home that may hang.
    lchown(&new, Some(uid), Some(gid)).and_then(|()| std::fs::rename(&new, &link)).inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

/// Makes sure that only root can change the directory `dir`; creates it, and its parent, if
/// missing.
///
/// # Errors
/// The same as for [`record`].
pub fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let found = std::fs::symlink_metadata(dir)?;
    if found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} is not root's alone", dir.display())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_of_a_uid() {
        let passwd =
            b"root:x:0:0::/root:/bin/sh\ndebian:x:1000:1000::/:/bin/sh\n# x\n1000:x:1001:1000:1000\n\
            toor\xff\x1b:x:1000\nodd:x:01000:1::/:\n+:::1000\n\nlast:x:1000:";
        assert_eq!(names(passwd, 1000, None), ["debian", "toor\u{fffd}\\u{1b}", "last"]);
        assert_eq!(names(passwd, 1001, None), ["1000"]);
        // The user's own account on this host.
        let home = Some(Path::new("/"));
        assert_eq!(names(passwd, 1000, home), ["toor\u{fffd}\\u{1b}", "last"]);
        assert!(names(passwd, 1002, None).is_empty() && names(b"", 0, None).is_empty());
        assert_eq!(names(&b"a:x:7:\n".repeat(20), 7, None).len(), MAX_NAMES);
        assert_eq!(local_accounts(0, None).first().unwrap(), "root");
        let root = accounts_of(passwd, |account| account.dir == Path::new("/root"));
        assert_eq!(root, [Account { name: "root".to_owned(), uid: 0, dir: "/root".into() }]);
    }

    #[test]
    fn the_latest_login_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let uids = dir.path().join("run/uids");
        for user in ["alice", "alice", "bob@example.org"] {
            let ids = Ids::new(1000, 100).unwrap();
            record_in(&uids, ids, user).unwrap();
            let link = std::fs::symlink_metadata(uids.join("1000")).unwrap();
            assert_eq!((link.uid(), link.gid()), (1000, 100));
            assert_eq!(std::fs::read_link(uids.join("1000")).unwrap().as_os_str(), user);
        }
        assert_eq!(std::fs::read_dir(&uids).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(
            record_in(dir.path(), Ids::new(1000, 100).unwrap(), "alice").unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        assert!(make_dir(&dir.path().join("link")).is_err());
    }
}
