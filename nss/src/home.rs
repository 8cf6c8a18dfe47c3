//! The owner of a user's home, for the uid rule `home`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::ffi::open_directory;

/// The uid and gid that own the directory `relative` beneath `root`; `None` when it does not exist.
///
/// `root` is the administrator's and may contain links. Of what lies beneath, nothing may be a link: with a
/// template such as `{username}/work` a user could point one at somebody else's home and become its owner.
/// Each component is opened in the one before it, with O_PATH: no permission to read is needed, as root has
/// none on an NFS export with root_squash.
///
/// # Errors
/// A component is a link or no directory, or the file system does not answer properly. A hanging NFS server
/// makes this wait, in sshd's process for this login.
pub fn owner(root: &Path, relative: &str) -> io::Result<Option<(u32, u32)>> {
    let root = CString::new(root.as_os_str().as_bytes())?;
    // Without its root the whole file system of homes is missing, not one home: an error.
    let mut directory = open_directory(None, &root, true)?;
    for name in relative.split('/') {
        directory = match open_directory(Some(directory.as_fd()), &CString::new(name)?, false) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
    }
    let facts = File::from(directory).metadata()?;
    Ok(Some((facts.uid(), facts.gid())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_real_directories_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("homes");
        fs::create_dir_all(root.join("alice/work")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("alice", root.join("bob")).unwrap();
        symlink(&root, dir.path().join("link")).unwrap();
        let facts = fs::metadata(dir.path()).unwrap();
        let expected = Some((facts.uid(), facts.gid()));
        assert_eq!(owner(&root, "alice").unwrap(), expected);
        assert_eq!(owner(&root, "alice/work").unwrap(), expected);
        assert_eq!(owner(&dir.path().join("link"), "alice").unwrap(), expected);
        assert_eq!(owner(&root, "carol").unwrap(), None);
        assert_eq!(owner(&root, "alice/home").unwrap(), None);
        for relative in ["bob", "bob/work", "file", "file/x", "alice/work/\0"] {
            assert!(owner(&root, relative).is_err(), "{relative:?}");
        }
        assert!(owner(&dir.path().join("none"), "alice").is_err());
    }
}
