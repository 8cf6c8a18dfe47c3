//! Reads keys from the source `home`: `.ssh/authorized_keys` in the user's home on this host.

use super::file;
use common::UserName;
use common::homes::Homes;
use host::homes;
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::path::Path;
use wire::claim::HomeFault;

/// Reads the file as this process, which should run as the user (`uid`): root may not be able to
/// read it on a file server.
/// `None` if there is none. Blocks for as long as the file system does.
///
/// # Errors
/// One line for the log: others could have changed the file, a symbolic link is in the way, or an
/// error of the file system.
pub fn read(homes: &Homes, user: &UserName, uid: u32) -> Result<Option<Vec<u8>>, String> {
    homes::claim::look(Path::new(homes::claim::CLAIMS), homes, user).map_err(|fault| fault.detail)?;
    let home = match homes::open(homes, user, None) {
        // The login will create it.
        Err(fault) if fault.kind == HomeFault::Missing => return Ok(None),
        opened => opened.map_err(|fault| fault.detail)?,
    };
    let shown = homes::open::path(homes, user);
    file::check(home.as_fd(), &shown, uid)?;
    let shown = format!("{shown}/.ssh");
    let ssh = match homes::open::beneath(home.as_fd(), Path::new(".ssh")) {
        Err(Errno::ENOENT) => return Ok(None),
        opened => opened.map_err(|error| file::failed(&shown, error))?,
    };
    file::check(ssh.as_fd(), &shown, uid)?;
    file::read(ssh.as_fd(), "authorized_keys", &format!("{shown}/authorized_keys"), uid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    fn look(root: &Path, uid: u32) -> Result<Option<Vec<u8>>, String> {
        let text = format!("[homes]\nroot = '{}'", root.display());
        let homes = common::Settings::parse(&text).unwrap().homes.unwrap();
        read(&homes, &UserName::parse("alice").unwrap(), uid)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_home_without_keys_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        assert_eq!(look(dir.path(), me), Ok(None));
        fs::create_dir(dir.path().join("alice")).unwrap();
        set_mode(&dir.path().join("alice"), 0o755);
        assert_eq!(look(dir.path(), me), Ok(None));
        fs::create_dir(dir.path().join("alice/.ssh")).unwrap();
        set_mode(&dir.path().join("alice/.ssh"), 0o700);
        assert_eq!(look(dir.path(), me), Ok(None));
        fs::write(dir.path().join("alice/.ssh/authorized_keys"), "keys").unwrap();
        set_mode(&dir.path().join("alice/.ssh/authorized_keys"), 0o600);
        assert_eq!(look(dir.path(), me), Ok(Some(b"keys".to_vec())));
        assert!(look(&dir.path().join("nowhere"), me).unwrap_err().contains("homes.root"));
    }

    #[test]
    fn what_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let uid = if me == 0 { 20_001 } else { me };
        let home = dir.path().join("alice");
        let (ssh, keys) = (home.join(".ssh"), home.join(".ssh/authorized_keys"));
        fs::create_dir_all(&ssh).unwrap();
        fs::write(&keys, "keys").unwrap();
        for path in [&home, &ssh, &keys] {
            set_mode(path, 0o755);
        }
        for path in [&home, &ssh, &keys] {
            for mode in [0o775, 0o757] {
                set_mode(path, mode);
                let why = look(dir.path(), uid).unwrap_err();
                assert!(why.contains(&format!("can write to {}: chmod", path.display())), "{why}");
            }
            set_mode(path, 0o755);
            if me == 0 {
                chown(path, Some(20_002), None).unwrap();
                let why = look(dir.path(), uid).unwrap_err();
                assert!(why.contains("belongs to uid 20002"), "{why}");
                chown(path, Some(uid), None).unwrap();
            }
        }
        assert_eq!(look(dir.path(), uid), Ok(Some(b"keys".to_vec())));
    }

    #[test]
    fn links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let (home, ssh) = (dir.path().join("alice"), dir.path().join("alice/.ssh"));
        fs::create_dir_all(dir.path().join("bob")).unwrap();
        fs::write(dir.path().join("bob/authorized_keys"), "keys").unwrap();
        fs::create_dir(&home).unwrap();
        set_mode(&home, 0o755);
        symlink("../bob", &ssh).unwrap();
        assert_eq!(
            look(dir.path(), me).unwrap_err(),
            format!("{} is a symbolic link, which is not followed", ssh.display())
        );
        fs::remove_file(&ssh).unwrap();
        fs::write(&ssh, "").unwrap();
        assert_eq!(look(dir.path(), me).unwrap_err(), format!("{} is not a directory", ssh.display()));
        fs::remove_file(&ssh).unwrap();
        fs::create_dir(&ssh).unwrap();
        set_mode(&ssh, 0o755);
        symlink("../../bob/authorized_keys", ssh.join("authorized_keys")).unwrap();
        assert!(look(dir.path(), me).unwrap_err().contains("authorized_keys is a symbolic link"));
        fs::remove_dir_all(&home).unwrap();
        symlink("bob", &home).unwrap();
        assert!(look(dir.path(), me).unwrap_err().contains("alice is a symbolic link"));
    }
}
