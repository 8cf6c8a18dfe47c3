//! The agent of docs/mux.md, which runs in the user's server: its sources, its start, and its
//! markers.
//!
//! The markers are what is said on the terminal before the agent speaks the protocol. No I/O.

use crate::terminado::shell::Nonce;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::text::head;

/// The script that finds a Python and runs [`LOADER`] in it.
const BOOT: &str = include_str!("boot.sh");
/// The Python program that takes over the terminal and waits for the source.
const LOADER: &str = include_str!("loader.py");
/// The protocol's numbers, which both ends agree on.
const PROTOCOL: &str = include_str!("protocol.py");
/// The agent's source files in the order in which they are sent, with [`BETWEEN`] between them.
const AGENT: [&str; 6] = [
    include_str!("link.py"),
    include_str!("streams.py"),
    include_str!("ending.py"),
    include_str!("terminals.py"),
    include_str!("file_streams.py"),
    include_str!("connections.py"),
];
/// The empty lines that Python's style wants between two functions.
const BETWEEN: &str = "\n\n";
/// The text whose last line is typed into a server's own shell, in place of [`command`].
const TYPED: &str = include_str!("typed.txt");
/// An SFTP server in Python, for images that have none.
pub const FILES: &str = include_str!("files.py");

/// How much output is searched for markers, in bytes.
///
/// A shell's greeting comes first where the command is typed.
const MAX_PRINTED: usize = 256 * 1024;
/// The longest marker, in bytes.
const MAX_MARKER: usize = 512;

/// Returns the `shell_command` that starts the agent.
#[must_use]
pub fn command(nonce: &Nonce) -> Vec<String> {
    ["/bin/sh", "-c", BOOT, "jupyterhub-openssh", nonce.as_str(), LOADER].map(str::to_owned).into()
}

/// Returns a line that starts the agent when it is typed into a shell.
///
/// After [`Marker::Typed`], send [`boot`].
#[must_use]
pub fn typed(nonce: &Nonce) -> String {
    let length = boot(nonce).len().to_string();
    let line = TYPED.trim_end().lines().last().unwrap_or_default();
    let line = line.replace("{NONCE}", nonce.as_str()).replace("{LENGTH}", &length);
    // A blank keeps the line out of most shells' histories; the Enter key sends a carriage return.
    format!(" {line}\r")
}

/// Returns what the typed line waits for: [`command`], as a shell's text.
#[must_use]
pub fn boot(nonce: &Nonce) -> String {
    // Neither the loader nor a nonce contains a single quote; a test checks that.
    format!("set -- {} '{LOADER}'\n{BOOT}", nonce.as_str())
}

/// Returns the line that carries the agent's source.
#[must_use]
pub fn source() -> String {
    format!("~{}\n", STANDARD.encode([PROTOCOL, &AGENT.join(BETWEEN)].concat()))
}

/// A message on the terminal from before the agent greets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// `sh`: the script runs.
    Shell,
    /// `typed`: the typed line runs and waits for [`boot`].
    Typed,
    /// `no-python`: the server has no Python that can run the agent.
    NoPython,
    /// `loader`: the loader runs and waits for [`source`].
    Loader,
    /// `bad-source`: the source arrived damaged.
    BadSource,
}

/// Finds the markers with one nonce in what a terminal prints.
#[derive(Debug, Default)]
pub struct Markers {
    prefix: String,
    printed: String,
}

impl Markers {
    /// Returns a search for the markers with `nonce`.
    #[must_use]
    pub fn new(nonce: &Nonce) -> Self {
        Self { prefix: prefix(nonce), printed: String::new() }
    }

    /// Takes what was printed.
    pub fn push(&mut self, text: &str) {
        self.printed.push_str(text);
        if self.printed.len() > MAX_PRINTED {
            // A marker may have begun at the end.
            let cut = head(&self.printed, self.printed.len() - MAX_MARKER).len();
            self.printed.drain(..cut);
        }
    }

