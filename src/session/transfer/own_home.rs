//! Replaces `~NAME` in a command by `~` where NAME is the user who has logged in. Pure.
//!
//! So it means the user's home, even if a host knows somebody else by that name.

use std::borrow::Cow;

/// Replaces each unquoted `~NAME` at a word's start by `~`.
///
/// Neither the jail's passwd(5) nor that of the user's server needs to have the name.
#[must_use]
pub fn own_home<'a>(command: &'a [u8], user: &[u8]) -> Cow<'a, [u8]> {
    let name = [b"~", user].concat();
    let ends = |after: &[u8]| after.first().is_none_or(|byte| matches!(byte, b'/' | b' ' | b'\t'));
    if user.is_empty() || !command.windows(name.len()).any(|part| part == name) {
        return Cow::Borrowed(command);
    }
    let mut out = Vec::with_capacity(command.len());
    let (mut rest, mut quote, mut starts) = (command, None, true);
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(&*name).filter(|after| starts && ends(after)) {
            out.push(b'~');
            (rest, starts) = (after, false);
            continue;
        }
        out.push(byte);
        rest = after;
        starts = quote.is_none() && matches!(byte, b' ' | b'\t');
        match (quote, byte) {
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(opened), _) if opened == byte => quote = None,
            (None | Some(b'"'), b'\\') => {
                out.extend(rest.first());
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_ones_own_name_where_a_shell_would_look() {
        for (command, expected) in [
            ("scp -f ~alice", "scp -f ~"),
            ("scp -f ~alice/f ~alice ~alice/a\\ b", "scp -f ~/f ~ ~/a\\ b"),
            ("rsync --server . ~alice/d", "rsync --server . ~/d"),
            ("scp -f ~alice2/f ~bob x~alice ~alice\\ x", "scp -f ~alice2/f ~bob x~alice ~alice\\ x"),
            ("scp -f '~alice/f' \"~alice\" \\~alice", "scp -f '~alice/f' \"~alice\" \\~alice"),
            (
                "scp -f 'a ~alice' \"a \\\" ~alice\" a\\ ~alice",
                "scp -f 'a ~alice' \"a \\\" ~alice\" a\\ ~alice",
            ),
            ("scp -f '' ~alice/x", "scp -f '' ~/x"),
            ("scp -f ~alice/$(ls ~alice)", "scp -f ~/$(ls ~alice)"),
        ] {
            let got = own_home(command.as_bytes(), b"alice");
            assert_eq!(String::from_utf8_lossy(&got), expected);
        }
        assert_eq!(&*own_home(b"scp -f ~x+y@z.org/f", b"x+y@z.org"), b"scp -f ~/f");
        assert_eq!(&*own_home(b"scp -f ~ ~/x", b""), b"scp -f ~ ~/x");
    }

    proptest! {
        #[test]
        fn nothing_but_names_goes(command in "[~a '\"\\\\/]{0,30}") {
            let got = own_home(command.as_bytes(), b"a");
            let got = String::from_utf8(got.into_owned()).unwrap();
            prop_assert_eq!(got.replace('a', ""), command.replace('a', ""));
            let again = own_home(got.as_bytes(), b"a").into_owned();
            prop_assert_eq!(String::from_utf8(again).unwrap(), got);
        }
    }
}
