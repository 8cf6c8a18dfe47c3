//! The types of public keys that are taken, and the base64 that holds one. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest key, in bytes without base64: RSA's largest at sshd has 2 KiB.
pub(crate) const MAX_BLOB: usize = 16 << 10;

/// The types of keys that are taken, as sshd(8) names them.
pub(crate) const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Why a text is no key of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobError {
    /// It is not base64 with its padding.
    Base64,
    /// Longer than [`MAX_BLOB`].
    TooLong,
    /// It names another type within.
    OtherKind,
}

/// The type of a key by its name, letter for letter.
#[must_use]
pub fn kind(name: &[u8]) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| kind.as_bytes() == name)
}

/// Reads the base64 of a key, which names its type once more within (RFC 4253, section 6.6). Whether its numbers make a
/// key is sshd's to find out.
///
/// # Errors
/// [`BlobError`].
pub fn decode(kind: &str, base64: &[u8]) -> Result<Vec<u8>, BlobError> {
    if base64.len() > MAX_BLOB.div_ceil(3) * 4 {
        return Err(BlobError::TooLong);
    }
    // One key has one text: padding is asked for, and the bits that it fills are 0, as with sshd.
    let blob = STANDARD.decode(base64).map_err(|_| BlobError::Base64)?;
    if blob.len() > MAX_BLOB {
        return Err(BlobError::TooLong);
    }
    let (length, rest) = blob.split_first_chunk().ok_or(BlobError::OtherKind)?;
    let named = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| rest.get(..length));
    if named == Some(kind.as_bytes()) { Ok(blob) } else { Err(BlobError::OtherKind) }
}

/// The base64 of a key.
#[must_use]
pub(crate) fn encode(blob: &[u8]) -> String {
    STANDARD.encode(blob)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::examples::{ECDSA, ED25519};
    use proptest::prelude::*;

    /// A blob of a type with `length` further bytes.
    fn blob(kind: &str, length: usize) -> Vec<u8> {
        let mut blob = u32::try_from(kind.len()).unwrap().to_be_bytes().to_vec();
        blob.extend_from_slice(kind.as_bytes());
        blob.resize(blob.len() + length, 7);
        blob
    }

    #[test]
    fn every_type_is_read_and_no_other() {
        for name in KINDS {
            let blob = blob(name, 32);
            assert_eq!(kind(name.as_bytes()), Some(name));
            assert_eq!(decode(name, encode(&blob).as_bytes()), Ok(blob));
        }
        for name in
            ["", "ssh-dss", "SSH-ED25519", "ssh-ed25519 ", "ed25519", "ssh-ed25519-cert-v01@openssh.com"]
        {
            assert_eq!(kind(name.as_bytes()), None, "{name}");
        }
        assert_eq!(encode(&decode("ssh-ed25519", ED25519.as_bytes()).unwrap()), ED25519);
        assert!(decode("ecdsa-sha2-nistp256", ECDSA.as_bytes()).is_ok());
    }

    #[test]
    fn a_key_of_another_type_is_refused() {
        for (kind, text) in [("ssh-rsa", ED25519), ("ecdsa-sha2-nistp384", ECDSA), ("ssh-ed25519", ECDSA)] {
            assert_eq!(decode(kind, text.as_bytes()), Err(BlobError::OtherKind));
        }
        for blob in
            [&b""[..], b"\0\0\0", b"\0\0\0\x0bssh-ed2551", b"\xff\xff\xff\xffssh-ed25519", b"\0\0\0\0"]
        {
            assert_eq!(decode("ssh-ed25519", encode(blob).as_bytes()), Err(BlobError::OtherKind));
        }
    }

    #[test]
    fn a_key_has_one_text() {
        let unpadded = ECDSA.trim_end_matches('=');
        for text in [unpadded, "AAAA\n", "AA AA", "AAAA====", "AAA", "AAB=", "=", "AAA-_", "Ä"] {
            assert_eq!(decode("ssh-ed25519", text.as_bytes()), Err(BlobError::Base64), "{text}");
        }
    }

    #[test]
    fn a_key_is_bounded() {
        let name = "ssh-rsa";
        let most = MAX_BLOB - 4 - name.len();
        assert!(decode(name, encode(&blob(name, most)).as_bytes()).is_ok());
        for length in [most + 1, most + 2, most + 3, 1 << 20] {
            assert_eq!(decode(name, encode(&blob(name, length)).as_bytes()), Err(BlobError::TooLong));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..60), at in 0..KINDS.len()) {
            let _ = decode(KINDS[at], &text);
            let _ = decode(KINDS[at], encode(&text).as_bytes());
        }
    }
}
