//! The gateways' counters, in a file of fixed size: `/var/lib/jupyterhub-openssh/counters`.
//!
//! A gateway opens the file while it is root and keeps the descriptor, so no directory has to be
//! writable for an unprivileged process. Each gateway adds its own numbers under a lock (fcntl(2),
//! F_OFD_SETLK) that it doesn't wait for:
//! what cannot be added now is added later. A file with an unknown format is reset to zero, as
//! Prometheus expects of a counter now and then.

use crate::sys::mount::{Flags, Tree};
use common::paths;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::By;

/// The format's mark, at the beginning of the file.
const MAGIC: &[u8; 16] = b"jo-counters v1\n\0";
/// How often to try for the lock, and the pause between tries.
const TRIES: (u32, Duration) = (10, Duration::from_millis(2));
/// Upper bounds of the intervals for the duration of server starts, in seconds; the last interval
/// is unbounded.
pub const START_SECONDS: [u64; 9] = [2, 5, 10, 20, 30, 60, 120, 300, 600];

/// The outcome of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The user is let in.
    Granted,
    /// The hub, or the configuration, refuses the user.
    Refused,
    /// No decision was possible.
    Unavailable,
}

/// A number in the file, by its position. New ones are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Logins, by outcome and kind of proof.
    Login(Outcome, By),
    /// Connections that have begun.
    Sessions,
    /// Bytes from clients.
    BytesIn,
    /// Bytes to clients.
    BytesOut,
    /// Reconnected WebSockets.
    Reconnects,
    /// Connections ended by `session.idle_limit`.
    IdleLimit,
    /// Connections ended by `session.max_length`.
    MaxLength,
    /// Connections ended by an administrator.
    Disconnects,
    /// Servers that failed to start.
    StartsFailed,
    /// Total duration of all successful starts, in milliseconds.
    StartMillis,
    /// Successful starts in the interval with this index.
    Starts(usize),
}

/// How many counters there are.
pub(crate) const COUNTERS: usize = 15 + START_SECONDS.len() + 1;

impl Counter {
    fn place(self) -> usize {
        match self {
            Self::Login(outcome, by) => outcome as usize * 2 + by as usize,
            Self::Sessions => 6,
            Self::BytesIn => 7,
            Self::BytesOut => 8,
            Self::Reconnects => 9,
            Self::IdleLimit => 10,
            Self::MaxLength => 11,
            Self::Disconnects => 12,
            Self::StartsFailed => 13,
            Self::StartMillis => 14,
            Self::Starts(interval) => 15 + interval.min(START_SECONDS.len()),
        }
    }
}

/// The values of all counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters([u64; COUNTERS]);

impl Counters {
    /// Returns one counter's value.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter.place()).copied().unwrap_or_default()
    }

    fn add(&mut self, counter: Counter, number: u64) {
        if let Some(slot) = self.0.get_mut(counter.place()) {
            *slot = slot.wrapping_add(number);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|number| *number == 0)
    }

    /// Reads the counters from `file`; all zero if the format is unknown.
    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; MAGIC.len() + 8 * COUNTERS];
        match file.read_exact_at(&mut bytes, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Self::default()),
            other => other?,
        }
        Ok(Self::parse(&bytes).unwrap_or_default())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut counters = Self::default();
        let numbers = bytes.strip_prefix(MAGIC)?.chunks_exact(8);
        for (slot, number) in counters.0.iter_mut().zip(numbers) {
            *slot = u64::from_le_bytes(number.try_into().ok()?);
        }
        Some(counters)
    }

    fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.0.iter().flat_map(|number| number.to_le_bytes()));
        file.write_all_at(&bytes, 0)
    }

    /// Returns what this host's gateways have counted so far. A process that holds the lock for
    /// long doesn't block this: the file is then read without it.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn load() -> io::Result<Self> {
        Self::load_from(Path::new(paths::COUNTERS))
    }

    fn load_from(path: &Path) -> io::Result<Self> {
        match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) => match locked(&file, libc::F_RDLCK, Self::read) {
                // A gateway that is stopped, or broken into, holds the lock. Each gateway writes
                // all numbers at once.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Self::read(&file),
                done => done,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }
}

