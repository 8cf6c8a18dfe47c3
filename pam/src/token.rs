//! Checks the shape of a token before it is passed to the gateway.

/// Longest accepted token, in bytes. The gateway has the same limit.
pub const MAX_TOKEN: usize = 512;

/// Why an answer to the prompt cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It is empty or only white space.
    Empty,
    /// It has more than [`MAX_TOKEN`] bytes.
    TooLong,
    /// It contains a space, a control character or a character outside ASCII.
    ///
    /// So does the junk password that sshd uses for unknown users (`\b\n\r\177INCORRECT`,
    /// repeated).
    BadCharacter,
}

impl Shape {
    /// The reason for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "no token was entered",
            Self::TooLong => "the answer is too long for a token",
            Self::BadCharacter => "the answer has characters that no token has",
        }
    }

    /// The message for the user: what happened, then what to do.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Empty => "No token was entered.\nPaste a JupyterHub token at the prompt.",
            Self::TooLong => "This is too long for a JupyterHub token.\nPaste the token alone.",
            Self::BadCharacter => {
                "This is not a JupyterHub token: it has spaces or special characters.\nPaste the token alone."
            }
        }
    }
}

/// Returns the token in `answer`, without the white space around it that comes from copy and paste.
///
/// # Errors
/// The [`Shape`] says why it is none, without quoting the answer.
pub fn token(answer: &[u8]) -> Result<&[u8], Shape> {
    let token = answer.trim_ascii();
    if token.is_empty() {
        Err(Shape::Empty)
    } else if token.len() > MAX_TOKEN {
        Err(Shape::TooLong)
    } else if !token.iter().all(u8::is_ascii_graphic) {
        Err(Shape::BadCharacter)
    } else {
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_trimmed_and_nothing_else() {
        for good in ["abc", " abc", "abc\r\n", "\tabc  ", "abc\n"] {
            assert_eq!(token(good.as_bytes()), Ok(&b"abc"[..]), "{good:?}");
        }
        assert_eq!(token(b"a b"), Err(Shape::BadCharacter));
    }

    #[test]
    fn what_is_no_token() {
        for empty in ["", " ", "\r\n"] {
            assert_eq!(token(empty.as_bytes()), Err(Shape::Empty));
        }
        let junk = b"\x08\n\r\x7fINCORRECT";
        // sshd cuts its junk to the length of the client's answer.
        for length in 1..=junk.len() {
            assert_eq!(token(&junk[..length]), Err(Shape::BadCharacter), "{length}");
        }
        for bad in [&b"a\0b"[..], b"a\r\nX: y", "tök".as_bytes(), b"\xff", b"a\x1bb"] {
            assert_eq!(token(bad), Err(Shape::BadCharacter));
        }
        assert_eq!(token(&[b'a'; MAX_TOKEN]).map(<[u8]>::len), Ok(MAX_TOKEN));
        assert_eq!(token(&[b'a'; MAX_TOKEN + 1]), Err(Shape::TooLong));
    }
}
