//! Reads TOML one table and one key at a time, so that each fault has a line, a key and a remedy.

use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{ConfigError, Place, excerpt};

/// Longest configuration that is read, in bytes. Every sshd process parses it for every hub login.
pub const MAX_SIZE: usize = 256 * 1024;

/// A parsed file.
pub struct Document<'t> {
    text: &'t str,
    root: DeTable<'t>,
}

/// One table of a file; a table that the file lacks is empty.
pub struct Table<'d> {
    text: &'d str,
    name: &'static str,
    /// Where it starts in the text, and what is in it.
    entries: Option<(usize, &'d DeTable<'d>)>,
}

impl<'t> Document<'t> {
    /// Parses a file.
    ///
    /// # Errors
    /// It is longer than [`MAX_SIZE`], or is no TOML.
    pub fn parse(text: &'t str) -> Result<Self, ConfigError> {
        if text.len() > MAX_SIZE {
            return Err(too_large());
        }
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { text, root: root.into_inner() }),
            Err(error) => {
                let start = error.span().map_or(0, |span| span.start);
                // The library has no kinds of errors, and one message for a table and a key.
                let remedy = if error.message().starts_with("duplicate key") {
                    "This table or key is in the file already: put the lines under the first one, and remove this."
                } else {
                    "Correct the line; text values need quotes, as in url = \"https://hub.example.org\"."
                };
                Err(ConfigError::new(format!("this is not valid TOML: {}", excerpt(error.message())), remedy)
                    .at(place(text, start)))
            }
        }
    }

    /// A table by its name. Keys other than `known` are refused.
    ///
    /// # Errors
    /// The name belongs to something that is no table, or the table has an unknown key.
    pub fn table(&self, name: &'static str, known: &[&str]) -> Result<Table<'_>, ConfigError> {
        let Some((key, value)) = self.root.get_key_value(name) else {
            return Ok(Table { text: self.text, name, entries: None });
        };
        let DeValue::Table(entries) = value.get_ref() else {
            return Err(ConfigError::new(
                format!("{name} is not a table"),
                format!("Write a line [{name}] and the keys on the lines after it."),
            )
            .at(place(self.text, key.span().start))
            .for_key(name));
        };
        self.known(name, value.span().start, entries, known)
    }

    fn known<'d>(
        &'d self,
        name: &'static str,
        start: usize,
        entries: &'d DeTable<'d>,
        known: &[&str],
    ) -> Result<Table<'d>, ConfigError> {
        let unknown = entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        // The map is sorted by name; the first in the file is the one to report.
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let word = key.get_ref();
            return Err(ConfigError::new(format!("unknown key in [{name}]"), suggestion(word, known))
                .at(place(self.text, key.span().start))
                .for_key(format!("{name}.{word}")));
        }
        Ok(Table { text: self.text, name, entries: Some((start, entries)) })
    }

    /// The tables of an array of tables (`[[name]]`), in their order. Keys other than `known` are
    /// refused.
    ///
    /// # Errors
    /// The name belongs to something else, or one of the tables has an unknown key.
    pub fn tables<'d>(&'d self, name: &'static str, known: &[&str]) -> Result<Vec<Table<'d>>, ConfigError> {
        let Some((key, value)) = self.root.get_key_value(name) else { return Ok(Vec::new()) };
        let table = |item: &'d Spanned<DeValue<'t>>| Some((item.span().start, item.get_ref().as_table()?));
        let tables: Option<Vec<_>> =
            value.get_ref().as_array().and_then(|array| array.iter().map(table).collect());
        let Some(tables) = tables else {
            return Err(ConfigError::new(
                format!("{name} is not a list of tables"),
                format!("Write a line [[{name}]] before the keys of each."),
            )
            .at(place(self.text, key.span().start))
            .for_key(name));
        };
        tables.into_iter().map(|(start, entries)| self.known(name, start, entries, known)).collect()
    }

    /// Refuses every table and key at the top of the file other than `known`.
    ///
    /// # Errors
    /// There is one.
    pub fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        let unknown = self.root.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref()));
        let Some((key, value)) = unknown.min_by_key(|(key, _)| key.span().start) else { return Ok(()) };
        let (what, remedy) = match value.get_ref() {
            DeValue::Table(_) | DeValue::Array(_) => ("unknown table", suggestion(key.get_ref(), known)),
            _ => (
                "this key stands before the first table",
                "Move it below the line of its table, such as [hub].".to_owned(),
            ),
        };
        Err(ConfigError::new(what, remedy).at(place(self.text, key.span().start)).for_key(key.get_ref()))
    }
}