/// Runs `work` while the file is locked. Another process may hold the lock for a few microseconds
/// or, if it is stopped, for good: after a few tries that is an error.
fn locked<R>(file: &File, kind: libc::c_int, work: impl FnOnce(&File) -> io::Result<R>) -> io::Result<R> {
    let lock = |kind: libc::c_int| libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let mut tries = TRIES.0;
    while let Err(e) = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock(kind))) {
        tries -= 1;
        if tries == 0 {
            return Err(e.into());
        }
        std::thread::sleep(TRIES.1);
    }
    let result = work(file);
    // If this fails, the lock ends with the descriptor.
    let _ = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK)));
    result
}

fn open(directory: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(openat(directory, path, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// Opens the file in a mount of its own, attached nowhere, with noexec: a gateway that is broken
/// into cannot write code into the file and map it.
fn open_noexec(path: &Path) -> io::Result<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let tree = Tree::clone_path(directory)?.restrict(Flags::NOSUID | Flags::NODEV | Flags::NOEXEC)?;
    open(tree.descriptor(), Path::new(name))
}

/// The counters of one gateway. Clones share them.
#[derive(Clone, Default)]
pub struct Meter(Arc<Inner>);

#[derive(Default)]
struct Inner {
    file: Option<File>,
    /// Counted, but not yet in the file.
    pending: Mutex<Counters>,
}

impl Meter {
    /// Opens this host's file, as root; creates it if its directory exists. Without the file
    /// nothing is counted: that is no reason to refuse a login.
    #[must_use]
    pub fn open() -> Self {
        Self::open_at(Path::new(paths::COUNTERS))
    }

    /// Counts nothing.
    #[cfg(any(test, feature = "testing"))]
    pub fn off() -> Self {
        Self(Arc::new(Inner { file: None, pending: Mutex::default() }))
    }

    fn open_at(path: &Path) -> Self {
        // Where mounting is not permitted, opens the file as it is.
        let file = match open_noexec(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(AT_FDCWD, path),
            opened => opened,
        };
        Self(Arc::new(Inner { file: file.ok(), pending: Mutex::default() }))
    }

    /// Counts a login.
    pub fn login(&self, outcome: Outcome, by: By) {
        self.add(Counter::Login(outcome, by), 1);
    }

    /// Counts a start of a user's server and how long it took; `None` if it failed.
    pub fn server_start(&self, took: Option<Duration>) {
        let Some(took) = took else { return self.add(Counter::StartsFailed, 1) };
        let interval = START_SECONDS.iter().position(|end| took <= Duration::from_secs(*end));
        self.add(Counter::Starts(interval.unwrap_or(START_SECONDS.len())), 1);
        self.add(Counter::StartMillis, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Counts a reconnected WebSocket.
    pub fn reconnected(&self) {
        self.add(Counter::Reconnects, 1);
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, number: u64) {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).add(counter, number);
    }

    /// Writes what has been counted into the file. What cannot be written now stays for the next
    /// time.
    pub fn flush(&self) {
        let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.0.file.as_ref().filter(|_| !pending.is_empty()) else { return };
        let add = |file: &File| {
            let mut all = Counters::read(file)?;
            for (slot, number) in all.0.iter_mut().zip(&pending.0) {
                *slot = slot.wrapping_add(*number);
            }
            all.write(file)
        };
        if locked(file, libc::F_WRLCK, add).is_ok() {
            *pending = Counters::default();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn every_counter_has_a_place_of_its_own() {
        let mut places = Vec::new();
        for outcome in [Outcome::Granted, Outcome::Refused, Outcome::Unavailable] {
            places.extend([By::Token, By::Key].map(|by| Counter::Login(outcome, by).place()));
        }
        use Counter::*;
        places.extend(
            [
                Sessions,
                BytesIn,
                BytesOut,
                Reconnects,
                IdleLimit,
                MaxLength,
                Disconnects,
                StartsFailed,
                StartMillis,
            ]
            .map(Counter::place),
        );
        places.extend((0..=START_SECONDS.len()).map(|interval| Starts(interval).place()));
        assert_eq!(places, (0..COUNTERS).collect::<Vec<_>>());
    }

    #[test]
    fn gateways_add_to_each_others_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters");
        assert_eq!(Counters::load_from(&path).unwrap(), Counters::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let meter = Meter::open_at(&path);
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        meter.login(Outcome::Refused, By::Key);
                        meter.add(Counter::BytesIn, 1000);
                        meter.flush();
                    }
                    meter
                })
            })
            .collect();
        // What a gateway could not add because of others' locks, it adds at its end.
        for thread in threads {
            thread.join().unwrap().flush();
        }
        let all = Counters::load_from(&path).unwrap();
        assert_eq!(all.get(Counter::Login(Outcome::Refused, By::Key)), 200);
        assert_eq!(all.get(Counter::BytesIn), 200_000);
        assert_eq!(all.get(Counter::Login(Outcome::Granted, By::Key)), 0);
    }

    #[test]
    fn a_lock_that_is_held_for_ever_holds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters");
        let (meter, holder) = (Meter::open_at(&path), Meter::open_at(&path));
        meter.add(Counter::Sessions, 1);
        locked(holder.0.file.as_ref().unwrap(), libc::F_WRLCK, |_| {
            meter.flush();
            assert_eq!(Counters::load_from(&path).unwrap().get(Counter::Sessions), 0);
            Ok(())
        })
        .unwrap();
        assert_eq!(Counters::load_from(&path).unwrap().get(Counter::Sessions), 0);
        meter.flush();
        assert_eq!(Counters::load_from(&path).unwrap().get(Counter::Sessions), 1);
    }

    #[test]
    fn code_in_it_is_not_executed() {
        use nix::sys::statvfs::{FsFlags, fstatvfs};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters");
        // For a test process that may not mount.
        let Ok(file) = open_noexec(&path) else { return };
        file.write_all_at(b"code", 0).unwrap();
        // Mapping the file executable then fails with EPERM (mmap(2)).
        assert!(fstatvfs(&file).unwrap().flags().contains(FsFlags::ST_NOEXEC));
        // It is the same file that others have open.
        assert_eq!(fs::read(&path).unwrap(), b"code");
        assert!(Meter::open_at(&path).0.file.is_some());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn starts_are_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters");
        let meter = Meter::open_at(&path);
        for millis in [100, 2000, 2001, 700_000] {
            meter.server_start(Some(Duration::from_millis(millis)));
        }
        meter.server_start(None);
        meter.flush();
        let all = Counters::load_from(&path).unwrap();
        let starts = |interval| all.get(Counter::Starts(interval));
        assert_eq!((starts(0), starts(1), starts(2), starts(9)), (2, 1, 0, 1));
        assert_eq!((all.get(Counter::StartMillis), all.get(Counter::StartsFailed)), (704_101, 1));
    }

    #[test]
    fn without_a_file_nothing_happens() {
        let meter = Meter::open_at(Path::new("/nonexistent/counters"));
        meter.reconnected();
        meter.flush();
    }

    proptest! {
        #[test]
        fn a_damaged_file_counts_from_zero(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("counters");
            let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            fs::write(&path, &bytes).unwrap();
            let before = Counters::load_from(&path).unwrap();
            let meter = Meter::open_at(&path);
            meter.add(Counter::Sessions, 3);
            meter.flush();
            let after = Counters::load_from(&path).unwrap();
            prop_assert_eq!(after.get(Counter::Sessions), before.get(Counter::Sessions).wrapping_add(3));
        }
    }
}
