//! Finds the owner of a user's home, for the uid rule `home`: the user gets that uid.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::child::{self, Answer};
use crate::sys;

/// How long a file system may take to tell the owner of a home. A login waits for it once.
pub const LIMIT: Duration = Duration::from_secs(2);

/// The errors (errno(3)) of a file system that is out of order: a network or server that is away, a
/// stale file handle, a failing disk. The home may well exist.
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

/// The uid and gid that own a home, or `None` if it does not exist. An error says, in one line,
/// what is wrong and what to do.
pub type Owner = Result<Option<(u32, u32)>, String>;

/// Finds the uid and gid that own the directory `relative` beneath `root`.
///
/// `root` is the administrator's and may contain symbolic links. Beneath it none is followed: with
/// a template such as `{username}/work` a user could point one at another user's home and get that
/// user's uid. For the same reason each directory between the two must belong to root or to the
/// home's owner: its owner could move another user's directory there. No read permission is needed:
/// root has none on an NFS export with root_squash.
///
/// # Errors
/// The home or a directory above it breaks these rules, or the file system does not answer in time.
pub fn owner(root: &Path, relative: &str) -> Owner {
    let names = relative.split('/').map(|name| Name::new(name.as_bytes())).collect::<Result<_, _>>();
    let way = Way {
        root: Name::new(root.as_os_str().as_bytes()).map_err(|error| error.to_string())?,
        names: names.map_err(|error| error.to_string())?,
    };
    let answer = child::ask(LIMIT, || encode(way.look())).map_err(|failure| match failure {
        child::Failure::Late(_) => outage(&failure),
        child::Failure::Broken(_) => failure.to_string(),
    })?;
    match decode(answer) {
        Ok(Found::Home(uid, gid)) => Ok(Some((uid, gid))),
        Ok(Found::Nothing) => Ok(None),
        Ok(Found::Stranger { way, home }) => Err(format!(
            "it belongs to uid {home}, and a directory on the way to it to uid {way}. Give both to its user"
        )),
        Err(error) if error.raw_os_error().is_some_and(|errno| OUTAGES.contains(&errno)) => {
            Err(outage(&error))
        }
        Err(error) => {
            Err(format!("{error}. It must be a directory that can be reached without symbolic links"))
        }
    }
}

fn outage(why: &dyn fmt::Display) -> String {
    format!("{why}: look after its file system")
}

/// What the child finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The owner and the group of the home.
    Home(u32, u32),
    /// There is no home.
    Nothing,
    /// A directory between root and home belongs neither to root nor to the owner of the home.
    Stranger { way: u32, home: u32 },
}

/// The path to a home, prepared for a child that must not allocate.
struct Way {
    root: Name,
    names: Vec<Name>,
}

impl Way {
    /// Walks the path, one directory at a time, so that each one was in its parent even if
    /// something is moved meanwhile.
    fn look(&self) -> io::Result<Found> {
        // A missing root is an error: the whole file system of homes is missing then, not one home.
        let mut directory = self.root.open(None)?;
        // Owners of the directories between, other than root: the first one, and one that differs
        // from it.
        let mut strangers = [None; 2];
        let mut last = None;
        for name in &self.names {
            match last {
                None | Some((0, _)) => {}
                Some((uid, _)) if strangers[0].is_none_or(|first| first == uid) => strangers[0] = Some(uid),
                Some((uid, _)) => strangers[1] = Some(uid),
            }
            directory = match name.open(Some(directory.as_fd())) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Found::Nothing),
                opened => opened?,
            };
            last = Some(sys::owner(directory.as_fd())?);
        }
        let Some((home, gid)) = last else { return Ok(Found::Nothing) };
        match strangers.into_iter().flatten().find(|uid| *uid != home) {
            Some(way) => Ok(Found::Stranger { way, home }),
            None => Ok(Found::Home(home, gid)),
        }
    }
}