impl<'d> Table<'d> {
    /// A text.
    ///
    /// # Errors
    /// The value is something else.
    pub fn text(&self, key: &str) -> Result<Option<&'d str>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(self.refuse(key, "the value is not a text", "Put the value in double quotes.")),
        }
    }

    /// A whole number, zero or more.
    ///
    /// # Errors
    /// The value is something else.
    pub fn number(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        self.value(key).map(|value| number(value).ok_or_else(|| self.no_number(key))).transpose()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// The value is something else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::Boolean(value)) => Ok(Some(*value)),
            Some(_) => Err(self.refuse(
                key,
                "the value is neither true nor false",
                "Write true or false, without quotes.",
            )),
        }
    }

    /// Two whole numbers, such as `[1000, 100]`, that fit 32 bits.
    ///
    /// # Errors
    /// The value is something else.
    pub(crate) fn pair(&self, key: &str) -> Result<Option<(u32, u32)>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let items = value.as_array().map(|array| array.iter().collect::<Vec<_>>()).unwrap_or_default();
        let item = |at: usize| {
            items
                .get(at)
                .and_then(|item| number(item.get_ref()))
                .and_then(|number| u32::try_from(number).ok())
        };
        match (items.len(), item(0), item(1)) {
            (2, Some(first), Some(second)) => Ok(Some((first, second))),
            _ => Err(self.refuse(
                key,
                "the value is not a pair of numbers",
                "Write two numbers below 4294967296 in brackets, as in [1000, 100].",
            )),
        }
    }

    /// An absolute path, without `//`, `.` or `..`, other than `/`.
    ///
    /// # Errors
    /// The value is something else.
    pub fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let path = Path::new(text);
        // Components drop a `.`, so compare with what they make.
        let plain: PathBuf =
            path.components().filter(|c| matches!(c, Component::RootDir | Component::Normal(_))).collect();
        let trimmed = text.trim_end_matches('/');
        if !path.is_absolute()
            || trimmed.is_empty()
            || plain.as_os_str() != trimmed
            || text.contains(char::is_control)
        {
            return Err(self.refuse(
                key,
                "the path is not absolute, or contains //, . or ..",
                "Write the whole path, starting with a slash.",
            ));
        }
        Ok(Some(plain))
    }

    /// A list of texts.
    ///
    /// # Errors
    /// The value is something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'d str>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = |item: &'d DeValue<'d>| match item {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        };
        value
            .as_array()
            .and_then(|array| array.iter().map(|item| text(item.get_ref())).collect())
            .map(Some)
            .ok_or_else(|| {
                self.refuse(
                    key,
                    "the value is not a list of texts",
                    "Write texts in double quotes, with commas between them, in brackets.",
                )
            })
    }

    /// Permission bits as chmod(1) takes them, in octal digits in a text, up to `most`.
    ///
    /// # Errors
    /// The value is something else.
    pub fn mode(&self, key: &str, most: u32) -> Result<Option<u32>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match octal.then(|| u32::from_str_radix(text, 8).ok()).flatten() {
            Some(mode) if mode <= most => Ok(Some(mode)),
            _ => Err(self.refuse(
                key,
                "the value is not a mode",
                format!("Write three or four octal digits in double quotes, up to \"{most:04o}\"."),
            )),
        }
    }

    /// An error about one of the table's keys; a key that is not set has the place of its table.
    pub fn refuse(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        let error = ConfigError::new(problem, remedy).for_key(format!("{}.{key}", self.name));
        let Some((start, entries)) = self.entries else { return error };
        let start = entries.get_key_value(key).map_or(start, |(key, _)| key.span().start);
        error.at(place(self.text, start))
    }

    fn value(&self, key: &str) -> Option<&'d DeValue<'d>> {
        self.entries.and_then(|(_, entries)| entries.get(key)).map(|value| value.get_ref())
    }

    fn no_number(&self, key: &str) -> ConfigError {
        self.refuse(key, "the value is not a whole number", "Write a number without quotes, sign or unit.")
    }
}

