//! Reads a file of keys safely: what is read is what was checked.
//!
//! A user who can write to such a file can let others log in, so its owner and mode must satisfy
//! the rules of sshd's StrictModes.
//! Each step is opened beneath the descriptor of the directory checked before it, and follows no
//! link.

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

/// Size limit of a file of keys, in bytes.
pub const MAX_FILE: usize = 256 << 10;

/// Reads the file `name` in a directory; `None` if there is none. The file may belong to root or to
/// `owner`.
/// `shown` is its path, for messages. Blocks for as long as the file system does.
///
/// # Errors
/// One line for the log: not a regular file, writable by others, longer than [`MAX_FILE`], or an
/// error of the file system.
pub(crate) fn read(
    dir: BorrowedFd<'_>,
    name: &str,
    shown: &str,
    owner: u32,
) -> Result<Option<Vec<u8>>, String> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    // Without O_NONBLOCK, opening a fifo would wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = match openat2(dir, name, OpenHow::new().flags(flags).resolve(resolve)) {
        Err(Errno::ENOENT) => return Ok(None),
        opened => opened.map_err(|error| failed(shown, error))?,
    };
    if SFlag::from_bits_truncate(check(file.as_fd(), shown, owner)?.st_mode & SFlag::S_IFMT.bits())
        != SFlag::S_IFREG
    {
        return Err(format!("{shown} is not a regular file"));
    }
    let mut text = Vec::new();
    // One more byte shows whether the file is longer than the limit.
    let length = File::from(file).take(MAX_FILE as u64 + 1).read_to_end(&mut text);
    match length {
        Ok(length) if length <= MAX_FILE => Ok(Some(text)),
        Ok(_) => Err(format!("{shown} is longer than {} KiB", MAX_FILE >> 10)),
        Err(error) => Err(format!("cannot read {shown}: {error}")),
    }
}

/// Checks that only root and `owner` can change a file, or the entries of a directory.
///
/// # Errors
/// One line for the log: others could change it, or its status cannot be read.
pub(crate) fn check(fd: BorrowedFd<'_>, shown: &str, owner: u32) -> Result<FileStat, String> {
    let found = fstat(fd).map_err(|error| failed(shown, error))?;
    if found.st_uid != 0 && found.st_uid != owner {
        Err(format!("{shown} belongs to uid {}, not to {}", found.st_uid, whom(owner)))
    } else if found.st_mode & 0o022 != 0 {
        Err(format!("others than its owner can write to {shown}: chmod go-w removes that"))
    } else {
        Ok(found)
    }
}

fn whom(owner: u32) -> String {
    if owner == 0 { "root".to_owned() } else { format!("uid {owner} or root") }
}

/// Describes an error on `shown` in one line.
#[must_use]
pub(crate) fn failed(shown: &str, error: Errno) -> String {
    match error {
        Errno::ELOOP => format!("{shown} is a symbolic link, which is not followed"),
        Errno::ENOTDIR => format!("{shown} is not a directory"),
        error => format!("cannot open {shown}: {}", error.desc()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn owner(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().uid()
    }

    fn look(dir: &Path, owner: u32) -> Result<Option<Vec<u8>>, String> {
        let opened = File::open(dir).unwrap();
        read(opened.as_fd(), "keys", "KEYS", owner)
    }

    #[test]
    fn a_file_is_read_if_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let me = owner(dir.path());
        assert_eq!(look(dir.path(), me), Ok(None));
        fs::write(dir.path().join("keys"), "text").unwrap();
        fs::set_permissions(dir.path().join("keys"), Permissions::from_mode(0o644)).unwrap();
        assert_eq!(look(dir.path(), me), Ok(Some(b"text".to_vec())));
        fs::write(dir.path().join("keys"), vec![b'x'; MAX_FILE]).unwrap();
        assert_eq!(look(dir.path(), me).unwrap().unwrap().len(), MAX_FILE);
        fs::write(dir.path().join("keys"), vec![b'x'; MAX_FILE + 1]).unwrap();
        assert_eq!(look(dir.path(), me).unwrap_err(), "KEYS is longer than 256 KiB");
        fs::write(dir.path().join("keys"), vec![b'x'; 10 << 20]).unwrap();
        assert_eq!(look(dir.path(), me).unwrap_err(), "KEYS is longer than 256 KiB");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (me, path) = (owner(dir.path()), dir.path().join("keys"));
        for target in ["/etc/passwd", "other", "nowhere", "/proc/self/environ"] {
            fs::write(dir.path().join("other"), "").unwrap();
            symlink(target, &path).unwrap();
            assert_eq!(look(dir.path(), me).unwrap_err(), "KEYS is a symbolic link, which is not followed");
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        assert_eq!(look(dir.path(), me).unwrap_err(), "KEYS is not a regular file");
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(look(dir.path(), me).unwrap_err(), "KEYS is not a regular file");
        fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(look(dir.path(), me).unwrap_err().starts_with("cannot open KEYS: "));
    }

    #[test]
    fn what_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (me, path) = (owner(dir.path()), dir.path().join("keys"));
        fs::write(&path, "").unwrap();
        for (mode, good) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false), (0o4755, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(look(dir.path(), me).is_ok(), good, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(
            look(dir.path(), me).unwrap_err(),
            "others than its owner can write to KEYS: chmod go-w removes that"
        );
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        if owner(dir.path()) != 0 {
            return;
        }
        let path = dir.path().join("keys");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(look(dir.path(), 20_001).is_ok(), "root's");
        chown(&path, Some(20_001), None).unwrap();
        assert!(look(dir.path(), 20_001).is_ok());
        assert_eq!(
            look(dir.path(), 20_002).unwrap_err(),
            "KEYS belongs to uid 20001, not to uid 20002 or root"
        );
        assert_eq!(look(dir.path(), 0).unwrap_err(), "KEYS belongs to uid 20001, not to root");
    }
}
