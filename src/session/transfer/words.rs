//! Splits a command line into words as a POSIX shell does (Shell Command Language, 2.2 Quoting and
//! 2.3 Token Recognition), and refuses what a shell would act on. Pure.
//!
//! The `shlex` crate would not do, because it forgets which characters were quoted. It could
//! neither refuse an unquoted `;` or `$(…)`, nor tell the wildcard in `*.csv` from the star in
//! `\*.csv`, which rsync quotes itself.

use std::fmt;

/// Why a command line cannot be split.
#[derive(Debug, PartialEq, Eq)]
pub enum SplitError {
    /// A quotation has no end, or the last byte is a backslash.
    Unfinished,
    /// An unquoted byte that a shell would act on.
    Special(u8),
    /// A `$` that is not the `$` of `$HOME` at a word's start: `$NAME`, `$(…)` or the like.
    Variable,
    /// `~NAME`, another user's home.
    OtherHome,
    /// A NUL, which no argument can hold.
    Nul,
    /// More words than allowed.
    TooMany,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("a quotation has no end"),
            Self::Special(byte) => write!(f, "it holds an unquoted {}", byte.escape_ascii()),
            Self::Variable => f.write_str("it holds a $ that is not the $ of a leading $HOME"),
            Self::OtherHome => f.write_str("it names somebody's home with ~"),
            Self::Nul => f.write_str("it holds a NUL"),
            Self::TooMany => f.write_str("it has too many words"),
        }
    }
}

/// A byte, and true if it was quoted. A quoted byte is never a wildcard.
pub type Char = (u8, bool);

/// One word without its quotes, which still knows which bytes were quoted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// True if the word starts with `~` or `$HOME`; neither is part of `text`.
    pub home: bool,
    /// The bytes after `~` or `$HOME`.
    pub text: Vec<Char>,
}

impl Word {
    /// Returns the bytes after `~` or `$HOME`, with wildcards as they are written.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.text.iter().map(|(byte, _)| *byte).collect()
    }

    /// Returns the whole word, or `None` if it starts with `~` or `$HOME`.
    #[must_use]
    pub fn plain(&self) -> Option<Vec<u8>> {
        (!self.home).then(|| self.bytes())
    }
}

/// Splits a command into at most `max` words.
///
/// # Errors
/// Fails if a quotation has no end, if a shell would act on the command, if it holds a NUL, or if
/// it has more than `max` words.
pub fn split(command: &[u8], max: usize) -> Result<Vec<Word>, SplitError> {
    let mut rest = command;
    let mut words = Vec::new();
    loop {
        while let Some((_, after)) = rest.split_first().filter(|(byte, _)| is_blank(**byte)) {
            rest = after;
        }
        if rest.is_empty() {
            return Ok(words);
        }
        if words.len() >= max {
            return Err(SplitError::TooMany);
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after;
    }
}

/// True for a byte that ends a word. A newline would end the command: [`unquoted`] refuses it.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Reads one word at the start of `rest`. Returns it and the bytes that follow.
fn word(rest: &[u8]) -> Result<(Word, &[u8]), SplitError> {
    let mut word = Word::default();
    let mut rest = leading_home(rest, &mut word)?;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            byte if is_blank(byte) => break,
            b'\'' => single_quoted(after, &mut word)?,
            b'"' => double_quoted(after, &mut word)?,
            b'\\' => {
                let (&byte, after) = after.split_first().ok_or(SplitError::Unfinished)?;
                // A backslash before a newline joins two lines; no client sends that.
                let byte = if byte == b'\n' { unquoted(byte, false)? } else { allowed(byte)? };
                word.text.push((byte, true));
                after
            }
            byte => {
                let first = word.text.is_empty() && !word.home;
                word.text.push((unquoted(byte, first)?, false));
                after
            }
        };
    }
    Ok((word, rest))
}

/// Removes a leading `~`, `$HOME` or `${HOME}` and sets [`Word::home`].
///
/// `$HOME` and `${HOME}` may be in double quotes. A `/` or the word's end must follow.
fn leading_home<'a>(rest: &'a [u8], word: &mut Word) -> Result<&'a [u8], SplitError> {
    let ends = |after: &[u8], end: &[u8]| {
        after.first().is_none_or(|byte| *byte == b'/' || is_blank(*byte) || end.contains(byte))
    };
    for home in ["$HOME", "${HOME}"].map(str::as_bytes) {
        if let Some(after) = rest.strip_prefix(home).filter(|after| ends(after, b"")) {
            word.home = true;
            return Ok(after);
        }
        let quoted = rest.strip_prefix(b"\"").and_then(|rest| rest.strip_prefix(home));
        if let Some(after) = quoted.filter(|after| ends(after, b"\"")) {
            word.home = true;
            return double_quoted(after, word);
        }
    }
    match rest.strip_prefix(b"~") {
        Some(after) if ends(after, b"") => {
            word.home = true;
            Ok(after)
        }
        Some(_) => Err(SplitError::OtherHome),
        None => Ok(rest),
    }
}

