//! Text: made safe for a log line, cut between characters, and bytes as hexadecimal digits.

use std::fmt::Write;

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

/// Returns the longest start of a text that has at most `max` bytes and ends between characters.
#[must_use]
pub fn head(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Formats bytes as lower-case hexadecimal digits, two per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    // Reserved in advance: a string that grows would leave copies of a secret behind.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (max, start) in [(0, ""), (1, "a"), (2, "a"), (3, "aü"), (4, "aüb"), (9, "aüb")] {
            assert_eq!(head("aüb", max), start);
        }
    }

    #[test]
    fn bytes_are_written_in_two_digits() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }

    #[test]
    fn a_hostile_text_stays_on_its_line() {
        assert_eq!(one_line("a\nb\r\x1b[31m\u{9b}x\0"), "a; b\\u{d}\\u{1b}[31m\\u{9b}x\\u{0}");
        assert_eq!(one_line("evil\u{202e}txt"), "evil\\u{202e}txt");
        assert_eq!(one_line("grüße 😀\n"), "grüße 😀");
    }
}
