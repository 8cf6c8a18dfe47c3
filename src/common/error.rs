//! What is wrong with the configuration, where, and what to do about it.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// Longest quotation from the configuration in a message, in characters.
const MAX_QUOTE: usize = 60;

/// An error in the configuration.
///
/// Shown as two lines: what is wrong, as in ``FILE, line 3, key `hub.url`: …``, and the remedy.
/// Quotations from the file are escaped and cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<PathBuf>,
    place: Option<Place>,
    key: Option<String>,
    problem: String,
    remedy: String,
}

/// A place in a text; both numbers start at 1, columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
}

impl ConfigError {
    /// An error without a place.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { file: None, place: None, key: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// Adds the place in the file.
    #[must_use]
    pub(crate) fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Adds the key, with its table: `hub.url`.
    #[must_use]
    pub(crate) fn for_key(self, key: impl AsRef<str>) -> Self {
        Self { key: Some(excerpt(key.as_ref())), ..self }
    }

    /// Adds the file.
    #[must_use]
    pub fn in_file(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// The file, if it is known.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The place in the file, if there is one.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// The key at fault, with its table.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What is wrong.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Everything in one line, for the system log.
    pub fn one_line(&self) -> String {
        self.to_string().replacen('\n', ". ", 1)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = Vec::new();
        if let Some(file) = &self.file {
            place.push(file.display().to_string());
        }
        if let Some(at) = self.place {
            place.push(format!("line {}", at.line));
        }
        if let Some(key) = &self.key {
            place.push(format!("key `{key}`"));
        }
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
        }
        write!(f, "{}\n{}", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

/// Makes text from the configuration fit for a message: escapes control characters and cuts it
/// short.
pub fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_QUOTE) {
        match c {
            // So are characters that reorder the text around them on a terminal.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(out, "{}", c.escape_default());
            }
            c => out.push(c),
        }
    }
    if text.chars().nth(MAX_QUOTE).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_what_and_what_to_do() {
        let error = ConfigError::new("5 is too low", "Use at least 10")
            .at(Place { line: 3, column: 8 })
            .for_key("hub.start_timeout")
            .in_file(Path::new("/etc/x.toml"));
        assert_eq!(
            error.to_string(),
            "/etc/x.toml, line 3, key `hub.start_timeout`: 5 is too low\nUse at least 10"
        );
        assert_eq!(
            error.one_line(),
            "/etc/x.toml, line 3, key `hub.start_timeout`: 5 is too low. Use at least 10"
        );
        assert_eq!(ConfigError::new("a", "b").to_string(), "a\nb");
    }

    #[test]
    fn excerpts_are_short_and_harmless() {
        assert_eq!(excerpt("a\u{1b}[2J\n\u{202e}"), "a\\u{1b}[2J\\n\\u{202e}");
        assert_eq!(excerpt(&"ä".repeat(100)).chars().count(), 61);
    }
}
