//! The owner of a user's home, for the uid rule `home`.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::child::{self, Answer};
use crate::ffi;

/// How long a file system may take to say whose a home is. The login waits for that long at most, once.
pub const LIMIT: Duration = Duration::from_secs(2);

/// What a file system that is out of order answers (errno(3)): a network or a server that is away, a handle that
/// has become stale, a disk that fails. The home may well be there.
const OUTAGES: [i32; 13] = [
    libc::EIO,
    libc::ESTALE,
    libc::ETIMEDOUT,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::ECONNABORTED,
    libc::ENOTCONN,
    libc::EREMOTEIO,
    libc::ESHUTDOWN,
];

/// The uid and gid that own a home; `None`: there is no home. An error says what is wrong and what to do, in one line.
pub type Owner = Result<Option<(u32, u32)>, String>;

/// The uid and gid that own the directory `relative` beneath `root`; `None` when it does not exist.
///
/// `root` is the administrator's and may contain links. Of what lies beneath, nothing may be a link: with a
/// template such as `{username}/work` a user could point one at somebody else's home and become its owner. No
/// permission to read is needed, as root has none on an NFS export with root_squash.
///
/// # Errors
/// The home, or the way to it, is not as it must be, or the file system does not answer in time.
pub fn owner(root: &Path, relative: &str) -> Owner {
    let way = Way {
        root: Name::new(root.as_os_str().as_bytes()).map_err(|error| error.to_string())?,
        home: Name::new(relative.as_bytes()).map_err(|error| error.to_string())?,
    };
    let answer = child::ask(LIMIT, || encode(way.look())).map_err(|failure| match failure {
        child::Failure::Late(_) => outage(&failure),
        child::Failure::Broken(_) => failure.to_string(),
    })?;
    decode(answer).map_err(|error| match error.raw_os_error() {
        Some(errno) if OUTAGES.contains(&errno) => outage(&error),
        _ => format!("{error}. It must be a directory that can be reached without symbolic links"),
    })
}

fn outage(why: &dyn fmt::Display) -> String {
    format!("{why}: look after its file system")
}

/// The names that lead to a home, ready for a child that must not allocate.
struct Way {
    root: Name,
    home: Name,
}

impl Way {
    fn look(&self) -> io::Result<Option<(u32, u32)>> {
        // Without its root the whole file system of homes is missing, not one home: an error.
        let root = self.root.open(None)?;
        match self.home.open(Some(root.as_fd())) {
            Ok(home) => ffi::owner(home.as_fd()).map(Some),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The name of a directory, alone and as a way through it.
struct Name {
    plain: CString,
    through: CString,
}

impl Name {
    fn new(name: &[u8]) -> Result<Self, std::ffi::NulError> {
        Ok(Self { plain: CString::new(name)?, through: CString::new([name, b"/."].concat())? })
    }

    /// Opens it. A directory that autofs(5) has yet to mount is mounted by passing through it: whose the empty
    /// one beneath is says nothing. That needs the permission to search it, which root lacks where it is squashed
    /// and the home is its owner's alone; then it has long been mounted.
    fn open(&self, beneath: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
        let open = |name: &CStr| ffi::open_directory(beneath, name);
        match open(&self.through) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => open(&self.plain),
            opened => opened,
        }
    }
}

/// Three numbers: what it is, and the uid and gid or the error.
fn encode(found: io::Result<Option<(u32, u32)>>) -> Answer {
    let [kind, first, second] = match found {
        Ok(Some((uid, gid))) => [0, uid, gid],
        Ok(None) => [1, 0, 0],
        Err(error) => [2, error.raw_os_error().unwrap_or(libc::EIO).unsigned_abs(), 0],
    };
    let mut answer = Answer::default();
    for (place, number) in answer.chunks_exact_mut(4).zip([kind, first, second]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    answer
}

fn decode(answer: Answer) -> io::Result<Option<(u32, u32)>> {
    let [k0, k1, k2, k3, a0, a1, a2, a3, b0, b1, b2, b3] = answer;
    let number = |bytes| u32::from_ne_bytes(bytes);
    let (first, second) = (number([a0, a1, a2, a3]), number([b0, b1, b2, b3]));
    match number([k0, k1, k2, k3]) {
        0 => Ok(Some((first, second))),
        1 => Ok(None),
        _ => Err(io::Error::from_raw_os_error(i32::try_from(first).unwrap_or(libc::EIO))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

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
        for relative in ["bob", "bob/work", "file", "file/x", "alice/work/\0", "../homes/alice", "/"] {
            assert!(matches!(owner(&root, relative), Err(_)), "{relative:?}");
        }
        assert!(matches!(owner(&dir.path().join("none"), "alice"), Err(_)));
    }

    #[test]
    fn an_answer_survives_the_way() {
        for found in [Some((0, 0)), Some((1000, 100)), Some((u32::MAX, 1)), None] {
            assert_eq!(decode(encode(Ok(found))).unwrap(), found);
        }
        for errno in [libc::ESTALE, libc::ELOOP] {
            let error = decode(encode(Err(io::Error::from_raw_os_error(errno)))).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno));
        }
        assert!(decode([0xff; 12]).is_err());
    }
}
