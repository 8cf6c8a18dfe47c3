//! Turns the bytes that a client types into the text that a terminal's messages carry. No I/O.

/// Joins UTF-8 sequences that were split between reads.
///
/// Invalid bytes become U+FFFD, one for each maximal invalid part (as the Unicode Standard
/// recommends, chapter 3), and are counted. At most three bytes are held back, until the next
/// [`push`](Self::push) completes them or shows that they are no character.
#[derive(Debug, Default)]
pub struct Utf8Assembler {
    held: [u8; 4],
    held_len: usize,
}

impl Utf8Assembler {
    /// Appends the text of `bytes` to `out`: at most three times as many bytes as came in.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut String) {
        while self.held_len > 0 {
            let Some((&first, rest)) = bytes.split_first() else { return };
            self.held[self.held_len] = first;
            match std::str::from_utf8(&self.held[..=self.held_len]) {
                Ok(text) => {
                    out.push_str(text);
                    self.held_len = 0;
                    bytes = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.held_len += 1;
                    bytes = rest;
                }
                // `first` doesn't continue what was held: that is broken, and `first` begins
                // something new.
                Err(_) => self.give_up(out),
            }
        }
        while !bytes.is_empty() {
            let error = match std::str::from_utf8(bytes) {
                Ok(text) => return out.push_str(text),
                Err(error) => error,
            };
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            out.push_str(std::str::from_utf8(valid).unwrap_or_default());
            let Some(broken) = error.error_len() else {
                self.held[..rest.len()].copy_from_slice(rest);
                self.held_len = rest.len();
                return;
            };
            self.replace(out);
            bytes = &rest[broken..];
        }
    }

    fn give_up(&mut self, out: &mut String) {
        self.held_len = 0;
        self.replace(out);
    }

    fn replace(&mut self, out: &mut String) {
        out.push(char::REPLACEMENT_CHARACTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(chunks: &[&[u8]]) -> String {
        let mut assembler = Utf8Assembler::default();
        let mut out = String::new();
        for chunk in chunks {
            assembler.push(chunk, &mut out);
        }
        // The end shows that what is held back was no character.
        if assembler.held_len > 0 {
            assembler.give_up(&mut out);
        }
        out
    }

    #[test]
    fn split_characters_are_joined() {
        assert_eq!(run(&[b"a\xc3", b"\xa9b"]), "aéb");
        assert_eq!(run(&[b"\xf0", b"\x9f", b"\x98", b"\x80"]), "😀");
        assert_eq!(run(&[b"\xe2\x82", b"\xacx\xe2", b"\x82\xac"]), "€x€");
    }

    #[test]
    fn broken_bytes_are_replaced() {
        assert_eq!(run(&[b"a\xffb"]), "a\u{fffd}b");
        assert_eq!(run(&[b"\xc3", b"a"]), "\u{fffd}a");
        assert_eq!(run(&[b"\xc3", b"\xc3", b"\xa9"]), "\u{fffd}é");
        assert_eq!(run(&[b"\xf0\x9f"]), "\u{fffd}");
        assert_eq!(run(&[b"\xed\xa0\x80"]), "\u{fffd}\u{fffd}\u{fffd}"); // a surrogate is no character
    }

    proptest! {
        #[test]
        fn any_split_gives_what_std_gives(
            bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..60), ".{0,30}".prop_map(String::into_bytes)],
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let text = run(&chunks);
            prop_assert_eq!(&text, &String::from_utf8_lossy(&bytes).into_owned());
            prop_assert!(text.len() <= 3 * bytes.len());
        }
    }
}
