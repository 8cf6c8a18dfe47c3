//! The token in an answer to the prompt, and what is said when there is none.

use wire::token::{TokenShape, check};

/// The reason for the log.
#[must_use]
pub fn reason(shape: TokenShape) -> &'static str {
    match shape {
        TokenShape::Empty => "no token was entered",
        TokenShape::TooLong => "the answer is too long for a token",
        TokenShape::BadCharacter => "the answer has characters that no token has",
    }
}

/// The message for the user: what happened, then what to do.
#[must_use]
pub fn message(shape: TokenShape) -> &'static str {
    match shape {
        TokenShape::Empty => "No token was entered.\nPaste a JupyterHub token at the prompt.",
        TokenShape::TooLong => "This is too long for a JupyterHub token.\nPaste the token alone.",
        TokenShape::BadCharacter => {
            "This is not a JupyterHub token: it has spaces or special characters.\nPaste the token alone."
        }
    }
}

/// Returns the token in `answer`, without the white space around it that comes from copy and paste.
///
/// # Errors
/// The [`TokenShape`] says why it is none, without quoting the answer.
pub fn token(answer: &[u8]) -> Result<&str, TokenShape> {
    let token = answer.trim_ascii();
    check(token)?;
    // It is ASCII.
    std::str::from_utf8(token).map_err(|_| TokenShape::BadCharacter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::token::MAX_TOKEN;

    #[test]
    fn ends_are_trimmed_and_nothing_else() {
        for good in ["abc", " abc", "abc\r\n", "\tabc  ", "abc\n"] {
            assert_eq!(token(good.as_bytes()), Ok("abc"), "{good:?}");
        }
        assert_eq!(token(b"a b"), Err(TokenShape::BadCharacter));
    }

    #[test]
    fn what_is_no_token() {
        for empty in ["", " ", "\r\n"] {
            assert_eq!(token(empty.as_bytes()), Err(TokenShape::Empty));
        }
        let junk = b"\x08\n\r\x7fINCORRECT";
        // sshd cuts its junk to the length of the client's answer.
        for length in 1..=junk.len() {
            assert_eq!(token(&junk[..length]), Err(TokenShape::BadCharacter), "{length}");
        }
        for bad in [&b"a\0b"[..], b"a\r\nX: y", "tök".as_bytes(), b"\xff", b"a\x1bb"] {
            assert_eq!(token(bad), Err(TokenShape::BadCharacter));
        }
        assert_eq!(token(&[b'a'; MAX_TOKEN]).map(str::len), Ok(MAX_TOKEN));
        assert_eq!(token(&[b'a'; MAX_TOKEN + 1]), Err(TokenShape::TooLong));
    }
}
