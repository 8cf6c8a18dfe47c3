//! The record of uids that sessions use, which the NSS module answers from in every process.

use accounts::paths::UID_DIR;
use accounts::uid::Ids;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown, symlink};
use std::path::Path;

/// Records that `ids` are `user`'s: a symbolic link that belongs to them, because making and replacing one is atomic and reading
/// one is a single system call. Users who share a uid (homes that all belong to 1000) share the record; the
/// latest login wins.
///
/// # Errors
/// The system's; `PermissionDenied` when the directory is not root's alone.
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
    // Its owner tells the NSS module the gid, so that it need not look at a home that may hang.
    lchown(&new, Some(uid), Some(gid)).and_then(|()| std::fs::rename(&new, &link)).inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

/// Makes sure that `dir` is a directory that only root can change; a missing one (with its parent) is made.
///
/// # Errors
/// As [`record`].
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
