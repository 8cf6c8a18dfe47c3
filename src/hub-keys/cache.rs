//! A cache of what the sources have answered, one file per source and user.
//!
//! The directory belongs to the system user that this program runs as, and nobody else can write to
//! it. A file is written under another name and
//! renamed, so of two concurrent runs one wins and neither reads half a file. The last line shows
//! whether a crash or a full disk has cut a file short.
//!
//! sshd asks about every name that a client makes up, so there are also files for users who don't
//! exist. A file's modification time says when it
//! expires, and [`Cache::tidy`] then removes it.

use super::lines;
use common::UserName;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The first line of a file. A file with another number has another format and is ignored.
const FORMAT: &str = "jupyterhub-openssh keys 1";
/// The last line.
const END: &str = "end";
/// Size limit of a file, in bytes: the head, and one source's keys.
const MAX_FILE: usize = 512 << 10;
/// The file whose age tells when the directory was last tidied. No source has this name: those
/// start with a letter.
const TIDIED: &str = ".tidied";
/// How often the directory is tidied, and for how long at most.
const TIDY_EVERY: Duration = Duration::from_secs(600);
const TIDY_FOR: Duration = Duration::from_millis(200);

/// Seconds since 1970.
pub type Time = u64;

/// What is known about a user's keys at one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Who answered: a configured address. An answer from another address doesn't count.
    pub origin: String,
    /// The last answer, and when it came.
    pub good: Option<(Time, Vec<String>)>,
    /// When the source last failed, if that was after the answer.
    pub failed: Option<Time>,
}

impl Entry {
    fn text(&self) -> String {
        let mut text = format!("{FORMAT}\norigin {}\n", self.origin);
        if let Some((time, keys)) = &self.good {
            text.push_str(&format!("good {time}\n"));
            keys.iter().for_each(|key| text.push_str(&format!("key {key}\n")));
        }
        if let Some(time) = self.failed {
            text.push_str(&format!("failed {time}\n"));
        }
        text + END + "\n"
    }

    /// Parses a file; `None` for anything that [`Self::text`] does not write.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(FORMAT)?.strip_prefix('\n')?;
        let text = text.strip_suffix('\n')?.strip_suffix(END)?.strip_suffix('\n')?;
        let mut lines = text.lines();
        let origin = lines.next()?.strip_prefix("origin ")?.to_owned();
        let mut entry = Self { origin, good: None, failed: None };
        for line in lines {
            match (line.split_once(' ')?, &mut entry) {
                (("good", time), Self { good: good @ None, failed: None, .. }) => {
                    *good = Some((time.parse().ok()?, Vec::new()));
                }
                (("key", key), Self { good: Some((_, keys)), failed: None, .. }) => keys.push(key.to_owned()),
                (("failed", time), Self { failed: failed @ None, .. }) => *failed = Some(time.parse().ok()?),
                _ => return None,
            }
        }
        // A check as well: this program prints what comes out of here.
        let all_are_keys = |keys: &[String]| lines::read(keys.join("\n").as_bytes()).keys == keys;
        entry.good.as_ref().is_none_or(|(_, keys)| all_are_keys(keys)).then_some(entry)
    }
}