    /// Returns the next marker, and forgets what came before it.
    pub fn take(&mut self) -> Option<Marker> {
        loop {
            let start = self.printed.find(&self.prefix)? + self.prefix.len();
            let length = self.printed.get(start..)?.find("\x1b\\")?;
            let marker = match self.printed.get(start..start + length)? {
                "sh" => Some(Marker::Shell),
                "typed" => Some(Marker::Typed),
                "no-python" => Some(Marker::NoPython),
                "loader" => Some(Marker::Loader),
                "bad-source" => Some(Marker::BadSource),
                _ => None,
            };
            self.printed.drain(..start + length + 2);
            if marker.is_some() {
                return marker;
            }
        }
    }

    /// Returns what was printed after the last marker.
    #[must_use]
    pub fn take_rest(&mut self) -> String {
        std::mem::take(&mut self.printed)
    }
}

fn prefix(nonce: &Nonce) -> String {
    format!("\x1b]7730;{};", nonce.as_str())
}

/// True if the agent's guardian says in `text` that the agent has ended.
#[must_use]
pub fn is_gone(nonce: &Nonce, text: &str) -> bool {
    text.contains(&(prefix(nonce) + "gone;"))
}

/// True if the loader says in `text` that the source arrived damaged.
#[must_use]
pub fn is_bad_source(nonce: &Nonce, text: &str) -> bool {
    text.contains(&(prefix(nonce) + "bad-source"))
}

/// True if `text` contains one of our own markers, which a terminal repeats after a reconnect.
#[must_use]
pub fn is_marker(nonce: &Nonce, text: &str) -> bool {
    text.contains(&prefix(nonce))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce::from_bytes([0xab; 16])
    }

    #[test]
    fn what_is_sent_is_what_can_be_sent() {
        // One argument may have 120 KB. A terminal's line that a shell edits has 4095 bytes; less
        // is better.
        assert!(command(&nonce()).iter().all(|argument| argument.len() < 8 * 1024));
        let line = typed(&nonce());
        assert!(line.len() < 900 && !line.trim_end().contains(['\n', '\r']), "{} bytes", line.len());
        assert!(line.contains(&boot(&nonce()).len().to_string()));
        assert!(!LOADER.contains('\'') && LOADER.is_ascii() && BOOT.is_ascii());
        // The line's echo is no marker.
        let mut markers = Markers::new(&nonce());
        markers.push(&line);
        assert_eq!(markers.take(), None);
        assert!(source().len() < 200 * 1024);
    }

    #[test]
    fn markers_are_found_in_any_portions() {
        let mark = |word: &str| format!("\x1b]7730;{};{word}\x1b\\", "ab".repeat(16));
        let text = format!("motd\r\n{}$ {}{}rest", mark("sh"), mark("strange"), mark("loader"));
        for size in [1, 3, 7, 1000] {
            let mut markers = Markers::new(&nonce());
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                markers.push(std::str::from_utf8(piece).unwrap());
                found.extend(std::iter::from_fn(|| markers.take()));
            }
            assert_eq!(found, [Marker::Shell, Marker::Loader], "{size}");
            assert_eq!(markers.take_rest(), "rest");
        }
        assert!(is_gone(&nonce(), &mark("gone;it was killed")));
        assert!(!is_gone(&Nonce::from_bytes([1; 16]), &mark("gone;it was killed")));
        assert!(is_bad_source(&nonce(), &mark("bad-source")) && is_marker(&nonce(), &mark("sh")));
    }

    #[test]
    fn a_flood_before_the_marker_is_bounded() {
        let mut markers = Markers::new(&nonce());
        for _ in 0..100 {
            markers.push(&"ü".repeat(10_000));
            assert!(markers.printed.len() <= MAX_PRINTED);
        }
        markers.push(&format!("\x1b]7730;{};typed\x1b\\", "ab".repeat(16)));
        assert_eq!(markers.take(), Some(Marker::Typed));
    }
}
