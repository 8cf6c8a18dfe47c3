//! What the PAM module asks of a new gateway: three lines on standard input.

use crate::secret::{Token, TokenShape};
use std::fmt;
use zeroize::Zeroizing;

/// Longest request in bytes: a name, an address and a token, each bounded, with room to spare.
pub const MAX_REQUEST: usize = 4096;

/// A login to be checked.
#[derive(Debug)]
pub struct LoginRequest {
    /// The SSH login name, as sshd knows it.
    pub user: String,
    /// The client's address, for the log.
    pub peer: String,
    /// What the user gave at the prompt.
    pub token: Token,
}

/// Why a request is none. Never repeats the request: it holds the token.
#[derive(Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Not `user`, `peer` and `token`, each once and each on a line of its own.
    Shape,
    /// The third line is no token.
    Token(TokenShape),
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("request is not the three lines user, peer and token"),
            Self::Token(TokenShape::Empty) => f.write_str("token is empty"),
            Self::Token(TokenShape::TooLong) => f.write_str("token is too long"),
            Self::Token(TokenShape::BadCharacter) => f.write_str("token has characters that no token has"),
        }
    }
}

/// Reads `user NAME\npeer ADDRESS\ntoken TOKEN\n`, in this order.
///
/// # Errors
/// [`BadRequest`] for anything else.
pub fn parse(text: &Zeroizing<Vec<u8>>) -> Result<LoginRequest, BadRequest> {
    let text = std::str::from_utf8(text).map_err(|_| BadRequest::Shape)?;
    let mut lines = text.strip_suffix('\n').ok_or(BadRequest::Shape)?.split('\n');
    let mut field = |name: &str| {
        lines.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix(' '))
    };
    let (Some(user), Some(peer), Some(token)) = (field("user"), field("peer"), field("token")) else {
        return Err(BadRequest::Shape);
    };
    if lines.next().is_some() {
        return Err(BadRequest::Shape);
    }
    let token = Token::parse(token).map_err(BadRequest::Token)?;
    Ok(LoginRequest { user: user.to_owned(), peer: peer.to_owned(), token })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_text(text: &str) -> Result<LoginRequest, BadRequest> {
        parse(&Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn three_lines_make_a_request() {
        let request = parse_text("user alice+gpu\npeer 192.0.2.7\ntoken abc\n").unwrap();
        assert_eq!((request.user.as_str(), request.peer.as_str()), ("alice+gpu", "192.0.2.7"));
        assert_eq!(request.token.expose(), "abc");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "user alice\n",
            "user alice\npeer x\ntoken abc",
            "peer x\nuser alice\ntoken abc\n",
            "user alice\npeer x\ntoken abc\nuser root\n",
            "user alice\npeer x\ntokenabc\n",
            "user alice\npeer x\nuser bob\ntoken abc\n",
        ] {
            assert_eq!(parse_text(bad).unwrap_err(), BadRequest::Shape, "{bad:?}");
        }
        for (token, shape) in
            [("", TokenShape::Empty), ("a b", TokenShape::BadCharacter), ("a\rb", TokenShape::BadCharacter)]
        {
            let request = format!("user alice\npeer x\ntoken {token}\n");
            assert_eq!(parse_text(&request).unwrap_err(), BadRequest::Token(shape));
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&Zeroizing::new(text));
        }
    }
}
