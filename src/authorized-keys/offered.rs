//! The key that a client offers, as sshd passes it to AuthorizedKeysCommand, and the search for it
//! in a text. Pure.

use keys::blob;
use keys::line::{Line, Parts, Refused, parse};

/// Most lines of a text that are searched.
pub const MAX_LINES: usize = 4096;
/// Longest fingerprint, in bytes: room for SHA-512 in base64 and its name.
const MAX_FINGERPRINT: usize = 128;

/// An offered key of an accepted type.
#[derive(Debug, PartialEq, Eq)]
pub struct Offered {
    /// The decoded key, which names its type.
    blob: Vec<u8>,
    /// The fingerprint as sshd shows it, in printable ASCII.
    pub fingerprint: String,
}

/// What a text says about the offered key.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It lists the key.
    Key(Line),
    /// The line with this number lists the key, but the key may not be used.
    Refused(usize, Refused),
    /// It doesn't list the key.
    Unknown,
    /// It has more than [`MAX_LINES`] lines; the rest was not searched.
    TooLong,
}

impl Offered {
    /// Parses the tokens %t, %k and %f of sshd_config(5). `None` for a certificate, which
    /// TrustedUserCAKeys judges, and for a key type that we don't accept.
    ///
    /// # Errors
    /// One line: sshd would never pass such arguments.
    pub fn parse(kind: &str, base64: &str, fingerprint: &str) -> Result<Option<Self>, &'static str> {
        if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the type of the key is none");
        }
        if fingerprint.len() > MAX_FINGERPRINT || !fingerprint.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the fingerprint is none");
        }
        // Certificates have types of their own, which are not accepted either.
        let Some(kind) = blob::kind(kind.as_bytes()) else { return Ok(None) };
        let blob = blob::decode(kind, base64.as_bytes()).map_err(|_| "the key is none of its type")?;
        Ok(Some(Self { blob, fingerprint: fingerprint.to_owned() }))
    }

    /// Searches an authorized_keys file for the key. The first line that lists it decides: a second
    /// one with fewer restrictions has no effect
    /// (sshd would try it if `from` or `expiry-time` of the first doesn't match). Malformed lines
    /// are skipped.
    #[must_use]
    pub fn find_in_file(&self, text: &[u8]) -> Found {
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            // Text after the last line feed is a line only if it is not empty.
            if at >= MAX_LINES && !line.is_empty() {
                return Found::TooLong;
            }
            match Parts::of(line) {
                Ok(Some(parts)) if parts.blob == self.blob => {
                    return parts.judged().map_or_else(|why| Found::Refused(at + 1, why), Found::Key);
                }
                _ => {}
            }
        }
        Found::Unknown
    }

    /// Searches an answer of [`common::paths::HUB_KEYS_PROGRAM`], in which each line names the
    /// source of its key. Only keys of `source` count; they have no options.
    #[must_use]
    pub fn find_in_answer(&self, text: &[u8], source: &str) -> Found {
        let mut keys = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.strip_prefix(source.as_bytes())?.strip_prefix(b" ")?;
            parse(line).ok().flatten().filter(|line| line.options.is_empty() && line.left_out.is_empty())
        });
        keys.find(|line| line.blob == self.blob).map_or(Found::Unknown, Found::Key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use keys::examples::{ECDSA, ED25519};
    use proptest::prelude::*;

    pub fn offered() -> Offered {
        Offered::parse("ssh-ed25519", ED25519, "SHA256:abc/+").unwrap().unwrap()
    }

    fn key(found: Found) -> Option<String> {
        match found {
            Found::Key(line) => Some(line.to_string()),
            Found::Unknown => None,
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn only_keys_of_known_types_are_looked_for() {
        for kind in ["ssh-ed25519-cert-v01@openssh.com", "ssh-dss", "ssh-xmss@openssh.com", "new@example.org"]
        {
            assert_eq!(Offered::parse(kind, "AAAA", "SHA256:x"), Ok(None), "{kind}");
        }
        for (kind, base64, fingerprint) in [
            ("", ED25519, "x"),
            ("ssh ed25519", ED25519, "x"),
            ("ssh-ed25519\n", ED25519, "x"),
            ("ssh-ed25519", "", "x"),
            ("ssh-ed25519", "?", "x"),
            ("ssh-rsa", ED25519, "x"),
            ("ssh-ed25519", ED25519, "x\ny"),
            ("ssh-ed25519", ED25519, &"x".repeat(MAX_FINGERPRINT + 1)),
        ] {
            assert!(Offered::parse(kind, base64, fingerprint).is_err(), "{kind} {base64} {fingerprint}");
        }
    }

    #[test]
    fn one_key_among_others_is_found() {
        let ours = format!("ssh-ed25519 {ED25519}");
        let other = format!("ecdsa-sha2-nistp256 {ECDSA}");
        for (text, expected) in [
            (String::new(), None),
            (other.clone(), None),
            (format!("#{ours}\n"), None),
            (format!("{other} {ED25519}\n"), None),
            (ours.clone(), Some(ours.clone())),
            (format!("\r\n# x\r\n{other} a\r\n\r\n{ours} b\r\n"), Some(ours.clone())),
            (
                format!("{other}\nnonsense\n\0\x01\nssh-rsa AAAA\n from=\"a\" {ours} b\n{ours}"),
                Some(format!("from=\"a\" {ours}")),
            ),
            (format!("\u{1b}ELF\0\0\n{ours}\n"), Some(ours.clone())),
        ] {
            assert_eq!(key(offered().find_in_file(text.as_bytes())), expected, "{text:?}");
        }
    }

    #[test]
    fn the_first_line_with_the_key_decides() {
        let ours = format!("ssh-ed25519 {ED25519}");
        for refused in
            [format!("command=\"x\" {ours}"), format!("{ours} \u{1b}"), format!("from=a,x=\"\" {ours}")]
        {
            let text = format!("# x\n{refused}\n{ours}\n");
            assert!(matches!(offered().find_in_file(text.as_bytes()), Found::Refused(2, _)), "{text:?}");
        }
        let text = format!("restrict {ours}\n{ours}\n");
        assert_eq!(key(offered().find_in_file(text.as_bytes())), Some(format!("restrict {ours}")));
    }

    #[test]
    fn a_text_has_so_many_lines_at_most() {
        let ours = format!("ssh-ed25519 {ED25519}\n");
        let text = |before: usize| "\n".repeat(before) + &ours;
        assert!(matches!(offered().find_in_file(text(MAX_LINES - 1).as_bytes()), Found::Key(_)));
        assert_eq!(offered().find_in_file(text(MAX_LINES).as_bytes()), Found::TooLong);
        assert_eq!(offered().find_in_file("x\n".repeat(MAX_LINES).as_bytes()), Found::Unknown);
    }

    #[test]
    fn an_answer_names_the_source_of_each_key() {
        let ours = format!("ssh-ed25519 {ED25519}");
        let find = |text: &str, source: &str| key(offered().find_in_answer(text.as_bytes(), source));
        let text = format!("hub ecdsa-sha2-nistp256 {ECDSA}\nurl {ours}\n");
        assert_eq!(find(&text, "url"), Some(ours.clone()));
        assert_eq!(find(&text, "hub"), None);
        for text in [
            ours.clone(),
            format!("urls {ours}"),
            format!("url{ours}"),
            format!("url restrict {ours}"),
            format!("url tunnel=\"1\" {ours}"),
            format!("url #{ours}"),
            format!("hub url {ours}"),
            "url".into(),
        ] {
            assert_eq!(find(&text, "url"), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_the_key_is_found(text in prop::collection::vec(prop_oneof![
            Just(format!("ssh-ed25519 {ED25519}").into_bytes()), Just(b"\n".to_vec()), Just(b" ".to_vec()),
            Just(b"\"".to_vec()), Just(b"pty".to_vec()), Just(b"hub".to_vec()), prop::collection::vec(any::<u8>(), 0..3)
        ], 0..12)) {
            let text = text.concat();
            for found in [offered().find_in_file(&text), offered().find_in_answer(&text, "hub")] {
                if let Found::Key(line) = found {
                    prop_assert_eq!(line.blob, offered().blob);
                }
            }
        }
    }
}
