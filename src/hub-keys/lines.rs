//! Extracts keys from a text that came over the network. Pure.

use keys::line;

/// Size limit of a text, in bytes.
pub const MAX_TEXT: usize = 256 << 10;
/// Most bytes of output per source: two sources fit the reader's limit.
const MAX_OUTPUT: usize = 120 << 10;

/// The content of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The keys as `type base64`, each once.
    pub keys: Vec<String>,
    /// What was left out and why: part of a line for the log.
    pub left_out: Option<String>,
}

/// Parses lines in the format of authorized_keys. A key with options is left out: whoever runs the
/// source should not set options here, and without them
/// the key would allow more than its owner intended.
#[must_use]
pub fn read(text: &[u8]) -> Found {
    let mut found = Found::default();
    let (mut refused, mut first, mut length) = (0_usize, None, 0);
    let mut refuse = |number: usize, why: String| {
        refused += 1;
        first.get_or_insert_with(|| format!("line {number}: {why}"));
    };
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate().map(|(at, line)| (at + 1, line)) {
        match line::parse(line) {
            Ok(None) => {}
            Ok(Some(line)) if line.options.is_empty() && line.left_out.is_empty() => {
                let key = line.to_string();
                // Longer than any list of one user's keys.
                if length + key.len() > MAX_OUTPUT {
                    refuse(number, format!("the keys are longer than {MAX_OUTPUT} bytes"));
                    break;
                }
                if !found.keys.contains(&key) {
                    length += key.len() + "url \n".len();
                    found.keys.push(key);
                }
            }
            Ok(Some(_)) => refuse(number, "it has options, which only a file may have".to_owned()),
            Err(why) => refuse(number, why.to_string()),
        }
    }
    found.left_out = first.map(|first| match refused {
        1 => format!("a line was left out: {first}"),
        more => format!("{more} lines were left out, the first: {first}"),
    });
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use keys::examples::{ECDSA, ED25519};
    use proptest::prelude::*;

    /// Two keys in the printed form.
    pub fn keys() -> [String; 2] {
        [format!("ssh-ed25519 {ED25519}"), format!("ecdsa-sha2-nistp256 {ECDSA}")]
    }

    #[test]
    fn keys_are_left_without_their_comments_and_each_once() {
        let [a, b] = keys();
        let text = format!("# of alice\r\n{a} alice@laptop\r\n\r\n  {b}\n{a} again\n{b}");
        assert_eq!(read(text.as_bytes()), Found { keys: vec![a, b], left_out: None });
        for nothing in ["", "\n", "\r\n\r\n", "# nothing"] {
            assert_eq!(read(nothing.as_bytes()), Found::default());
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let [a, b] = keys();
        let text =
            format!("{a}\nrestrict {b}\nssh-dss AAAA\n{b}\0\nenvironment=\"A=b\" {b}\ncommand=\"id\" {b}");
        let found = read(text.as_bytes());
        assert_eq!(found.keys, std::slice::from_ref(&a));
        assert_eq!(
            found.left_out.as_deref(),
            Some("5 lines were left out, the first: line 2: it has options, which only a file may have")
        );
        let one = read(format!("<html>\n{a}").as_bytes());
        assert!(one.left_out.is_some_and(|why| why.starts_with("a line was left out: line 1: ")));
        assert_eq!(one.keys, [a]);
    }

    #[test]
    fn the_keys_are_bounded() {
        use base64::prelude::*;
        let key = |n: usize| {
            let blob = [b"\0\0\0\x07ssh-rsa", n.to_string().as_bytes(), &[7; 4096]].concat();
            format!("ssh-rsa {}", BASE64_STANDARD.encode(blob))
        };
        let text: Vec<String> = (10..90).map(key).collect();
        let found = read(text.join("\n").as_bytes());
        assert!(found.keys.len() > 15 && found.keys.len() < 30, "{}", found.keys.len());
        assert!(found.left_out.is_some_and(|why| why.contains("longer than")));
    }

    proptest! {
        #[test]
        fn whatever_comes_only_printable_keys_are_left(text in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..80) {
            let [a, _] = keys();
            let mixed = [&text[..], a.as_bytes().get(cut..).unwrap_or_default(), b"\n", a.as_bytes(), &text[..]].concat();
            for text in [text, mixed] {
                for key in read(&text).keys {
                    prop_assert!(key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
                    prop_assert_eq!(key.split(' ').count(), 2);
                }
            }
        }
    }
}
