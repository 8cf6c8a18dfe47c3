//! Remembers that sshd confines a user, for as long as nothing changes on which that answer
//! depends.
//!
//! An entry is a file that contains everything the answer depends on, as text, and is named by a
//! digest of it. So an entry counts only if all of it is unchanged: sshd and its options, the state
//! of every file that it reads and of their directories,
//! the user's groups and, where a Match line tests more than groups, the user, the addresses and
//! the port. Only "confined" is remembered.

use super::text::{CONFIG, needs};
use common::paths::{CONFIG_FILE, JAIL_PROGRAM, RUN_DIR};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an entry counts: what is not a file (a directory service's groups) may change
/// meanwhile.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Minimum age of the youngest change: a file that is written twice within one tick of the clock
/// looks unchanged.
const SETTLED: Duration = Duration::from_secs(2);
/// Most entries; beyond that all are deleted.
const MAX_ENTRIES: usize = 256;
/// Most files of a configuration, and the size limit of each in bytes.
const MAX_FILES: usize = 200;
const MAX_FILE: u64 = 256 << 10;
/// Files besides sshd's on which the answer depends: groups, the name service with our NSS module,
/// our configuration, and the program that judges.
const OTHERS: [&str; 4] = ["/etc/group", "/etc/nsswitch.conf", CONFIG_FILE, JAIL_PROGRAM];

/// The state of a configuration's files, and when the latest of them was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    text: String,
    changed: SystemTime,
    /// Whether its Match lines test more than a user's groups.
    pub more_than_groups: bool,
}

/// Collects the state of all files that sshd reads, beginning with `config`. `None` if that cannot
/// be determined: then nothing can be remembered either.
#[must_use]
pub(crate) fn state(program: &str, config: &Path) -> Option<State> {
    let mut seen = Seen::default();
    for path in OTHERS.iter().copied().chain([program]) {
        seen.look(Path::new(path));
    }
    let mut left = BTreeSet::from([config.to_owned()]);
    let mut read = BTreeSet::new();
    while let Some(path) = left.pop_first() {
        if !read.insert(path.clone()) {
            continue;
        }
        if read.len() > MAX_FILES {
            return None;
        }
        seen.look(&path);
        let Some(text) = text(&path).ok()? else { continue };
        let needs = needs(&text);
        seen.more_than_groups |= needs.more_than_groups;
        if needs.unclear {
            return None;
        }
        for pattern in needs.includes {
            left.extend(candidates(&pattern, &mut seen)?);
        }
    }
    Some(seen.state())
}

/// Returns every file that a pattern may match: all files of its directory, whose own state shows
/// new ones.
fn candidates(pattern: &str, seen: &mut Seen) -> Option<Vec<PathBuf>> {
    let path = Path::new(pattern);
    let dir = path.parent()?;
    let is_pattern = |text: &str| text.contains(['*', '?', '[', '{']);
    if is_pattern(dir.to_str()?) {
        return None;
    }
    seen.look(dir);
    if !is_pattern(pattern) {
        return Some(vec![path.to_owned()]);
    }
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
        entries => entries.ok()?,
    };
    entries.map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// Reads a file; `None` if it doesn't exist or is not a regular file.
fn text(path: &Path) -> io::Result<Option<String>> {
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if file.take(MAX_FILE + 1).read_to_end(&mut bytes)? as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[derive(Default)]
struct Seen {
    facts: BTreeMap<PathBuf, String>,
    changed: Option<SystemTime>,
    more_than_groups: bool,
}

impl Seen {
    /// Records the state of a path; both a link and its target count.
    fn look(&mut self, path: &Path) {
        let mut facts = String::new();
        for found in [fs::symlink_metadata(path), fs::metadata(path)] {
            let Ok(found) = found else {
                facts += " none";
                continue;
            };
            let times = [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())];
            let _ = write!(facts, " {}:{} {}", found.dev(), found.ino(), found.size());
            for (seconds, rest) in times {
                let _ = write!(facts, " {seconds}.{rest}");
                let since =
                    Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(rest).unwrap_or(0));
                self.changed = self.changed.max(SystemTime::UNIX_EPOCH.checked_add(since));
            }
        }
        self.facts.insert(path.to_owned(), facts);
    }

    fn state(self) -> State {
        let text = self.facts.iter().map(|(path, facts)| format!("{}{facts}\n", path.display())).collect();
        let changed = self.changed.unwrap_or(SystemTime::UNIX_EPOCH);
        State { text, changed, more_than_groups: self.more_than_groups }
    }
}

/// Returns the configuration file that a listener's options name.
#[must_use]
pub(crate) fn config_of(arguments: &[String]) -> PathBuf {
    let named = arguments.iter().rposition(|word| word == "-f").and_then(|at| arguments.get(at + 1));
    PathBuf::from(named.map_or(CONFIG, String::as_str))
}

/// The directory of entries.
pub(crate) struct Cache {
    dir: PathBuf,
    owner: u32,
}

impl Cache {
    /// Opens this host's cache; `owner` is sshd's user.
    #[must_use]
    pub(crate) fn of_host(owner: u32) -> Self {
        Self { dir: Path::new(RUN_DIR).join("confined"), owner }
    }

