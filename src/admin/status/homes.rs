//! Lists the homes on this host, with owner, usage and quota.

use super::Section;
use super::columns::{Align, columns};
use super::names::{Component, components};
use super::patience::{await_answer, await_each};
use super::size::human;
use common::UserName;
use common::homes::Homes;
use host::homes::open::{beneath, open_root};
use host::homes::quota::{self, Usage, Whose};
use host::homes::{Fault, bounded, open};
use nix::sys::stat::fstat;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a file system may take to list the homes, and to answer for one of them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest line about something that failed, in bytes.
const MAX_LINE: usize = 500;

/// What is known about a home.
#[derive(Debug, PartialEq, Eq)]
struct Home {
    owner: (u32, u32),
    usage: Known,
}

/// What is known about a home's size.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// The usage and the limits.
    Usage(Usage),
    /// The file system has no quotas.
    Off,
    /// Only root may ask for it.
    RootOnly,
    /// Asking for it failed.
    Failed(String),
}

/// The report on all homes, or on those of the named users.
pub fn section(homes: Option<&Homes>, users: &[String]) -> Section {
    let Some(homes) = homes else {
        let line = "Homes: none on this host (homes.root is not set).".to_owned();
        return Section { lines: vec![line], incomplete: !users.is_empty() };
    };
    let found = if users.is_empty() { look_at_all(homes) } else { look_at_some(homes, users) };
    let mut section = Section::default();
    match found {
        Ok(found) => describe(homes, found, &mut section),
        Err(why) => {
            section.lines.push(bounded(&format!("Homes: {why}."), MAX_LINE));
            section.incomplete = true;
        }
    }
    section
}

/// Homes by name; without facts if the file system gave no answer in time.
type Found = Vec<(String, Option<Result<Home, Fault>>)>;

fn look_at_all(homes: &Homes) -> Result<Found, String> {
    let (root, template) = (homes.clone(), homes.template.as_str().to_owned());
    let names = await_answer(PATIENCE, move || {
        let root = open_root(&root).map_err(|fault| fault.detail)?;
        let names = list(root.as_fd(), &template)?;
        Ok::<_, String>((Arc::new(root), names))
    });
    let no_answer = || format!("{} did not answer within {} s", homes.root.display(), PATIENCE.as_secs());
    let (root, names) = names.unwrap_or_else(|| Err(no_answer()))?;
    let shown: Vec<_> = names.iter().map(|name| name.display().to_string()).collect();
    let answers = await_each(&Arc::new(names), PATIENCE, move |name| look_beneath(&root, name));
    Ok(shown
        .into_iter()
        .zip(answers)
        // It has vanished, or was no home: `students/new` without the template's `work` in it.
        .filter(|(_, answer)| !matches!(answer, Some(Ok(None))))
        .map(|(name, answer)| (name, answer.and_then(Result::transpose)))
        .collect())
}

fn look_at_some(homes: &Homes, users: &[String]) -> Result<Found, String> {
    let mut names = Vec::new();
    for user in users {
        names.push(UserName::parse(user).map_err(|e| format!("{user} is no name of a user: {e}"))?);
    }
    let shared = homes.clone();
    let answers = await_each(&Arc::new(names), PATIENCE, move |user| {
        open(&shared, user, None).and_then(|home| look(&home, user.as_str()))
    });
    Ok(users.iter().cloned().zip(answers).collect())
}

