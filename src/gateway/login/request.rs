//! What the PAM module asks of a new gateway: lines on standard input.

use common::LoginName;
use host::secret::{Token, TokenShape};
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

/// A login by key, which sshd has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLogin {
    /// Who logs in.
    pub user: LoginName,
    /// The client's address.
    pub peer: String,
    /// The name of this connection in the log.
    pub session: String,
}

/// Why a request is none. Never repeats the request: it holds the token.
#[derive(Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Not `user`, `peer` and, for a token, `token`, each once and each on a line of its own.
    Shape,
    /// The user is none of a hub.
    User,
    /// The third line is no token.
    Token(TokenShape),
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("request is not the lines user, peer and token"),
            Self::User => f.write_str("the user is none of a hub"),
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
    let [user, peer, token] = fields(text, ["user", "peer", "token"])?;
    let token = Token::parse(token).map_err(BadRequest::Token)?;
    Ok(LoginRequest { user: user.to_owned(), peer: peer.to_owned(), token })
}

/// Reads `user NAME\npeer ADDRESS\n`, in this order, of the connection named `session`.
///
/// # Errors
/// [`BadRequest`] for anything else.
pub fn parse_key(text: &[u8], session: &str) -> Result<KeyLogin, BadRequest> {
    let [user, peer] = fields(text, ["user", "peer"])?;
    let user = LoginName::parse(user).map_err(|_| BadRequest::User)?;
    Ok(KeyLogin { user, peer: peer.to_owned(), session: session.to_owned() })
}

/// What follows these words and a space, each on a line of its own, in this order and without more.
fn fields<'a, const N: usize>(text: &'a [u8], words: [&str; N]) -> Result<[&'a str; N], BadRequest> {
    let text = std::str::from_utf8(text).map_err(|_| BadRequest::Shape)?;
    let mut lines = text.strip_suffix('\n').ok_or(BadRequest::Shape)?.split('\n');
    let mut values = [""; N];
    for (value, word) in values.iter_mut().zip(words) {
        let line = lines.next().and_then(|line| line.strip_prefix(word));
        *value = line.and_then(|rest| rest.strip_prefix(' ')).ok_or(BadRequest::Shape)?;
    }
    if lines.next().is_none() { Ok(values) } else { Err(BadRequest::Shape) }
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

    #[test]
    fn a_key_brings_no_secret() {
        let login = parse_key(b"user alice+gpu\npeer 192.0.2.7\n", "1a2b").unwrap();
        assert_eq!((login.user.user().as_str(), login.peer.as_str()), ("alice", "192.0.2.7"));
        assert_eq!((login.user.server().unwrap().as_str(), login.session.as_str()), ("gpu", "1a2b"));
        for bad in [
            &b""[..],
            b"user alice\n",
            b"user alice\npeer x",
            b"user alice\npeer x\ntoken abc\n",
            b"user alice\npeer x\n\n",
            b"peer x\nuser alice\n",
            b"user alice\npeer \xff\n",
        ] {
            assert_eq!(parse_key(bad, "").unwrap_err(), BadRequest::Shape, "{bad:?}");
        }
        assert_eq!(parse_key(b"user ../root\npeer x\n", "").unwrap_err(), BadRequest::User);
    }

    proptest! {
        #[test]
        fn no_input_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_key(&text, "");
            let _ = parse(&Zeroizing::new(text));
        }
    }
}
