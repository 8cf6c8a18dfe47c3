//! The handle of a gateway: where it listens, and the secret that it wants to hear there. Never the
//! token.
//!
//! PAM carries it from `authenticate` to `open_session`.

use crate::By;
use common::paths::{ADMIN_SOCKET_PREFIX, GATEWAY_SOCKET_PREFIX};
use std::fmt::Write;
use zeroize::Zeroizing;

/// In the PAM variable, what stands before the handle of a login by key.
const BY_KEY: &str = "key ";
/// Hex digits in each half.
pub(crate) const HALF: usize = 32;
/// Hex digits of a session's name.
pub const SESSION_DIGITS: usize = 8;

/// True if a text has the shape of [`Handle::name`].
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() == HALF && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A gateway's address and secret: 64 hex digits.
#[derive(Clone)]
pub struct Handle(Zeroizing<String>);

impl Handle {
    /// Makes one of random bytes. It begins with `session` if that has the shape of a
    /// [`Self::session_id`]: the PAM module has chosen it for the log. What is random is enough
    /// without these digits.
    #[must_use]
    pub fn new(random: &[u8; HALF], session: Option<&str>) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(2 * HALF));
        for byte in random {
            let _ = write!(text, "{byte:02x}");
        }
        let sound = |text: &&str| text.len() == SESSION_DIGITS && is_hex(text);
        if let Some(session) = session.filter(sound) {
            text.replace_range(..SESSION_DIGITS, session);
        }
        Self(text)
    }

    /// Takes a handle that came by PAM's environment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 2 * HALF && is_hex(text)).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The first half, by which the gateway's sockets are found. No secret: everyone on the host
    /// can read it in /proc/net/unix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[..HALF]
    }

    /// The whole of it, to be carried.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The abstract socket's name (unix(7)). Everyone on the host can read it in /proc/net/unix,
    /// hence the secret and the check of the caller's uid.
    #[must_use]
    pub fn socket_name(&self) -> Vec<u8> {
        format!("{GATEWAY_SOCKET_PREFIX}{}", &self.0[..HALF]).into_bytes()
    }

    /// The abstract socket's name at which root asks about the session.
    #[must_use]
    pub fn admin_socket_name(&self) -> Vec<u8> {
        format!("{ADMIN_SOCKET_PREFIX}{}", &self.0[..HALF]).into_bytes()
    }

    /// What a claim must bring.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0[HALF..]
    }

    /// Compares without telling by its duration how much was right.
    #[must_use]
    pub fn secret_is(&self, offered: &str) -> bool {
        let secret = self.secret().as_bytes();
        offered.len() == secret.len()
            && secret.iter().zip(offered.as_bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// A name for this connection in the log; too short to help in guessing the rest.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.0[..SESSION_DIGITS]
    }
}

/// The PAM variable that carries a handle from `authenticate` or `account` to `open_session`.
#[must_use]
pub fn to_variable(by: By, handle: &Handle) -> Zeroizing<String> {
    let prefix = match by {
        By::Token => "",
        By::Key => BY_KEY,
    };
    Zeroizing::new(format!("{prefix}{}", handle.as_str()))
}

/// Reads that variable: how the user proved who they are, and the handle.
#[must_use]
pub fn from_variable(text: &str) -> Option<(By, Handle)> {
    let (by, handle) = text.strip_prefix(BY_KEY).map_or((By::Token, text), |rest| (By::Key, rest));
    Some((by, Handle::parse(handle)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_its_journey() {
        let random = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let handle = Handle::new(&random, None);
        let again = Handle::parse(handle.as_str()).unwrap();
        assert_eq!(handle.socket_name(), again.socket_name());
        assert!(handle.secret_is(again.secret()));
        assert!(!handle.secret_is(""));
        assert!(!handle.secret_is(&handle.as_str()[..HALF]));
        assert_ne!(handle.as_str(), Handle::new(&[2; HALF], None).as_str());
    }

    #[test]
    fn a_variable_says_how_the_user_came() {
        for by in [By::Token, By::Key] {
            let variable = to_variable(by, &Handle::new(&[7; HALF], None));
            let (found, handle) = from_variable(&variable).unwrap();
            assert_eq!((found, handle.as_str()), (by, &*"07".repeat(HALF)));
        }
        assert!(from_variable("key").is_none() && from_variable("key  00").is_none());
    }

    #[test]
    fn a_session_has_the_name_that_it_was_given() {
        let handle = Handle::new(&[1; HALF], Some("0123abcd"));
        assert_eq!(handle.session_id(), "0123abcd");
        assert!(Handle::parse(handle.as_str()).is_some());
        for bad in ["", "0123abc", "0123ABCD", "0123abcde", "../../.."] {
            assert_ne!(Handle::new(&[1; HALF], Some(bad)).session_id(), bad);
        }
    }

    #[test]
    fn nothing_else_is_a_handle() {
        for bad in
            ["", "zz", &"A".repeat(64), &"a".repeat(63), &"a".repeat(65), &format!("{}\n", "a".repeat(63))]
        {
            assert!(Handle::parse(bad).is_none(), "{bad:?}");
        }
    }
}