/// Lists the existing directories that match the template, in order.
fn list(root: BorrowedFd<'_>, template: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    let mut among_users = false;
    for component in components(template) {
        match component {
            Component::Fixed(name) => found.iter_mut().for_each(|path| path.push(name)),
            Component::User(pattern) => {
                let mut deeper = Vec::new();
                for path in &found {
                    let names = match directories(root, path) {
                        Ok(names) => names,
                        // If one user's directory can't be read, the others are still listed.
                        Err(_) if among_users => continue,
                        Err(e) => {
                            return Err(format!(
                                "cannot list {}: {e}",
                                Path::new("homes.root").join(path).display()
                            ));
                        }
                    };
                    deeper
                        .extend(names.iter().filter(|name| pattern.takes(name)).map(|name| path.join(name)));
                }
                found = deeper;
                among_users = true;
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Lists the directories in `path` beneath `root` whose names are UTF-8, as those of homes are.
fn directories(root: BorrowedFd<'_>, path: &Path) -> io::Result<Vec<String>> {
    let dir = beneath(root, path)?;
    let mut names = Vec::new();
    // By descriptor, so that the directory opened beneath the root is the one that is listed.
    for entry in fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))? {
        let entry = entry?;
        // A symbolic link is no home.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn look_beneath(root: &OwnedFd, name: &Path) -> Result<Option<Home>, Fault> {
    let shown = name.display().to_string();
    match beneath(root.as_fd(), name) {
        Ok(home) => look(&home, &shown).map(Some),
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => Ok(None),
        Err(e) => Err(Fault::of_error(&shown, e)),
    }
}

fn look(home: &OwnedFd, name: &str) -> Result<Home, Fault> {
    let found = fstat(home).map_err(|e| Fault::of_error(name, e))?;
    let usage = match quota::usage(home.as_fd()) {
        Ok(Some(usage)) => Known::Usage(usage),
        Ok(None) => Known::Off,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Known::RootOnly,
        Err(e) => Known::Failed(e.to_string()),
    };
    Ok(Home { owner: (found.st_uid, found.st_gid), usage })
}

/// Formats what was found.
fn describe(homes: &Homes, found: Found, section: &mut Section) {
    let root = homes.root.display();
    if found.is_empty() {
        section.lines.push(format!("Homes beneath {root}: none."));
        return;
    }
    let mut rows = vec![["HOME", "OWNER", "USED", "SOFT", "HARD"].map(str::to_owned)];
    let mut notes = Notes::default();
    for (name, answer) in found {
        match answer {
            Some(Ok(home)) => {
                notes.add(&name, &home.usage);
                rows.push(row(&name, &home));
            }
            Some(Err(fault)) => notes.problems.push(fault.detail),
            None => notes.silent.push(name),
        }
    }
    section.lines.push(format!("Homes beneath {root}:"));
    if rows.len() > 1 {
        let align = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Right];
        section.lines.extend(columns(align, &rows));
    }
    section.incomplete = !notes.problems.is_empty() || !notes.silent.is_empty();
    section.lines.extend(notes.lines());
}

fn row(name: &str, home: &Home) -> [String; 5] {
    let (uid, gid) = home.owner;
    let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), human);
    let (used, soft, hard) = match &home.usage {
        Known::Usage(usage) => (Some(usage.bytes.used), usage.bytes.soft, usage.bytes.hard),
        _ => (None, None, None),
    };
    [bounded(name, MAX_LINE), format!("{uid}:{gid}"), size(used), size(soft), size(hard)]
}

/// Lines below the table, about what is not known.
#[derive(Default)]
struct Notes {
    off: bool,
    root_only: bool,
    by_owner: bool,
    problems: Vec<String>,
    silent: Vec<String>,
}

impl Notes {
    fn add(&mut self, name: &str, usage: &Known) {
        match usage {
            Known::Usage(usage) => self.by_owner |= matches!(usage.whose, Whose::User(_)),
            Known::Off => self.off = true,
            Known::RootOnly => self.root_only = true,
            Known::Failed(why) => self.problems.push(format!("{name}: cannot ask for its quota: {why}")),
        }
    }

