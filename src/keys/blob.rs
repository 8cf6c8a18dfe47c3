//! The public key types that we accept, and the base64 form in which a file lists a key. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest key, in bytes after decoding. The largest RSA key that sshd accepts takes 2 KiB.
pub(crate) const MAX_BLOB: usize = 16 << 10;

/// The key types that we accept, by their names in sshd(8).
pub(crate) const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Why a text is not a key of the given type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobError {
    /// Not base64, or without its padding.
    Base64,
    /// Longer than [`MAX_BLOB`].
    TooLong,
    /// The key itself names another type.
    OtherKind,
}

/// Returns the key type with exactly this name.
#[must_use]
pub fn kind(name: &[u8]) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| kind.as_bytes() == name)
}

/// Decodes the base64 form of a key, and checks that the type it names inside is `kind`
/// (RFC 4253, section 6.6). Whether its numbers make a valid key is left to sshd.
///
/// # Errors
/// The text is not base64, too long, or a key of another type: [`BlobError`].
pub fn decode(kind: &str, base64: &[u8]) -> Result<Vec<u8>, BlobError> {
    if base64.len() > MAX_BLOB.div_ceil(3) * 4 {
        return Err(BlobError::TooLong);
    }
    // Each key has exactly one text form: padding is required and its unused bits are 0, as in
    // sshd.
    let blob = STANDARD.decode(base64).map_err(|_| BlobError::Base64)?;
    if blob.len() > MAX_BLOB {
        return Err(BlobError::TooLong);
    }
    let (length, rest) = blob.split_first_chunk().ok_or(BlobError::OtherKind)?;
    let named = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| rest.get(..length));
    if named == Some(kind.as_bytes()) { Ok(blob) } else { Err(BlobError::OtherKind) }
}

/// Encodes a key as base64.
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

    /// Makes a blob of a type with `length` further bytes.
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
