//! Reads keys from the source `file`: an administrator's directory with one file per user.

use super::file;
use common::UserName;
use host::homes::open::open_dir;
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::path::Path;

/// Reads the file named after the user; `None` if there is none. Blocks for as long as the file
/// system does.
///
/// # Errors
/// One line for the log: a user other than root could have changed the file, it is a symbolic link,
/// or this process may not read it.
pub fn read(directory: &Path, user: &UserName) -> Result<Option<Vec<u8>>, String> {
    read_as(directory, user, 0)
}

/// Does the work of [`read`]; `owner` is root except in tests.
fn read_as(directory: &Path, user: &UserName, owner: u32) -> Result<Option<Vec<u8>>, String> {
    let shown = format!("keys.directory {}", directory.display());
    let opened = open_dir(directory).map_err(|error| readable_by_all(&shown, error))?;
    file::check(opened.as_fd(), &shown, owner)?;
    let path = directory.join(user.as_str()).display().to_string();
    file::read(opened.as_fd(), user.as_str(), &path, owner)
}

/// Adds to an error that users read these files as themselves, which an administrator may not
/// expect of a directory in /etc.
fn readable_by_all(shown: &str, error: Errno) -> String {
    let hint = if error == Errno::EACCES { ": users need the right to enter it, chmod 755" } else { "" };
    file::failed(shown, error) + hint
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn each_user_has_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let keys = dir.path().join("keys");
        let look = |user: &str| read_as(&keys, &UserName::parse(user).unwrap(), me);
        assert!(look("alice").unwrap_err().starts_with("cannot open keys.directory /"));
        fs::create_dir(&keys).unwrap();
        fs::set_permissions(&keys, Permissions::from_mode(0o755)).unwrap();
        for name in ["alice", "bob@example.org"] {
            assert_eq!(look(name), Ok(None));
            fs::write(keys.join(name), name).unwrap();
            fs::set_permissions(keys.join(name), Permissions::from_mode(0o644)).unwrap();
            assert_eq!(look(name), Ok(Some(name.as_bytes().to_vec())));
        }
        symlink("alice", keys.join("carol")).unwrap();
        assert!(look("carol").unwrap_err().ends_with("carol is a symbolic link, which is not followed"));
        fs::set_permissions(keys.join("alice"), Permissions::from_mode(0o664)).unwrap();
        assert!(look("alice").unwrap_err().contains("can write to /"));
        fs::set_permissions(&keys, Permissions::from_mode(0o777)).unwrap();
        assert!(look("bob@example.org").unwrap_err().contains("can write to keys.directory /"));
    }

    #[test]
    fn the_directory_may_be_reached_by_links_of_the_administrators() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::set_permissions(dir.path().join("real"), Permissions::from_mode(0o755)).unwrap();
        symlink("real", dir.path().join("keys")).unwrap();
        assert_eq!(read_as(&dir.path().join("keys"), &UserName::parse("alice").unwrap(), me), Ok(None));
        assert!(readable_by_all("x", Errno::EACCES).ends_with("chmod 755"));
    }
}
