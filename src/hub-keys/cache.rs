//! What the sources have answered, a file for each source and user.
//!
//! The directory belongs to the system user that this program runs as, and to nobody else. Files are made under another
//! name and renamed, so that of two runs at the same time one wins and none reads half a file; the line at the
//! end tells a file that a crash or a full disk has cut short.
//!
//! sshd asks for any name that a client makes up, so files of nobody come up too. A file's time of modification
//! says when it is of no use any more, and [`Cache::tidy`] removes it then.

use super::lines;
use common::UserName;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The first line of a file. Another number, another format: those files are as if they weren't there.
const FORMAT: &str = "jupyterhub-openssh keys 1";
/// The last line.
const END: &str = "end";
/// Longest file, in bytes: the keys of one source with their lines' first words, and the head.
const MAX_FILE: usize = 512 << 10;
/// The name of a file whose age says when the directory was tidied; no source's, as those start with a letter.
const TIDIED: &str = ".tidied";
/// How often it is tidied, and for how long at most.
const TIDY_EVERY: Duration = Duration::from_secs(600);
const TIDY_FOR: Duration = Duration::from_millis(200);

/// Seconds since 1970.
pub type Time = u64;

/// What is known of a user's keys at one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Who answered: an address of the configuration. What another one has answered says nothing.
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

    /// Reads a file; `None` for anything that [`Self::text`] does not write.
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
        // Also a check: what comes out of here is printed.
        let all_are_keys = |keys: &[String]| lines::read(keys.join("\n").as_bytes()).keys == keys;
        entry.good.as_ref().is_none_or(|(_, keys)| all_are_keys(keys)).then_some(entry)
    }
}

/// The directory of these files.
#[derive(Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// Looks at the directory; one that is missing is made, if its parent allows that.
    ///
    /// # Errors
    /// The system's; `PermissionDenied` when it is not this process's own, or not its alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                // It may be there nevertheless, beneath what cannot be written.
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

    /// A name of [`UserName`] is also one of a file; with the source's before it, one of at most 140 bytes.
    fn file(&self, source: &str, user: &UserName) -> PathBuf {
        self.0.join(format!("{source}-{user}"))
    }

    /// What is known; nothing when the file is missing, damaged or no file.
    #[must_use]
    pub fn load(&self, source: &str, user: &UserName) -> Option<Entry> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.file(source, user)).ok()?;
        let mut text = Vec::new();
        file.take(MAX_FILE as u64).read_to_end(&mut text).ok()?;
        Entry::parse(std::str::from_utf8(&text).ok()?)
    }

    /// Replaces what is known, in one step. `useless` is from when on the file may be removed.
    ///
    /// # Errors
    /// The system's; what was known before is then still there.
    pub fn store(&self, source: &str, user: &UserName, entry: &Entry, useless: Time) -> io::Result<()> {
        // Left behind by a process with our number: one that is dead.
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

    /// Removes what is of no use any more: every ten minutes, for a fifth of a second at most. What it doesn't get to,
    /// the next one does.
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

/// Now.
#[must_use]
pub fn now() -> Time {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// No time that a system could not hold: some file systems end in 2038.
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
        // And it does not stay that way.
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
                // Threads share a process number, so they get in each other's way more than processes do.
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