/// The name of a directory, plain and with `/.` appended.
struct Name {
    plain: CString,
    through: CString,
}

impl Name {
    fn new(name: &[u8]) -> Result<Self, std::ffi::NulError> {
        Ok(Self { plain: CString::new(name)?, through: CString::new([name, b"/."].concat())? })
    }

    /// Opens the directory, passing through it first, so that autofs(5) mounts it: the owner of the
    /// mount point says nothing. That takes search permission, which a squashed root lacks on a
    /// private home; such a home is mounted already.
    fn open(&self, beneath: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
        let open = |name: &CStr| sys::open_directory(beneath, name);
        match open(&self.through) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => open(&self.plain),
            opened => opened,
        }
    }
}

/// Encodes as three numbers: the kind, then uid and gid, two uids, or the error.
fn encode(found: io::Result<Found>) -> Answer {
    let [kind, first, second] = match found {
        Ok(Found::Home(uid, gid)) => [0, uid, gid],
        Ok(Found::Nothing) => [1, 0, 0],
        Ok(Found::Stranger { way, home }) => [2, way, home],
        Err(error) => [3, error.raw_os_error().unwrap_or(libc::EIO).unsigned_abs(), 0],
    };
    let mut answer = Answer::default();
    for (place, number) in answer.chunks_exact_mut(4).zip([kind, first, second]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    answer
}

fn decode(answer: Answer) -> io::Result<Found> {
    let [k0, k1, k2, k3, a0, a1, a2, a3, b0, b1, b2, b3] = answer;
    let number = |bytes| u32::from_ne_bytes(bytes);
    let (first, second) = (number([a0, a1, a2, a3]), number([b0, b1, b2, b3]));
    match number([k0, k1, k2, k3]) {
        0 => Ok(Found::Home(first, second)),
        1 => Ok(Found::Nothing),
        2 => Ok(Found::Stranger { way: first, home: second }),
        _ => Err(io::Error::from_raw_os_error(i32::try_from(first).unwrap_or(libc::EIO))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};

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
            assert!(owner(&root, relative).is_err(), "{relative:?}");
        }
        assert!(owner(&dir.path().join("none"), "alice").is_err());
    }

    #[test]
    fn who_owns_the_way_owns_the_home() {
        let dir = tempfile::tempdir().unwrap();
        if fs::metadata(dir.path()).unwrap().uid() != 0 {
            return;
        }
        let home = dir.path().join("class/alice/work");
        fs::create_dir_all(&home).unwrap();
        for (class, alice, work, good) in [
            (0, 0, 1001, true),
            (0, 1001, 1001, true),
            (1001, 0, 1001, true),
            (1001, 1001, 1001, true),
            (0, 1002, 1001, false),
            (1002, 0, 1001, false),
            (1001, 1002, 1001, false),
            (1002, 1001, 1001, false),
            (1001, 1002, 1002, false),
            (0, 1002, 0, false),
        ] {
            for (directory, owner) in home.ancestors().zip([work, alice, class]) {
                chown(directory, Some(owner), Some(100)).unwrap();
            }
            match owner(dir.path(), "class/alice/work") {
                Ok(found) => assert_eq!((found, good), (Some((work, 100)), true), "{class} {alice} {work}"),
                Err(why) => assert!(!good && why.contains("on the way to it to uid 100"), "{why}"),
            }
        }
    }

    #[test]
    fn an_answer_survives_the_way() {
        let stranger = Found::Stranger { way: 1000, home: 1001 };
        for found in [Found::Home(0, 0), Found::Home(u32::MAX, 1), Found::Nothing, stranger] {
            assert_eq!(decode(encode(Ok(found))).unwrap(), found);
        }
        for errno in [libc::ESTALE, libc::ELOOP] {
            let error = decode(encode(Err(io::Error::from_raw_os_error(errno)))).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno));
        }
        assert!(decode([0xff; 12]).is_err());
    }
}