pub(crate) fn too_large() -> ConfigError {
    ConfigError::new(
        format!("the file is larger than {} KiB", MAX_SIZE / 1024),
        "Remove what does not belong into it.",
    )
}

fn number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    Place { line: count(before.matches('\n').count()), column: count(line.chars().count()) }
}

/// What to do about an unknown word: the known one that it resembles, or all of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|candidate| (distance(word, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= 1 + candidate.len() / 4 => {
            format!("Did you mean {candidate}?")
        }
        _ => format!("Known here: {}.", known.join(", ")),
    }
}

/// The Levenshtein distance between the first 64 characters of each of two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("url", "url", 0), ("ulr", "url", 2), ("", "abc", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn faults_have_a_place_a_key_and_a_remedy() {
        let error = |text: &str| {
            let document = match Document::parse(text) {
                Ok(document) => document,
                Err(error) => return error,
            };
            if let Err(error) = document.only(&["hub", "homes"]) {
                return error;
            }
            match document.table("hub", &["url", "pair", "on", "seconds"]) {
                Err(error) => error,
                Ok(table) => [
                    table.text("url").err(),
                    table.pair("pair").err(),
                    table.boolean("on").err(),
                    table.number("seconds").err(),
                ]
                .into_iter()
                .flatten()
                .next()
                .unwrap(),
            }
        };
        for (text, line, column, key, remedy) in [
            ("[hub]\n\n  urll = \"\"", 3, 3, Some("hub.urll"), "Did you mean url?"),
            ("[hub]\nzzz = 1\nyyy = 1", 2, 1, Some("hub.zzz"), "Known here: url, pair, on, seconds."),
            ("[hup]", 1, 2, Some("hup"), "Did you mean hub?"),
            ("url = 'x'\n[hub]", 1, 1, Some("url"), "Move it below the line of its table, such as [hub]."),
            ("hub = 1", 1, 1, Some("hub"), "Write a line [hub]"),
            ("[hub]\nurl = 5", 2, 1, Some("hub.url"), "Put the value in double quotes."),
            ("[hub]\npair = [1]", 2, 1, Some("hub.pair"), "Write two numbers"),
            ("[hub]\npair = [1, 2, 3]", 2, 1, Some("hub.pair"), "Write two numbers"),
            ("[hub]\npair = [1, 4294967296]", 2, 1, Some("hub.pair"), "Write two numbers"),
            ("[hub]\npair = [1, -2]", 2, 1, Some("hub.pair"), "Write two numbers"),
            ("[hub]\non = \"true\"", 2, 1, Some("hub.on"), "Write true or false"),
            ("[hub]\nseconds = 1.5", 2, 1, Some("hub.seconds"), "Write a number"),
            ("[hub]\nseconds = 99999999999999999999", 2, 1, Some("hub.seconds"), "Write a number"),
            ("[hub]\nurl = https://hub", 2, 7, None, "Correct the line"),
            ("[hub]\nurl = \"a\"\nurl = \"b\"", 3, 1, None, "This table or key is in the file already: put"),
            (
                "[hub]\n[homes]\n[hub]\nurl = \"b\"",
                3,
                2,
                None,
                "This table or key is in the file already: put",
            ),
            ("[hub]\n[[hub]]", 2, 3, None, "This table or key is in the file already: put"),
        ] {
            let error = error(text);
            assert_eq!(error.place(), Some(Place { line, column }), "{text}: {error}");
            assert_eq!(error.key(), key, "{text}");
            assert!(error.remedy().starts_with(remedy), "{text}: {error}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        let path = |text: &str| {
            let text = format!("[hub]\np = {text}");
            let document = Document::parse(&text).unwrap();
            document.table("hub", &["p"]).unwrap().path("p").map_err(|error| error.to_string())
        };
        assert_eq!(path("'/srv/homes'"), Ok(Some("/srv/homes".into())));
        assert_eq!(path("'/srv/homes//'"), Ok(Some("/srv/homes".into())));
        for text in
            ["'srv'", "''", "'/'", "'//'", "'/srv/../etc'", "'/srv/./homes'", "'/srv//homes'", "\"/a\\nb\""]
        {
            assert!(path(text).unwrap_err().contains("Write the whole path"), "{text}");
        }
    }

    #[test]
    fn tables_of_a_list_have_their_own_lines() {
        let text = "[[s]]\na = 'x'\n\n[[s]]\nb = ['y']\n[t]";
        let document = Document::parse(text).unwrap();
        let tables = document.tables("s", &["a", "b"]).unwrap();
        assert_eq!(tables.len(), 2);
        assert_eq!(tables[0].text("a").unwrap(), Some("x"));
        assert_eq!(tables[1].texts("b").unwrap(), Some(vec!["y"]));
        let line = |table: &Table<'_>, key| table.refuse(key, "", "").place().unwrap().line;
        assert_eq!(
            (line(&tables[0], "a"), line(&tables[0], "b")),
            (2, 1),
            "an unset key has its table's place"
        );
        assert_eq!((line(&tables[1], "a"), line(&tables[1], "b")), (4, 5));
        assert!(document.tables("none", &[]).unwrap().is_empty());
        for (text, line, key, remedy) in [
            ("[s]\na = 1", 1, "s", "Write a line [[s]] before the keys of each."),
            ("s = [1]", 1, "s", "Write a line [[s]] before the keys of each."),
            ("[[s]]\n[[s]]\nzzz = 1", 3, "s.zzz", "Known here: a, b."),
        ] {
            let document = Document::parse(text).unwrap();
            let error = document.tables("s", &["a", "b"]).err().unwrap();
            assert_eq!(error.place().map(|place| place.line), Some(line), "{text}: {error}");
            assert_eq!((error.key(), error.remedy()), (Some(key), remedy), "{text}");
        }
    }

    #[test]
    fn modes_are_octal_texts() {
        let mode = |text: &str| {
            let text = format!("[hub]\nm = {text}");
            let document = Document::parse(&text).unwrap();
            document.table("hub", &["m"]).unwrap().mode("m", 0o777).map_err(|error| error.to_string())
        };
        assert_eq!(mode("'0750'"), Ok(Some(0o750)));
        assert_eq!(mode("'022'"), Ok(Some(0o22)));
        for text in ["'22'", "'1777'", "'00022'", "'0o22'", "'9999'", "''", "'+022'"] {
            assert!(mode(text).unwrap_err().contains("octal digits"), "{text}");
        }
        assert!(mode("18").unwrap_err().contains("double quotes"));
    }

    #[test]
    fn a_huge_file_is_refused_before_it_is_parsed() {
        assert!(Document::parse(&"#".repeat(MAX_SIZE)).is_ok());
        assert!(Document::parse(&"#".repeat(MAX_SIZE + 1)).is_err());
        assert!(Document::parse(&"[".repeat(MAX_SIZE)).is_err());
        assert!(Document::parse(&format!("a={}", "[".repeat(MAX_SIZE - 2))).is_err());
        assert!(Document::parse(&format!("a{}=1", ".a".repeat(MAX_SIZE / 2 - 2))).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|([\\[\\]a-c.=\"',{}\\n #0-9_-]|hub|url){0,60}") {
            if let Ok(document) = Document::parse(&text) {
                let _ = document.only(&["hub"]);
                if let Ok(table) = document.table("hub", &["url"]) {
                    let _ = (table.text("url"), table.number("url"), table.boolean("url"), table.pair("url"));
                }
            }
        }
    }
}
