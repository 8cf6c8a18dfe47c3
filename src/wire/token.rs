//! The shape of a token, which the PAM module checks before the gateway sees one.

/// Longest token accepted, in bytes. The hub makes tokens of 32 hex digits; administrators may set
/// longer ones.
pub const MAX_TOKEN: usize = 512;

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenShape {
    /// The text is empty.
    Empty,
    /// The text has more than [`MAX_TOKEN`] bytes.
    TooLong,
    /// The text has a space, a control character or a character outside ASCII.
    BadCharacter,
}

/// Checks that a text is 1 to [`MAX_TOKEN`] bytes of visible ASCII (0x21–0x7e).
///
/// Other characters could break out of the HTTP header that carries the token. This also excludes
/// the junk password that sshd sends for unknown users, which holds `\b\n\r\x7f`.
///
/// # Errors
/// The text breaks one of the rules.
pub fn check(text: &[u8]) -> Result<(), TokenShape> {
    if text.is_empty() {
        Err(TokenShape::Empty)
    } else if text.len() > MAX_TOKEN {
        Err(TokenShape::TooLong)
    } else if !text.iter().all(u8::is_ascii_graphic) {
        Err(TokenShape::BadCharacter)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_ascii_is_a_token_and_nothing_else() {
        assert_eq!(check(b"abc"), Ok(()));
        assert_eq!(check(b""), Err(TokenShape::Empty));
        for bad in [&b"a b"[..], b"a\0b", b"a\r\nX: y", "tök".as_bytes(), b"\xff", b"a\x1bb", b"\x7f"] {
            assert_eq!(check(bad), Err(TokenShape::BadCharacter));
        }
        assert_eq!(check(&[b'a'; MAX_TOKEN]), Ok(()));
        assert_eq!(check(&[b'a'; MAX_TOKEN + 1]), Err(TokenShape::TooLong));
    }
}
