//! Makes text from outside safe for a log line.

/// Makes text a single line without control characters.
///
/// A line break becomes `; `, and one at the end is dropped. Other control characters (C0, DEL, C1)
/// and characters that reorder text (Unicode's bidirectional controls, line and paragraph
/// separators) are written as `\\u{…}`.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => out.push_str("; "),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_stays_on_its_line() {
        assert_eq!(one_line("a\nb\r\x1b[31m\u{9b}x\0"), "a; b\\u{d}\\u{1b}[31m\\u{9b}x\\u{0}");
        assert_eq!(one_line("evil\u{202e}txt"), "evil\\u{202e}txt");
        assert_eq!(one_line("grüße 😀\n"), "grüße 😀");
    }
}
