//! The type of a hub token, which cannot be printed and wipes its memory.

use std::fmt;
use wire::token::TokenShape;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A hub token. `Debug` shows nothing of it, `Display` is missing, and its memory is wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token(String);

impl Token {
    /// Takes a token as the user typed it.
    ///
    /// # Errors
    /// The text breaks a rule of [`wire::token::check`]: that rule, without the text.
    pub fn parse(text: &str) -> Result<Self, TokenShape> {
        wire::token::check(text.as_bytes())?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the token, for the Authorization header and nothing else.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use wire::token::MAX_TOKEN;

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
