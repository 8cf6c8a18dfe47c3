//! Expands paths as a shell on the other side would: `~` and `$HOME` become the home, wildcards the
//! names that match.
//!
//! rsync and `scp -O` rely on it (`rsync alice@bastion:'*.csv' .`). glob(3) has no bounds: a
//! pattern such as `*/../*/../*` would keep this host busy as long as the user likes.

mod pattern;

use super::transfer::{Argument, Refusal, Word};
use pattern::Pattern;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The most bytes of paths that one command's wildcards may give; execve(2) takes about twice as
/// many.
const MAX_BYTES: usize = 1024 * 1024;
/// The most directory entries that are read for one command.
const MAX_ENTRIES: usize = 200_000;

/// Expands the arguments, as execve(2) takes them. `home` is absolute; relative patterns are looked
/// up in `directory`.
///
/// # Errors
/// Fails if the wildcards match too many files or have to read too many directory entries.
pub fn expand(arguments: Vec<Argument>, home: &Path, directory: &Path) -> Result<Vec<OsString>, Refusal> {
    let mut left = Left { entries: MAX_ENTRIES, bytes: MAX_BYTES };
    let mut out = Vec::new();
    for argument in arguments {
        match argument {
            Argument::Plain(bytes) => out.push(OsString::from_vec(bytes)),
            Argument::Option(name, word) => {
                let value = Pattern::parse(&with_home(&word, home)).literal();
                out.push(OsString::from_vec([b"--", name.as_bytes(), b"=", &value].concat()));
            }
            Argument::Path(word) => {
                let word = with_home(&word, home);
                let found = left.matches(&word, directory).ok_or_else(Refusal::too_many)?;
                if found.is_empty() {
                    // As a shell does: the program then says that there is no such file.
                    out.push(OsString::from_vec(Pattern::parse(&word).literal()));
                }
                out.extend(found.into_iter().map(OsString::from_vec));
            }
        }
    }
    Ok(out)
}

/// A byte, and whether it was quoted.
type Text = Vec<(u8, bool)>;

fn with_home(word: &Word, home: &Path) -> Text {
    let home = if word.home { home.as_os_str().as_bytes() } else { b"" };
    home.iter().map(|byte| (*byte, true)).chain(word.text.iter().copied()).collect()
}

/// How much may still be read, and what was found.
struct Left {
    entries: usize,
    bytes: usize,
}

impl Left {
    /// Returns the paths that a word matches, sorted; none if it has no wildcards. `None` means
    /// that there are too many.
    fn matches(&mut self, word: &[(u8, bool)], directory: &Path) -> Option<Vec<Vec<u8>>> {
        if !Pattern::parse(word).has_wildcards() {
            return Some(Vec::new());
        }
        // Each is a path as it will be shown, ending with the slash before the next component.
        let mut found = vec![Vec::new()];
        for (number, component) in word.split(|(byte, _)| *byte == b'/').enumerate() {
            let pattern = Pattern::parse(component);
            let mut next = Vec::new();
            for before in found {
                let start = if number == 0 { before } else { [before, b"/".to_vec()].concat() };
                if pattern.has_wildcards() {
                    for name in self.entries(&start, directory)? {
                        if pattern.matches(&name) {
                            next.push(self.take([&start[..], &name].concat())?);
                        }
                    }
                } else {
                    next.push(self.take([start, pattern.literal()].concat())?);
                }
            }
            found = next;
        }
        found.retain(|path| {
            directory.join(Path::new(std::ffi::OsStr::from_bytes(path))).symlink_metadata().is_ok()
        });
        found.sort();
        Some(found)
    }

    fn take(&mut self, path: Vec<u8>) -> Option<Vec<u8>> {
        self.bytes = self.bytes.checked_sub(path.len() + 1)?;
        Some(path)
    }

    /// Returns the names in a directory; none if it cannot be read. `None` means that there are too
    /// many.
    fn entries(&mut self, path: &[u8], directory: &Path) -> Option<Vec<Vec<u8>>> {
        let path = directory.join(Path::new(std::ffi::OsStr::from_bytes(path)));
        let mut names = Vec::new();
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            self.entries = self.entries.checked_sub(1)?;
            names.push(entry.file_name().into_vec());
        }
        Some(names)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::transfer::{arguments, tool};
    use super::*;

    fn words(home: &Path, command: &str) -> Result<Vec<String>, Refusal> {
        let command = command.as_bytes();
        let arguments = arguments(tool(command).unwrap(), command).unwrap();
        let strings = expand(arguments, Path::new("/home/alice"), home)?;
        let all: Vec<String> = strings.into_iter().map(|text| text.into_string().unwrap()).collect();
        // Without the options.
        let paths = all.iter().position(|text| text == "--").unwrap() + 1;
        Ok(all[paths..].to_vec())
    }

    #[test]
    fn paths_as_a_shell_would_have_them() {
        let home = tempfile::tempdir().unwrap();
        for dir in ["d", "d/e", "d/f", ".h"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        for file in ["a.csv", "b.csv", "*.csv", ".c.csv", "x y", "d/1.csv", "d/e/2", "d/f/2"] {
            fs::write(home.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", home.path().join("d/e/l")).unwrap();
        let home = home.path();
        for (command, expected) in [
            ("scp -f *.csv", vec!["*.csv", "a.csv", "b.csv"]),
            ("scp -f \\*.csv '*.csv' \"*\".csv", vec!["*.csv", "*.csv", "*.csv"]),
            ("scp -f [ab].csv ?.csv .*.csv", vec!["a.csv", "b.csv", "*.csv", "a.csv", "b.csv", ".c.csv"]),
            ("scp -f [!ab].csv x\\ * *y", vec!["*.csv", "x y", "x y"]),
            ("scp -f d/*/2 d/*/l */e", vec!["d/e/2", "d/f/2", "d/e/l", "d/e"]),
            ("scp -f ./*.csv d/../a*", vec!["./*.csv", "./a.csv", "./b.csv", "d/../a.csv"]),
            ("scp -f d/*/", vec!["d/e/", "d/f/"]),
            ("scp -f no*thing nowhere/* [", vec!["no*thing", "nowhere/*", "["]),
            ("scp -f ~ ~/x \\~ ~/no*", vec!["/home/alice", "/home/alice/x", "~", "/home/alice/no*"]),
            ("scp -f '' .", vec!["", "."]),
            ("rsync --server --sender -r . d/*.csv -v", vec![".", "d/1.csv", "-v"]),
        ] {
            assert_eq!(words(home, command).unwrap(), expected, "{command}");
        }
        let command = b"rsync --server --temp-dir ~/t* .";
        let option = arguments(tool(command).unwrap(), command).unwrap();
        let option = expand(option, Path::new("/home/alice"), home).unwrap();
        assert_eq!(option[1], "--temp-dir=/home/alice/t*");
        let absolute = format!("scp -f {}/?.csv", home.display());
        assert_eq!(words(Path::new("/"), &absolute).unwrap().len(), 3);
    }

    #[test]
    fn a_pattern_that_goes_round_and_round_is_given_up() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..30 {
            fs::create_dir(home.path().join(number.to_string())).unwrap();
        }
        let refusal = words(home.path(), &format!("scp -f {}*", "*/../".repeat(20))).unwrap_err();
        assert_eq!(refusal.to_string().lines().count(), 2);
        assert!(words(home.path(), "scp -f */../*").is_ok());
    }
}
