//! The token, in a type that cannot be printed and wipes itself.

use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest token accepted, in bytes. The hub's own are 32 hex digits; administrators may set longer ones.
pub const MAX_TOKEN: usize = 512;

/// A hub token. Debug shows nothing of it, Display does not exist, and its memory is wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token(String);

impl Token {
    /// Takes a token as the user typed it.
    ///
    /// Only visible ASCII (0x21–0x7e) of 1 to [`MAX_TOKEN`] bytes is a token: everything else could break
    /// out of the HTTP header it travels in. sshd's junk password for unknown users (it holds `\b\n\r\x7f`)
    /// is refused here too.
    ///
    /// # Errors
    /// `Err(TokenShape)` says which rule was broken, without repeating the text.
    pub fn parse(text: &str) -> Result<Self, TokenShape> {
        if text.is_empty() {
            Err(TokenShape::Empty)
        } else if text.len() > MAX_TOKEN {
            Err(TokenShape::TooLong)
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            Err(TokenShape::BadCharacter)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The token itself, for the Authorization header and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenShape {
    /// Nothing was typed.
    Empty,
    /// Longer than [`MAX_TOKEN`].
    TooLong,
    /// A space, a control character or something outside ASCII.
    BadCharacter,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_is_a_token() {
        assert_eq!(Token::parse("0123456789abcdef").unwrap().expose(), "0123456789abcdef");
        assert_eq!(Token::parse("").unwrap_err(), TokenShape::Empty);
        assert_eq!(Token::parse("\u{8}\n\r\u{7f}INCORRECT").unwrap_err(), TokenShape::BadCharacter);
        for bad in ["a b", "a\0", "a\r\nX: y", "tök", "\t"] {
            assert_eq!(Token::parse(bad).unwrap_err(), TokenShape::BadCharacter, "{bad:?}");
        }
        assert_eq!(Token::parse(&"a".repeat(MAX_TOKEN + 1)).unwrap_err(), TokenShape::TooLong);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Token::parse("secret").unwrap()), "Token(…)");
    }
}