fn single_quoted<'a>(rest: &'a [u8], word: &mut Word) -> Result<&'a [u8], SplitError> {
    let end = rest.iter().position(|byte| *byte == b'\'').ok_or(SplitError::Unfinished)?;
    let (text, after) = rest.split_at(end);
    for &byte in text {
        word.text.push((allowed(byte)?, true));
    }
    Ok(after.get(1..).unwrap_or_default())
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Word) -> Result<&'a [u8], SplitError> {
    loop {
        let (&byte, after) = rest.split_first().ok_or(SplitError::Unfinished)?;
        rest = after;
        let byte = match (byte, after.split_first()) {
            (b'"', _) => return Ok(after),
            (b'$', _) => return Err(SplitError::Variable),
            (b'`', _) => return Err(SplitError::Special(byte)),
            (b'\\', Some((&escaped @ (b'$' | b'`' | b'"' | b'\\'), after))) => {
                rest = after;
                escaped
            }
            (b'\\', Some((b'\n', _))) => return Err(SplitError::Special(b'\n')),
            (byte, _) => byte,
        };
        word.text.push((allowed(byte)?, true));
    }
}

/// Checks a quoted byte: all but NUL are allowed.
fn allowed(byte: u8) -> Result<u8, SplitError> {
    if byte == 0 { Err(SplitError::Nul) } else { Ok(byte) }
}

/// Checks an unquoted byte. `first` is true at a word's start, where `#` begins a comment.
fn unquoted(byte: u8, first: bool) -> Result<u8, SplitError> {
    match byte {
        b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`' | b'\n' | b'\r' | 0x0b | 0x0c => {
            Err(SplitError::Special(byte))
        }
        b'#' if first => Err(SplitError::Special(byte)),
        b'$' => Err(SplitError::Variable),
        byte => allowed(byte),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes words for a comparison: `~` for the home, `\` before each quoted byte.
    fn shown(command: &str) -> Result<Vec<String>, SplitError> {
        let one = |word: &Word| {
            let mut out = if word.home { vec![b'~'] } else { Vec::new() };
            for (byte, quoted) in &word.text {
                out.extend(quoted.then_some(b'\\').into_iter().chain([*byte]));
            }
            String::from_utf8(out).unwrap()
        };
        Ok(split(command.as_bytes(), 100)?.iter().map(one).collect())
    }

    #[test]
    fn quoting_is_undone_as_a_shell_does_it() {
        for (command, words) in [
            ("scp -t .", vec!["scp", "-t", "."]),
            ("  a\t b  ", vec!["a", "b"]),
            ("", vec![]),
            ("''", vec![""]),
            (r"a\ b \*.csv *.csv", vec![r"a\ b", r"\*.csv", "*.csv"]),
            (r#"'a b'"c d"e"#, vec![r"\a\ \b\c\ \de"]),
            (r#"'\' "\"" "\a""#, vec![r"\\", "\\\"", r"\\\a"]),
            (r#"'$x;' "a;b" "\$x""#, vec![r"\$\x\;", r"\a\;\b", r"\$\x"]),
            ("'a\nb'", vec!["\\a\\\nb".replace('b', "\\b").as_str()]),
            ("~ ~/x a~ \\~/x '~'", vec!["~", "~/x", "a~", r"\~/x", r"\~"]),
            ("$HOME ${HOME}/x \"$HOME\" \"$HOME/a b\"/c", vec!["~", "~/x", "~", r"~\/\a\ \b/c"]),
            ("a#b a=b {a,b} [ab]? !x", vec!["a#b", "a=b", "{a,b}", "[ab]?", "!x"]),
            ("größe", vec!["größe"]),
        ] {
            assert_eq!(shown(command), Ok(words.into_iter().map(str::to_owned).collect()), "{command}");
        }
    }

    #[test]
    fn what_a_shell_would_act_on_is_refused() {
        for special in [";", "&", "|", "<", ">", "(", ")", "`", "\n", "\r", "\u{b}"] {
            let error = SplitError::Special(special.as_bytes()[0]);
            assert_eq!(split(format!("scp x{special}y").as_bytes(), 9), Err(error), "{special:?}");
        }
        for (command, error) in [
            ("a 'b", SplitError::Unfinished),
            ("a \"b", SplitError::Unfinished),
            ("a \\", SplitError::Unfinished),
            ("a \"\\", SplitError::Unfinished),
            ("a #b", SplitError::Special(b'#')),
            ("\"`id`\"", SplitError::Special(b'`')),
            ("a\\\nb", SplitError::Special(b'\n')),
            ("a \nb", SplitError::Special(b'\n')),
            ("$(id)", SplitError::Variable),
            ("\"$(id)\"", SplitError::Variable),
            ("$HOMER", SplitError::Variable),
            ("\"$HOMER\"", SplitError::Variable),
            ("x$HOME", SplitError::Variable),
            ("$'a'", SplitError::Variable),
            ("~bob/x", SplitError::OtherHome),
            ("'a\0'", SplitError::Nul),
            ("a b c d", SplitError::TooMany),
        ] {
            assert_eq!(split(command.as_bytes(), 3), Err(error), "{command:?}");
        }
    }

    proptest! {
        /// ssh clients put a word in single quotes, and write `'\''` for a quote.
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[^\0]{0,20}", 0..8)) {
            let quoted: Vec<String> =
                words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            let back = split(quoted.join(" ").as_bytes(), 100).unwrap();
            let plain: Vec<Option<Vec<u8>>> = back.iter().map(Word::plain).collect();
            let expected: Vec<_> = words.iter().map(|word| Some(word.as_bytes().to_vec())).collect();
            prop_assert_eq!(plain, expected);
        }

        #[test]
        fn nothing_special_gets_through_unquoted(command in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(words) = split(&command, 100) {
                for (byte, quoted) in words.iter().flat_map(|word| &word.text) {
                    prop_assert!(*byte != 0);
                    prop_assert!(*quoted || !b";&|<>()$`\n".contains(byte));
                }
            }
        }
    }
}
