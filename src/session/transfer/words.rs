//! A command line into words, as a POSIX shell does it (Shell Command Language, 2.2 Quoting and 2.3
//! Token Recognition). Pure.
//!
//! Not the `shlex` crate: it forgets which characters were quoted. So it could neither refuse what
//! a shell would have acted on (`;`, `$(…)`), nor tell the wildcard in `*.csv` from the star in
//! `\*.csv`, which rsync quotes itself.

use std::fmt;

/// Why a command line has no words.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A quote without its end, or a backslash at the end.
    Unfinished,
    /// Something that a shell would act on.
    Special(u8),
    /// `$NAME` other than `$HOME` at a word's start, `$(…)` or the like.
    Variable,
    /// `~NAME`.
    OtherHome,
    /// NUL, which no argument can hold.
    Nul,
    /// More words than allowed.
    TooMany,
}

impl fmt::Display for Fault {
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

/// A byte, and whether it was quoted: then it means itself.
pub type Char = (u8, bool);

/// One word, its quoting undone but not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// Whether it starts with the home: `~` or `$HOME`, which are not in `text`.
    pub home: bool,
    /// The rest.
    pub text: Vec<Char>,
}

impl Word {
    /// The bytes after the home, wildcards as they are written.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.text.iter().map(|(byte, _)| *byte).collect()
    }

    /// The whole word if it does not start with the home.
    #[must_use]
    pub fn plain(&self) -> Option<Vec<u8>> {
        (!self.home).then(|| self.bytes())
    }
}

/// Splits a command.
///
/// # Errors
/// [`Fault`]
pub fn split(command: &[u8], max: usize) -> Result<Vec<Word>, Fault> {
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
            return Err(Fault::TooMany);
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after;
    }
}

/// What ends a word. A newline ends a command: see [`unquoted`].
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// One word from the start of `rest`, and what follows it.
fn word(rest: &[u8]) -> Result<(Word, &[u8]), Fault> {
    let mut word = Word::default();
    let mut rest = leading_home(rest, &mut word)?;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            byte if is_blank(byte) => break,
            b'\'' => single_quoted(after, &mut word)?,
            b'"' => double_quoted(after, &mut word)?,
            b'\\' => {
                let (&byte, after) = after.split_first().ok_or(Fault::Unfinished)?;
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

/// Takes `~`, `$HOME` or `${HOME}` off the start, in double quotes as well; what follows must be a
/// `/` or the word's end.
fn leading_home<'a>(rest: &'a [u8], word: &mut Word) -> Result<&'a [u8], Fault> {
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
        Some(_) => Err(Fault::OtherHome),
        None => Ok(rest),
    }
}

fn single_quoted<'a>(rest: &'a [u8], word: &mut Word) -> Result<&'a [u8], Fault> {
    let end = rest.iter().position(|byte| *byte == b'\'').ok_or(Fault::Unfinished)?;
    let (text, after) = rest.split_at(end);
    for &byte in text {
        word.text.push((allowed(byte)?, true));
    }
    Ok(after.get(1..).unwrap_or_default())
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Word) -> Result<&'a [u8], Fault> {
    loop {
        let (&byte, after) = rest.split_first().ok_or(Fault::Unfinished)?;
        rest = after;
        let byte = match (byte, after.split_first()) {
            (b'"', _) => return Ok(after),
            (b'$', _) => return Err(Fault::Variable),
            (b'`', _) => return Err(Fault::Special(byte)),
            (b'\\', Some((&escaped @ (b'$' | b'`' | b'"' | b'\\'), after))) => {
                rest = after;
                escaped
            }
            (b'\\', Some((b'\n', _))) => return Err(Fault::Special(b'\n')),
            (byte, _) => byte,
        };
        word.text.push((allowed(byte)?, true));
    }
}

/// A byte that is quoted.
fn allowed(byte: u8) -> Result<u8, Fault> {
    if byte == 0 { Err(Fault::Nul) } else { Ok(byte) }
}

/// A byte that is not quoted; `first`: it starts a word.
fn unquoted(byte: u8, first: bool) -> Result<u8, Fault> {
    match byte {
        b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`' | b'\n' | b'\r' | 0x0b | 0x0c => {
            Err(Fault::Special(byte))
        }
        b'#' if first => Err(Fault::Special(byte)),
        b'$' => Err(Fault::Variable),
        byte => allowed(byte),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words for comparison: `~` for the home, `\` before what is quoted.
    fn shown(command: &str) -> Result<Vec<String>, Fault> {
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
            let fault = Fault::Special(special.as_bytes()[0]);
            assert_eq!(split(format!("scp x{special}y").as_bytes(), 9), Err(fault), "{special:?}");
        }
        for (command, fault) in [
            ("a 'b", Fault::Unfinished),
            ("a \"b", Fault::Unfinished),
            ("a \\", Fault::Unfinished),
            ("a \"\\", Fault::Unfinished),
            ("a #b", Fault::Special(b'#')),
            ("\"`id`\"", Fault::Special(b'`')),
            ("a\\\nb", Fault::Special(b'\n')),
            ("a \nb", Fault::Special(b'\n')),
            ("$(id)", Fault::Variable),
            ("\"$(id)\"", Fault::Variable),
            ("$HOMER", Fault::Variable),
            ("\"$HOMER\"", Fault::Variable),
            ("x$HOME", Fault::Variable),
            ("$'a'", Fault::Variable),
            ("~bob/x", Fault::OtherHome),
            ("'a\0'", Fault::Nul),
            ("a b c d", Fault::TooMany),
        ] {
            assert_eq!(split(command.as_bytes(), 3), Err(fault), "{command:?}");
        }
    }

    proptest! {
        /// As ssh clients quote: in single quotes, with `'\''` for a quote.
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
