//! Matches one component of a path against a glob(7) pattern: `*`, `?`, `[a-z]`, `[!a-z]`. Pure.
//!
//! It works on bytes and takes at most time proportional to the pattern's length times the name's:
//! only the last `*` is ever tried again.

/// A pattern for one component of a path, that is, for a name without `/`.
pub struct Pattern(Vec<Token>);

enum Token {
    /// Exactly this byte.
    Byte(u8),
    /// `?`: any one byte.
    Any,
    /// `*`: any number of bytes.
    Many,
    /// `[…]`: a byte in one of the ranges or, if `negated`, in none. `written` is the set's text.
    Set { ranges: Vec<(u8, u8)>, negated: bool, written: Vec<u8> },
}

impl Pattern {
    /// Parses bytes, each with true if it was quoted; a quoted byte matches only itself.
    pub fn parse(text: &[(u8, bool)]) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((&(byte, quoted), mut after)) = rest.split_first() {
            tokens.push(match byte {
                b'*' if !quoted => Token::Many,
                b'?' if !quoted => Token::Any,
                b'[' if !quoted => match set(after) {
                    Some((token, behind)) => {
                        after = behind;
                        token
                    }
                    None => Token::Byte(byte),
                },
                byte => Token::Byte(byte),
            });
            rest = after;
        }
        Self(tokens)
    }

    /// True if the pattern has wildcards; otherwise it is a plain name.
    pub fn has_wildcards(&self) -> bool {
        self.0.iter().any(|token| !matches!(token, Token::Byte(_)))
    }

    /// Returns the pattern's text without quotes.
    pub fn literal(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for token in &self.0 {
            match token {
                Token::Byte(byte) => out.push(*byte),
                Token::Any => out.push(b'?'),
                Token::Many => out.push(b'*'),
                Token::Set { written, .. } => out.extend(written),
            }
        }
        out
    }

    /// True if the name matches. Only a dot in the pattern matches a dot at the name's start.
    pub fn matches(&self, name: &[u8]) -> bool {
        if name.first() == Some(&b'.') && !matches!(self.0.first(), Some(Token::Byte(b'.'))) {
            return false;
        }
        let (mut token, mut at) = (0, 0);
        // The token after the last `*`, and the byte of the name where it was last tried.
        let mut retry = None;
        while at < name.len() {
            match self.0.get(token) {
                Some(Token::Many) => {
                    retry = Some((token + 1, at));
                    token += 1;
                }
                Some(one) if name.get(at).is_some_and(|byte| one.takes(*byte)) => {
                    token += 1;
                    at += 1;
                }
                _ => {
                    let Some((behind, tried)) = retry else { return false };
                    retry = Some((behind, tried + 1));
                    (token, at) = (behind, tried + 1);
                }
            }
        }
        self.0.iter().skip(token).all(|token| matches!(token, Token::Many))
    }
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => true,
            Self::Many => false,
            Self::Set { ranges, negated, .. } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

/// Parses a set after its `[`. Returns it and what follows it.
///
/// `None` means that no `]` ends it, so the bracket is a plain byte. Named classes such as
/// `[[:digit:]]` are not supported.
fn set(text: &[(u8, bool)]) -> Option<(Token, &[(u8, bool)])> {
    let negated = matches!(text.first(), Some((b'!' | b'^', false)));
    let inner = text.get(usize::from(negated)..)?;
    // A `]` that comes first is a member of the set.
    let end = 1 + inner.iter().skip(1).position(|char| *char == (b']', false))?;
    let members = inner.get(..end)?;
    let mut ranges = Vec::new();
    let mut rest = members;
    while let Some((&(low, _), after)) = rest.split_first() {
        if let [(b'-', false), (high, _), after @ ..] = after {
            ranges.push((low, *high));
            rest = after;
        } else {
            ranges.push((low, low));
            rest = after;
        }
    }
    let written = text.get(..usize::from(negated) + end)?.iter().map(|(byte, _)| *byte);
    let written = std::iter::once(b'[').chain(written).chain([b']']).collect();
    Some((Token::Set { ranges, negated, written }, inner.get(end + 1..)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(&text.bytes().map(|byte| (byte, false)).collect::<Vec<_>>())
    }

    #[test]
    fn table() {
        for (text, yes, no) in [
            ("*", &["a", "abc", "a.b"][..], &[".a", "."][..]),
            (".*", &[".a", ".", ".."], &["a"]),
            ("*.csv", &["a.csv", "x.csv.csv"], &["a.csvx", ".csv", ".a.csv", "csv"]),
            ("a*b*c", &["abc", "aXbbYc", "abcbc"], &["ab", "acb", "abcd"]),
            ("?", &["a"], &["", "ab", "."]),
            ("[abc]x", &["ax", "cx"], &["dx", "x"]),
            ("[a-c]", &["b"], &["d", "-"]),
            ("[!a-c]", &["d", "-"], &["b"]),
            ("[^a]", &["b"], &["a"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["-", "a"], &["b"]),
            ("[z-a]", &[], &["z", "m", "a"]),
            ("[]", &["[]"], &["]"]),
            ("[a", &["[a"], &["a"]),
            ("[.]a", &[], &[".a"]),
            ("", &[""], &["a"]),
        ] {
            for name in yes {
                assert!(pattern(text).matches(name.as_bytes()), "{text} {name}");
            }
            for name in no {
                assert!(!pattern(text).matches(name.as_bytes()), "{text} {name}");
            }
            assert_eq!(pattern(text).literal(), text.as_bytes());
        }
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let start = Instant::now();
        assert!(!pattern(&("a*".repeat(120) + "b")).matches("a".repeat(255).as_bytes()));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn quoted_text_matches_itself_only(text in prop::collection::vec(any::<u8>(), 0..12), other: Vec<u8>) {
            let pattern = Pattern::parse(&text.iter().map(|byte| (*byte, true)).collect::<Vec<_>>());
            prop_assert!(!pattern.has_wildcards() && pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), other == text);
            prop_assert_eq!(pattern.literal(), text);
        }

        #[test]
        fn written_as_it_was(text in prop::collection::vec((any::<u8>(), any::<bool>()), 0..20), name: Vec<u8>) {
            let pattern = Pattern::parse(&text);
            let _ = pattern.matches(&name);
            prop_assert_eq!(pattern.literal(), text.iter().map(|(byte, _)| *byte).collect::<Vec<_>>());
        }
    }
}
