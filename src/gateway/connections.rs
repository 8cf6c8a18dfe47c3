//! Counts a user's connections on this host (`session.max_connections`).
//!
//! Each connection is a lock (fcntl(2), F_OFD_SETLK) on one byte of a file that only root can open.
//! The byte lies beyond the file's end, at a place that depends on the user's name. A gateway opens
//! the file while it is root. When a gateway ends, for whatever reason, its lock is free; two that
//! start at the same time never get the same byte; and no other process on this host can take one.

use common::paths::{CONNECTIONS, RUN_DIR};
use common::{UserName, uid};
use host::config::MOST_CONNECTIONS as MOST;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Distance between the bytes of two users, each of whom has [`MOST`].
const STRIDE: u64 = 1024;
/// How long to wait for a place: the gateway of a connection that was just closed takes a moment to
/// end.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// The open file, and the connection that is counted in it while this value lives.
#[derive(Debug)]
pub struct Connections(io::Result<File>);

/// Why a connection is one too many, or cannot be counted.
#[derive(Debug)]
pub enum NoRoom {
    /// The user has as many connections as are allowed.
    Full,
    /// They could not be counted: the error, for the log.
    Unknown(io::Error),
}

impl Connections {
    /// Opens the file as root, in a process that forks no more: a child would hold the lock, too.
    #[must_use]
    pub fn open() -> Self {
        let directory = DirBuilder::new().recursive(true).mode(0o755).create(RUN_DIR);
        Self(directory.and_then(|()| Self::open_at(Path::new(CONNECTIONS))))
    }

    /// For writing only, which a lock takes: what cannot be read cannot be mapped, nor executed
    /// (mmap(2)).
    fn open_at(path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
    }

    /// Ends the count of this connection.
    pub fn forget(&mut self) {
        self.0 = Err(io::ErrorKind::NotConnected.into());
    }

    /// Counts a connection of `user`, if fewer than `most` are open.
    ///
    /// # Errors
    /// [`NoRoom`]: as many are open already, or they could not be counted.
    pub fn count(&self, user: &UserName, most: u16) -> Result<(), NoRoom> {
        let file = self.0.as_ref().map_err(|e| NoRoom::Unknown(e.kind().into()))?;
        let until = Instant::now() + PATIENCE;
        loop {
            for number in 0..most.min(MOST) {
                match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte(user, number))) {
                    Ok(_) => return Ok(()),
                    Err(Errno::EAGAIN | Errno::EACCES) => {}
                    Err(e) => return Err(NoRoom::Unknown(e.into())),
                }
            }
            if Instant::now() >= until {
                return Err(NoRoom::Full);
            }
            sleep(PAUSE);
        }
    }
}

/// The lock on the byte that stands for a user's connection with this number.
fn byte(user: &UserName, number: u16) -> libc::flock {
    // 52 bits: times the distance between users, this is less than the largest size of a file.
    let place = (uid::digest(user) >> 12) * STRIDE + u64::from(number);
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[test]
    fn as_many_as_are_allowed_and_each_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Connections(Connections::open_at(&dir.path().join("connections")));
        let (first, second, third) = (open(), open(), open());
        first.count(&user("alice"), 2).unwrap();
        second.count(&user("alice"), 2).unwrap();
        let began = Instant::now();
        assert!(matches!(third.count(&user("alice"), 2), Err(NoRoom::Full)));
        assert!(began.elapsed() >= PATIENCE);
        // Somebody else's are others'; and a higher limit counts the same ones.
        third.count(&user("bob"), 1).unwrap();
        open().count(&user("alice"), 3).unwrap();
        drop(first);
        third.count(&user("alice"), 2).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("connections")).unwrap().len(), 0);
    }

    #[test]
    fn one_that_ends_in_time_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Connections(Connections::open_at(&dir.path().join("connections")));
        let old = open();
        old.count(&user("alice"), 1).unwrap();
        let ends = std::thread::spawn(move || {
            sleep(PAUSE * 3);
            drop(old);
        });
        open().count(&user("alice"), 1).unwrap();
        ends.join().unwrap();
    }

    #[test]
    fn what_cannot_be_counted_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("link")).unwrap();
        let none = Connections(Connections::open_at(&dir.path().join("link")));
        assert!(matches!(none.count(&user("alice"), 1), Err(NoRoom::Unknown(_))));
    }

    #[test]
    fn every_place_is_in_a_file() {
        for name in ["alice", "bob", "a", "Z9"] {
            let last = byte(&user(name), MOST - 1).l_start;
            assert!(last > 0 && last < libc::off_t::MAX && MOST < STRIDE as u16);
        }
    }
}
