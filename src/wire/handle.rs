//! The handle of a gateway: the name of its socket, and the secret that opens it.
//!
//! PAM carries the handle, and never the token, from `authenticate` to `open_session`.

use crate::By;
use common::paths::{ADMIN_SOCKET_PREFIX, GATEWAY_SOCKET_PREFIX};
use common::text::hex;
use zeroize::Zeroizing;

/// Stands before the handle in the PAM variable if the login is by key.
const BY_KEY: &str = "key ";
/// Hex digits in each half.
pub(crate) const HALF: usize = 32;
/// Hex digits of a connection's name in the log.
pub const CONNECTION_DIGITS: usize = 8;

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
    /// Makes a handle of random bytes.
    ///
    /// The PAM module may have named the connection in the log already: if `name` has the shape of
    /// a [`Self::connection_id`], the handle begins with it. The other digits are random enough.
    #[must_use]
    pub fn new(random: &[u8; HALF], name: Option<&str>) -> Self {
        let mut text = Zeroizing::new(hex(random));
        let sound = |text: &&str| text.len() == CONNECTION_DIGITS && is_hex(text);
        if let Some(name) = name.filter(sound) {
            text.replace_range(..CONNECTION_DIGITS, name);
        }
        Self(text)
    }

    /// Reads a handle, as [`Self::as_str`] gives it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 2 * HALF && is_hex(text)).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The first half, which names the gateway's sockets. It is no secret: everybody on this host
    /// can read it in /proc/net/unix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[..HALF]
    }

    /// The whole handle, with the secret.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the abstract socket (unix(7)) for claims. Everybody on this host can read it in
    /// /proc/net/unix, hence the secret and the check of the caller's uid.
    #[must_use]
    pub fn socket_name(&self) -> Vec<u8> {
        format!("{GATEWAY_SOCKET_PREFIX}{}", &self.0[..HALF]).into_bytes()
    }

    /// The name of the abstract socket at which root asks about the connection.
    #[must_use]
    pub fn admin_socket_name(&self) -> Vec<u8> {
        format!("{ADMIN_SOCKET_PREFIX}{}", &self.0[..HALF]).into_bytes()
    }

    /// The second half, which a claim must contain.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0[HALF..]
    }

    /// Compares a text with the secret, in a time that doesn't depend on where they differ.
    #[must_use]
    pub fn secret_is(&self, offered: &str) -> bool {
        let secret = self.secret().as_bytes();
        offered.len() == secret.len()
            && secret.iter().zip(offered.as_bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// The connection's name in the log; too short to help in guessing the rest.
    #[must_use]
    pub fn connection_id(&self) -> &str {
        &self.0[..CONNECTION_DIGITS]
    }
}

/// Writes the PAM variable that carries a handle from `authenticate` or `account` to
/// `open_session`.
#[must_use]
pub fn to_variable(by: By, handle: &Handle) -> Zeroizing<String> {
    let prefix = match by {
        By::Token => "",
        By::Key => BY_KEY,
    };
    Zeroizing::new(format!("{prefix}{}", handle.as_str()))
}

/// Reads the PAM variable: how the user proved who they are, and the handle.
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
    fn a_connection_has_the_name_that_it_was_given() {
        let handle = Handle::new(&[1; HALF], Some("0123abcd"));
        assert_eq!(handle.connection_id(), "0123abcd");
        assert!(Handle::parse(handle.as_str()).is_some());
        for bad in ["", "0123abc", "0123ABCD", "0123abcde", "../../.."] {
            assert_ne!(Handle::new(&[1; HALF], Some(bad)).connection_id(), bad);
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