    /// True if a recent entry says that the login is confined.
    #[must_use]
    pub(crate) fn knows(&self, key: &str, state: &State) -> bool {
        let known = || -> io::Result<bool> {
            if !self.is_ours()? {
                return Ok(false);
            }
            let mut file = File::options()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(self.entry(key, state))?;
            let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or(Duration::MAX);
            let mut text = String::new();
            (&mut file).take(1 << 20).read_to_string(&mut text)?;
            Ok(age < MAX_AGE && text == content(key, state))
        };
        known().unwrap_or(false)
    }

    /// Adds an entry, unless the files changed too recently to be told from what comes next.
    ///
    /// # Errors
    /// The entry could not be written; nothing is remembered then.
    pub(crate) fn remember(&self, key: &str, state: &State) -> io::Result<()> {
        if !SystemTime::now().duration_since(state.changed).is_ok_and(|age| age >= SETTLED) {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        if !self.is_ours()? {
            return Err(io::Error::other(format!("{} is not ours alone", self.dir.display())));
        }
        if fs::read_dir(&self.dir)?.count() >= MAX_ENTRIES {
            for entry in fs::read_dir(&self.dir)? {
                let _ = fs::remove_file(entry?.path());
            }
        }
        let entry = self.entry(key, state);
        let new = entry.with_extension(std::process::id().to_string());
        fs::write(&new, content(key, state))?;
        fs::rename(&new, entry)
    }

    fn is_ours(&self) -> io::Result<bool> {
        let found = fs::symlink_metadata(&self.dir)?;
        Ok(found.is_dir() && found.uid() == self.owner && found.mode() & 0o077 == 0)
    }

    fn entry(&self, key: &str, state: &State) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (key, &state.text).hash(&mut hasher);
        self.dir.join(format!("{:016x}", hasher.finish()))
    }
}

fn content(key: &str, state: &State) -> String {
    format!("{key}\n{}", state.text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Host {
        dir: tempfile::TempDir,
        cache: Cache,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let owner = fs::metadata(dir.path()).unwrap().uid();
            fs::create_dir(dir.path().join("d")).unwrap();
            let cache = Cache { dir: dir.path().join("cache"), owner };
            let host = Self { dir, cache };
            host.write("config", &format!("Include {}/d/*.conf\nMatch Group x\n", host.dir.path().display()));
            host.write("d/a.conf", "UsePAM yes\n");
            host
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }

        /// Returns the state as if nothing had changed for a minute.
        fn state(&self) -> Option<State> {
            let mut found = state("/bin/sh", &self.dir.path().join("config"))?;
            found.changed -= Duration::from_secs(60);
            Some(found)
        }
    }

    #[test]
    fn whatever_changes_ends_an_answer() {
        let host = Host::new();
        let first = host.state().unwrap();
        assert!(!first.more_than_groups);
        assert!(!host.cache.knows("k", &first));
        host.cache.remember("k", &first).unwrap();
        assert!(host.cache.knows("k", &first) && host.cache.knows("k", &host.state().unwrap()));
        assert!(!host.cache.knows("other", &first));
        let changes: [&dyn Fn(); 5] = [
            &|| host.write("d/a.conf", "UsePAM no \n"),
            &|| host.write("d/b.conf", ""),
            &|| fs::remove_file(host.dir.path().join("d/a.conf")).unwrap(),
            &|| fs::rename(host.dir.path().join("d/b.conf"), host.dir.path().join("d/c.conf")).unwrap(),
            &|| host.write("config", "Match Group x\n"),
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            let now = host.state().unwrap();
            assert!(!host.cache.knows("k", &now), "{number}");
            host.cache.remember("k", &now).unwrap();
            assert!(host.cache.knows("k", &now), "{number}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_remembered() {
        let host = Host::new();
        let mut fresh = host.state().unwrap();
        for changed in [SystemTime::now(), SystemTime::now() + Duration::from_secs(3600)] {
            fresh.changed = changed;
            host.cache.remember("k", &fresh).unwrap();
            assert!(!host.cache.knows("k", &fresh));
        }
        host.write("d/b.conf", "Match User x\n");
        assert!(host.state().unwrap().more_than_groups);
        for unclear in ["\"Include\" x", "Include /etc/*/x.conf"] {
            host.write("d/b.conf", unclear);
            assert_eq!(host.state(), None, "{unclear}");
        }
        // A file that includes itself doesn't loop.
        host.write("d/b.conf", &format!("Include {}/d/b.conf", host.dir.path().display()));
        assert!(host.state().is_some());
    }

    #[test]
    fn a_directory_of_others_is_not_believed_and_it_does_not_grow() {
        let host = Host::new();
        let state = host.state().unwrap();
        for number in 0..300 {
            host.cache.remember(&number.to_string(), &state).unwrap();
        }
        assert!(host.cache.knows("299", &state));
        assert!(fs::read_dir(&host.cache.dir).unwrap().count() <= MAX_ENTRIES);
        fs::set_permissions(&host.cache.dir, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(!host.cache.knows("299", &state) && host.cache.remember("x", &state).is_err());
    }

    #[test]
    fn the_configuration_is_the_one_that_was_named() {
        assert_eq!(config_of(&[]), Path::new(CONFIG));
        assert_eq!(config_of(&["-o", "-f", "-f", "/x"].map(str::to_owned)), Path::new("/x"));
    }
}
