//! The login that the PAM module asks to check.

use common::LoginName;
use host::secret::Token;
use std::fmt;
use wire::By;
use wire::login::Request;
use wire::token::TokenShape;
use zeroize::Zeroizing;

/// A login to be checked.
#[derive(Debug)]
pub struct LoginRequest {
    /// The SSH login name, as sshd knows it.
    pub user: String,
    /// The client's address, for the log.
    pub peer: String,
    /// The answer to the prompt.
    pub token: Token,
}

/// A login by key, which sshd has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLogin {
    /// The login name.
    pub user: LoginName,
    /// The client's address.
    pub peer: String,
    /// The name of this connection in the log.
    pub session: String,
}

/// Why a request is malformed. Never repeats the request, which holds the token.
#[derive(Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Its lines are not exactly `user`, `peer` and, for a token, `token`.
    Shape,
    /// The user name cannot belong to a hub.
    User,
    /// The third line is not a token.
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

/// Reads a login with a token.
///
/// # Errors
/// [`BadRequest`]: the request is malformed.
pub fn parse(text: &Zeroizing<Vec<u8>>) -> Result<LoginRequest, BadRequest> {
    let Request { user, peer, token } = Request::parse(text, By::Token).map_err(|_| BadRequest::Shape)?;
    let token = Token::parse(token.unwrap_or_default()).map_err(BadRequest::Token)?;
    Ok(LoginRequest { user: user.to_owned(), peer: peer.to_owned(), token })
}

/// Reads a login by key, for the connection named `session`.
///
/// # Errors
/// [`BadRequest`]: the request is malformed.
pub fn parse_key(text: &[u8], session: &str) -> Result<KeyLogin, BadRequest> {
    let Request { user, peer, .. } = Request::parse(text, By::Key).map_err(|_| BadRequest::Shape)?;
    let user = LoginName::parse(user).map_err(|_| BadRequest::User)?;
    Ok(KeyLogin { user, peer: peer.to_owned(), session: session.to_owned() })
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
