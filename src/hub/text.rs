//! Cleans text from the hub for display: it may contain anything that a spawner, an image or a
//! proxy put there. Pure.

/// Longest message shown to a user, in characters.
pub(crate) const MAX_MESSAGE: usize = 512;

/// Returns one line of at most `max` characters without anything that a terminal or a log could
/// interpret.
///
/// Colours and the like (ECMA-48 control sequences, `ESC [ … letter`) are removed whole. Runs of
/// white space and control characters (C0, DEL, C1: escape sequences start with one of these)
/// become one space.
/// Characters that reorder or hide their neighbours (bidirectional controls, zero-width characters,
/// the byte order mark) are dropped: they can make a line read differently from what it is. A
/// truncated text ends with `…`.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut space = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' && chars.next_if_eq(&'[').is_some() {
            while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            chars.next_if(|c| matches!(c, '@'..='~'));
        } else if c.is_whitespace() || c.is_control() {
            space = length > 0;
        } else if !invisible(c) {
            let needed = usize::from(space) + 1;
            if length + needed > max {
                // The mark replaces the last character.
                if length >= max {
                    out.pop();
                }
                if max > 0 {
                    out.push('…');
                }
                return out;
            }
            if space {
                out.push(' ');
            }
            out.push(c);
            length += needed;
            space = false;
        }
    }
    out
}

/// Format characters (Unicode category Cf and the like) that change how their neighbours are
/// displayed.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Returns a message without its final full stop, so that the caller can add one.
#[must_use]
pub(crate) fn unstopped(text: &str) -> &str {
    text.trim_end_matches(['.', ' ', '!'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_lose_their_escape() {
        assert_eq!(printable("\x1b[1;31mno\x1b[0m GPU", 99), "no GPU");
        assert_eq!(printable("a\x1b]0;title\x07b\r\n\tc\u{9b}31m\x1b[", 99), "a ]0;title b c 31m");
        assert_eq!(printable("  \n", 99), "");
        assert_eq!(printable("abc\u{202e}fed\u{200b}", 99), "abcfed");
        assert_eq!(printable("Größe ✓ 漢字", 99), "Größe ✓ 漢字");
    }

    #[test]
    fn long_text_is_cut_with_a_mark() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde…");
        assert_eq!(printable("abcde fg", 6), "abcde…");
        assert_eq!(printable("abc", 0), "");
    }

    proptest! {
        #[test]
        fn always_one_short_visible_line(text in any::<String>(), max in 0usize..40) {
            let line = printable(&text, max);
            prop_assert!(line.chars().count() <= max);
            prop_assert!(line.chars().all(|c| !c.is_control() && !invisible(c)));
            prop_assert_eq!(printable(&line, max), line);
        }
    }
}