    fn lines(self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.off {
            lines.push(
                "Nothing is known of sizes where no quotas are on (ext4 and XFS: mount option prjquota), or where a file \
                 server counts."
                    .to_owned(),
            );
        }
        if self.root_only {
            lines.push("Only root may ask what others use.".to_owned());
        }
        if self.by_owner {
            lines.push("Used is counted by owner: homes of the same uid share it.".to_owned());
        }
        lines.extend(self.problems.iter().map(|problem| bounded(problem, MAX_LINE)));
        if let [first, others @ ..] = &self.silent[..] {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            lines.push(bounded(
                &format!("No answer from the file system within {} s: {first}{more}.", PATIENCE.as_secs()),
                MAX_LINE,
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use host::homes::quota::Amount;
    use std::os::unix::fs::symlink;
    use wire::claim::HomeFault;

    fn homes(root: &Path, more: &str) -> Homes {
        let text = format!("[homes]\nroot = '{}'\n{more}", root.display());
        common::Settings::parse(&text).unwrap().homes.unwrap()
    }

    fn used(whose: Whose, used: u64, soft: Option<u64>, hard: Option<u64>) -> Home {
        let usage = Usage { whose, bytes: Amount { used, soft, hard }, files: Amount::default() };
        Home { owner: (1000, 100), usage: Known::Usage(usage) }
    }

    fn described(found: Found) -> Section {
        let mut section = Section::default();
        describe(&homes(Path::new("/srv/homes"), ""), found, &mut section);
        section
    }

    #[test]
    fn homes_stand_in_columns() {
        let section = described(vec![
            ("alice".into(), Some(Ok(used(Whose::Project(7), 3 << 29, Some(1 << 30), Some(2 << 30))))),
            ("bob@example.org".into(), Some(Ok(used(Whose::Project(8), 0, None, Some(500 << 20))))),
        ]);
        assert_eq!(
            section.lines,
            [
                "Homes beneath /srv/homes:",
                "HOME             OWNER     USED  SOFT  HARD",
                "alice            1000:100  1.5G    1G    2G",
                "bob@example.org  1000:100     0     -  500M",
            ]
        );
        assert!(!section.incomplete);
    }

    #[test]
    fn what_the_table_cannot_say_stands_below_it() {
        let fault = Fault::new(HomeFault::Failed, "dora: Permission\ndenied");
        let section = described(vec![
            ("a".into(), Some(Ok(used(Whose::User(1000), 1, None, None)))),
            ("b".into(), Some(Ok(Home { owner: (1, 2), usage: Known::Off }))),
            ("c".into(), Some(Ok(Home { owner: (1, 2), usage: Known::RootOnly }))),
            ("d".into(), Some(Err(fault))),
            ("e".into(), Some(Ok(Home { owner: (1, 2), usage: Known::Failed("input/output error".into()) }))),
            ("f".into(), None),
            ("g".into(), None),
        ]);
        assert!(section.incomplete);
        assert_eq!(section.lines[3], "b     1:2          -     -     -");
        let notes = section.lines[6..].join("\n");
        for part in [
            "prjquota",
            "Only root",
            "counted by owner",
            "dora: Permission; denied",
            "e: cannot ask for its quota: input/output error",
            "within 5 s: f and 1 more.",
        ] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
    }

    #[test]
    fn nothing_is_a_line_too() {
        assert_eq!(described(Vec::new()).lines, ["Homes beneath /srv/homes: none."]);
        let section = section(None, &[]);
        assert!(section.lines[0].contains("homes.root is not set") && !section.incomplete);
        assert!(super::section(None, &["alice".to_owned()]).incomplete);
    }

    #[test]
    fn homes_are_listed_by_the_template() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["students/bob/work", "students/alice/work", "students/new", "students/lost+found/work"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::create_dir_all(at("staff/carol/work")).unwrap();
        symlink("alice", at("students/link")).unwrap();
        fs::create_dir_all(at("students/dora")).unwrap();
        symlink("../alice/work", at("students/dora/work")).unwrap();
        let homes = homes(dir.path(), "template = 'students/{username}/work'");
        let found = look_at_all(&homes).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["students/alice/work", "students/bob/work"]);
        assert!(found.iter().all(|(_, home)| matches!(home, Some(Ok(_)))));
        let section = section(Some(&homes), &["bob".to_owned(), "dora".to_owned(), "erin".to_owned()]);
        let text = section.lines.join("\n");
        assert!(section.incomplete && text.contains("\nbob "), "{text}");
        assert!(
            text.contains("dora/work is a symbolic link") && text.contains("erin/work does not exist"),
            "{text}"
        );
    }

    #[test]
    fn a_root_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let missing = homes(&dir.path().join("none"), "");
        let section = section(Some(&missing), &[]);
        assert!(section.incomplete && section.lines[0].starts_with("Homes: homes.root "), "{section:?}");
        let not_there = homes(dir.path(), "template = 'a/{username}'");
        let section = super::section(Some(&not_there), &[]);
        assert!(section.lines[0].contains("cannot list homes.root/a"), "{section:?}");
        let odd = super::section(Some(&missing), &["a\u{1b}b".to_owned()]);
        assert!(odd.lines[0].contains("a\\u{1b}b"), "{odd:?}");
    }
}