/// The cache's directory.
#[derive(Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// Opens the directory; creates it if it is missing and its parent allows that.
    ///
    /// # Errors
    /// A system call fails; `PermissionDenied` if others than this process's user own the directory
    /// or can write to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                // It may exist although its parent is not writable.
                fs::symlink_metadata(path).map_err(|_| why)?;
            }
            _ => {}
        }
        let facts = fs::symlink_metadata(path)?;
        if facts.is_dir() && facts.uid() == nix::unistd::geteuid().as_raw() && facts.mode() & 0o077 == 0 {
            Ok(Self(path.to_owned()))
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not this program's alone"))
        }
    }

    /// The path of an entry. Every [`UserName`] is a valid file name; with the source in front it
    /// has at most 140 bytes.
    fn file(&self, source: &str, user: &UserName) -> PathBuf {
        self.0.join(format!("{source}-{user}"))
    }

    /// Returns what is known: an empty entry if the file is missing, damaged or not a regular file.
    #[must_use]
    pub fn load(&self, source: &str, user: &UserName) -> Option<Entry> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.file(source, user)).ok()?;
        let mut text = Vec::new();
        file.take(MAX_FILE as u64).read_to_end(&mut text).ok()?;
        Entry::parse(std::str::from_utf8(&text).ok()?)
    }

    /// Replaces an entry atomically. From the time `useless` on the file may be removed.
    ///
    /// # Errors
    /// A system call fails; the old entry is then still there.
    pub fn store(&self, source: &str, user: &UserName, entry: &Entry, useless: Time) -> io::Result<()> {
        // Left behind by a dead process that had our process id.
        let new = self.0.join(format!(".{source}-{user}.{}", std::process::id()));
        match fs::remove_file(&new) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(entry.text().as_bytes())?;
            file.set_times(FileTimes::new().set_modified(system_time(useless)))?;
            fs::rename(&new, self.file(source, user))
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }

    /// Removes expired files: every ten minutes, for at most a fifth of a second. The next run
    /// continues.
    pub fn tidy(&self) {
        let began = (Instant::now(), SystemTime::now());
        let tidied = self.0.join(TIDIED);
        let modified = |path: &Path| fs::symlink_metadata(path).and_then(|facts| facts.modified());
        let recent = |time: SystemTime| {
            // A time ahead of the clock was set by another clock.
            began.1.duration_since(time).is_ok_and(|age| age < TIDY_EVERY)
        };
        if modified(&tidied).is_ok_and(recent) || File::create(&tidied).is_err() {
            return;
        }
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != tidied) {
            if began.0.elapsed() > TIDY_FOR {
                return;
            }
            if modified(&path).is_ok_and(|time| time < began.1) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The current time.
#[must_use]
pub fn now() -> Time {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Converts a time, capped to what every file system can store: some end in 2038.
fn system_time(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.min(i32::MAX as u64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lines::tests::keys;
    use super::*;
    use proptest::prelude::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("keys")).unwrap();
        (dir, cache)
    }

    fn alice() -> UserName {
        UserName::parse("alice@example.org").unwrap()
    }

    fn entry() -> Entry {
        Entry { origin: "https://x/a b".into(), good: Some((1000, keys().to_vec())), failed: Some(1100) }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let (_dir, cache) = cache();
        assert_eq!(cache.load("url", &alice()), None);
        for entry in [
            entry(),
            Entry { failed: None, ..entry() },
            Entry { good: None, ..entry() },
            Entry { good: Some((5, Vec::new())), ..entry() },
        ] {
            cache.store("url", &alice(), &entry, now() + 60).unwrap();
            assert_eq!(cache.load("url", &alice()), Some(entry));
            assert_eq!(cache.load("hub", &alice()), None);
        }
        let names: Vec<_> = fs::read_dir(&cache.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["url-alice@example.org"]);
        let longest = UserName::parse(&"a".repeat(common::names::MAX_USER)).unwrap();
        cache.store("hub", &longest, &entry(), now()).unwrap();
    }

    #[test]
    fn whatever_is_damaged_is_as_if_it_was_not_there() {
        let (_dir, cache) = cache();
        let whole = entry().text();
        let file = cache.file("url", &alice());
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert_eq!(cache.load("url", &alice()), None, "{cut}");
        }
        for (from, to) in [
            ("keys 1", "keys 2"),
            ("good 1000", "good -1"),
            ("good 1000", "good 99999999999999999999"),
            ("good 1000\n", ""),
            ("failed 1100", "failed"),
            ("failed 1100", "failed 1100\nfailed 1100"),
            ("failed 1100", "failed 1100\nkey x"),
            ("key ssh-ed25519 AAAA", "key command=\"id\" ssh-ed25519 AAAA"),
            ("key ssh-ed25519 AAAA", "key ssh-ed25519 AAAB"),
            ("origin", "unknown"),
        ] {
            assert!(whole.contains(from));
            fs::write(&file, whole.replacen(from, to, 1)).unwrap();
            assert_eq!(cache.load("url", &alice()), None, "{to}");
        }
        fs::write(&file, [whole.as_bytes(), b"\xff"].concat()).unwrap();
        assert_eq!(cache.load("url", &alice()), None);
        fs::rename(&file, file.with_file_name("elsewhere")).unwrap();
        symlink("elsewhere", &file).unwrap();
        assert_eq!(cache.load("url", &alice()), None);
        // And it recovers.
        cache.store("url", &alice(), &entry(), now()).unwrap();
        assert_eq!(cache.load("url", &alice()), Some(entry()));
    }

    #[test]
    fn a_directory_that_others_can_read_is_none() {
        let (dir, cache) = cache();
        fs::set_permissions(&cache.0, Permissions::from_mode(0o750)).unwrap();
        assert_eq!(Cache::open(&cache.0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        symlink("/tmp", dir.path().join("link")).unwrap();
        assert!(Cache::open(&dir.path().join("link")).is_err());
        assert_eq!(Cache::open(&dir.path().join("a/b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn runs_at_the_same_time_leave_one_whole_file() {
        let (_dir, cache) = cache();
        std::thread::scope(|scope| {
            for number in 0..4 {
                let cache = &cache;
                // Threads share a process id, so they collide more often than processes do.
                let user = UserName::parse(&format!("user{}", number % 2)).unwrap();
                scope.spawn(move || {
                    for time in 0..100 {
                        let entry = Entry { good: Some((time, keys().to_vec())), ..entry() };
                        let _ = cache.store("url", &user, &entry, now() + 60);
                        let _ = cache.load("url", &user);
                    }
                });
            }
        });
        for user in ["user0", "user1"] {
            let user = UserName::parse(user).unwrap();
            cache.store("url", &user, &entry(), now() + 60).unwrap();
            assert_eq!(cache.load("url", &user), Some(entry()));
        }
        assert_eq!(fs::read_dir(&cache.0).unwrap().count(), 2);
    }

    #[test]
    fn what_is_of_no_use_is_removed_now_and_then() {
        let (_dir, cache) = cache();
        let user = |name: &str| UserName::parse(name).unwrap();
        let fill = || {
            cache.store("url", &user("old"), &entry(), now() - 10).unwrap();
            cache.store("url", &user("new"), &entry(), now() + 60).unwrap();
        };
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&cache.0).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        fill();
        cache.tidy();
        assert_eq!(names(), [TIDIED, "url-new"]);
        fill();
        cache.tidy();
        assert_eq!(names(), [TIDIED, "url-new", "url-old"], "not so soon");
        let long_ago = SystemTime::now() - TIDY_EVERY - Duration::from_secs(1);
        File::options().write(true).open(cache.0.join(TIDIED)).unwrap().set_modified(long_ago).unwrap();
        cache.tidy();
        assert_eq!(names(), [TIDIED, "url-new"]);
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "\\PC{0,60}|jupyterhub-openssh keys 1\n(origin [a-z]{0,3}\n)?((good|key|failed) ?[0-9a-z ]{0,6}\n){0,4}(end\n)?") {
            let _ = Entry::parse(&text);
        }
    }
}
