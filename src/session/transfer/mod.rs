//! Reads the command lines that `rsync` and `scp -O` clients send. Pure.
//!
//! Clients write them for a shell, but the jail has no shell and this module does not imitate one.
//! [`words`] undoes the quoting, [`rsync`] and [`scp`] allow only listed options, and
//! [`super::expand`] expands `~`, `$HOME` and wildcards in paths. Paths need no check, not even for
//! `..`: the jail holds only what the user may reach, and the working directory is the home.

mod own_home;
mod rsync;
mod scp;
mod words;

pub use own_home::own_home;
use std::fmt;
use wire::session::FileTool;
pub use words::Word;

/// The most words that a command may have.
const MAX_WORDS: usize = 4096;

/// An argument for `rsync` or `scp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// Passed on unchanged.
    Plain(Vec<u8>),
    /// `--name=PATH`, where the path may start with `~` or `$HOME`.
    Option(&'static str, Word),
    /// A path that may start with `~` or `$HOME` and may have wildcards.
    Path(Word),
}

impl Argument {
    fn plain(text: &str) -> Self {
        Self::Plain(text.as_bytes().to_vec())
    }
}

/// Why a command is not run: two lines for the user, what happened and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    fn new(what: impl fmt::Display, remedy: &str) -> Self {
        Self(format!("{what}\n{remedy}"))
    }

    /// Refuses wildcards that match too many files.
    pub fn too_many() -> Self {
        Self::new("The wildcards in this command match too many files.", "Name the directory instead.")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the tool if the command is the remote end of a transfer: `rsync --server`, `scp -t` or
/// `scp -f`.
///
/// This is only a first look: [`arguments`] checks the rest of the command.
#[must_use]
pub fn tool(command: &[u8]) -> Option<FileTool> {
    let mut words = command.split(u8::is_ascii_whitespace);
    let program = words.next()?;
    let mut words = words.filter(|word| !word.is_empty());
    match program {
        b"rsync" | b"/usr/bin/rsync" => (words.next()? == b"--server").then_some(FileTool::Rsync),
        b"scp" | b"/usr/bin/scp" => {
            words.map_while(scp::cluster).any(scp::names_direction).then_some(FileTool::Scp)
        }
        _ => None,
    }
}

/// Returns the program's arguments for a command that [`tool`] recognized.
///
/// # Errors
/// Fails if no client sends such a command, or if it asks for more than is allowed.
pub fn arguments(tool: FileTool, command: &[u8]) -> Result<Vec<Argument>, Refusal> {
    let words = words::split(command, MAX_WORDS).map_err(|e| {
        Refusal::new(
            format_args!("This command cannot be served without a shell: {e}."),
            "Put a backslash before special characters in file names, or use sftp or scp without -O.",
        )
    })?;
    let words = words.get(1..).unwrap_or_default();
    match tool {
        FileTool::Rsync => rsync::arguments(words),
        FileTool::Scp => scp::arguments(words),
        // The configuration sets the server's arguments, not the client.
        FileTool::Sftp => Ok(Vec::new()),
    }
}

/// A piece of a command for a message: printable, at most 60 characters.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().take(60).map(char::from).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_ends_of_a_transfer_are_known() {
        for (command, expected) in [
            (&b"rsync --server . x"[..], Some(FileTool::Rsync)),
            (b"/usr/bin/rsync\t --server", Some(FileTool::Rsync)),
            (b"rsync --server --daemon .", Some(FileTool::Rsync)),
            (b"rsync --server; id", None),
            (b"rsync", None),
            (b"rsync --version", None),
            (b"rsync -a x --server", None),
            (b"scp\t-t .", Some(FileTool::Scp)),
            (b"/usr/bin/scp -f x", Some(FileTool::Scp)),
            (b"scp -v -r -p -d -t x", Some(FileTool::Scp)),
            (b"scp -qrt dir", Some(FileTool::Scp)),
            (b"scp -t $(id)", Some(FileTool::Scp)),
            (b"scp", None),
            (b"scp a b", None),
            (b"scp -r a b", None),
            (b"scp -r a -t", None),
            (b"scp -r -- -t", None),
            (b"scp - -t", None),
            (b"scp -oPort=22 x alice@there:", None),
            (b"scp -S sh -t x", None),
            (b"/tmp/rsync --server", None),
            (b"rsync;id --server", None),
            (b" rsync --server", None),
            (b"sudo rsync --server", None),
            (b"'rsync' --server", None),
            (b"", None),
        ] {
            assert_eq!(tool(command), expected, "{}", command.escape_ascii());
        }
    }

    #[test]
    fn a_refusal_has_two_lines() {
        for command in [
            "rsync --server --daemon .",
            "rsync",
            "rsync --server -vs . x",
            "rsync --server --wrong\u{7}\n=1 . x",
            "rsync --server --log-file=x . x",
            "rsync --server . 'x",
            "rsync --server . $(id)",
            "scp -S sh -t x",
            "scp x y",
            "scp -t a b",
        ] {
            let tool = if command.starts_with("scp") { FileTool::Scp } else { FileTool::Rsync };
            let refusal = arguments(tool, command.as_bytes()).unwrap_err();
            assert_eq!(refusal.to_string().lines().count(), 2, "{refusal}");
            assert!(refusal.to_string().chars().all(|c| c == '\n' || !c.is_control()), "{refusal:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(rest in prop::collection::vec(any::<u8>(), 0..200)) {
            for (tool, name) in [(FileTool::Rsync, "rsync "), (FileTool::Scp, "scp ")] {
                let _ = arguments(tool, &[name.as_bytes(), &rest].concat());
            }
        }
    }
}
