//! Decides which options of a key are passed on to sshd (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
//! Pure.
//!
//! Users write these options into their own files. Options that only restrict are passed on. Any
//! other option is left out
//! if the key allows no more without it; otherwise the key is refused.

use super::refused::Refused;
use common::error::excerpt;

/// What becomes of an option, and of its key.
#[derive(Clone, Copy)]
enum Fate {
    /// The option is passed on.
    Kept,
    /// The option is left out: it enables something that no connection here has, or it makes a
    /// check less strict.
    LeftOut,
    /// The key is refused: it is limited to something other than a login here, and without this
    /// option it would allow more.
    Refused,
}
use Fate::{Kept, LeftOut};

/// Each option, whether it takes a value in quotation marks, and what becomes of it. sshd ignores
/// the case of names.
const KNOWN: [(&str, bool, Fate); 22] = [
    ("from", true, Kept),
    ("expiry-time", true, Kept),
    ("permitopen", true, Kept),
    ("permitlisten", true, Kept),
    ("restrict", false, Kept),
    ("no-pty", false, Kept),
    ("no-port-forwarding", false, Kept),
    ("no-agent-forwarding", false, Kept),
    ("no-X11-forwarding", false, Kept),
    ("no-user-rc", false, Kept),
    ("verify-required", false, Kept),
    // These only undo a `restrict` before them.
    ("pty", false, Kept),
    ("port-forwarding", false, Kept),
    ("agent-forwarding", false, Kept),
    ("X11-forwarding", false, Kept),
    ("user-rc", false, Kept),
    ("environment", true, LeftOut),
    ("tunnel", true, LeftOut),
    ("no-touch-required", false, LeftOut),
    ("command", true, Fate::Refused),
    ("principals", true, Fate::Refused),
    ("cert-authority", false, Fate::Refused),
];

/// The options of an accepted key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Options to pass on, as written.
    pub kept: Vec<String>,
    /// Names of the options left out. Not their values: a variable may hold a secret.
    pub left_out: Vec<String>,
}

/// Judges the options in front of a key's type.
///
/// # Errors
/// The key is refused, and why.
pub(crate) fn judge(text: &[u8]) -> Result<Judged, Refused> {
    let mut rest = std::str::from_utf8(text).map_err(|_| Refused::Options)?;
    let mut judged = Judged::default();
    loop {
        let (item, after) = Item::first_of(rest)?;
        let known = KNOWN.iter().find(|(name, value, _)| {
            // An option without its value, or with a value it doesn't take, counts as unknown.
            *value == item.value && name.eq_ignore_ascii_case(item.name)
        });
        match known {
            Some((_, _, Kept)) => judged.kept.push(item.text.to_owned()),
            Some((name, _, LeftOut)) => judged.left_out.push((*name).to_owned()),
            Some((name, _, Fate::Refused)) => return Err(Refused::Limited(name)),
            None => return Err(Refused::UnknownOption(excerpt(item.name))),
        }
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.is_empty() => return Ok(judged),
            None => return Err(Refused::Options),
        };
    }
}

/// One option.
struct Item<'a> {
    /// The option as written.
    text: &'a str,
    name: &'a str,
    /// Whether it has a value.
    value: bool,
}

impl<'a> Item<'a> {
    /// Returns the first option of a text, and the rest of the text.
    fn first_of(text: &'a str) -> Result<(Self, &'a str), Refused> {
        let (name, after) = text.split_at(text.find(['=', ',']).unwrap_or(text.len()));
        let Some(value) = after.strip_prefix('=') else {
            return Ok((Self { text: name, name, value: false }, after));
        };
        let value = value.strip_prefix('"').ok_or(Refused::Options)?;
        let after = &value[value_length(value.as_bytes()).ok_or(Refused::Options)? + 1..];
        let text = &text[..text.len() - after.len()];
        Ok((Self { text, name, value: true }, after))
    }
}

/// Position of the quotation mark that ends a value; `None` if there is none. A backslash escapes a
/// quotation mark and nothing else.
fn value_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at..)? {
            [b'\\', b'"', ..] => at += 2,
            [b'"', ..] => return Some(at),
            [_, ..] => at += 1,
            [] => return None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(text: &str) -> Vec<String> {
        let judged = judge(text.as_bytes()).unwrap();
        assert!(judged.left_out.is_empty(), "{text}");
        judged.kept
    }

    #[test]
    fn what_restricts_is_kept_as_it_is_written() {
        for text in [
            "restrict",
            "RESTRICT,PTY",
            r#"from="192.0.2.*,!10.0.0.1,*.example.org",no-pty"#,
            r#"From="",expiry-time="20300101Z""#,
            r#"restrict,port-forwarding,permitopen="host:80",permitopen="[2001:db8::1]:*",permitlisten="8080""#,
            r#"from="a\"b,\\\"c",no-X11-forwarding,no-x11-forwarding"#,
            "verify-required,no-user-rc,user-rc,no-agent-forwarding,agent-forwarding,X11-forwarding",
        ] {
            assert_eq!(kept(text).join(","), text);
        }
        assert_eq!(kept(r#"from="a,b",pty"#), [r#"from="a,b""#, "pty"]);
    }

    #[test]
    fn what_sessions_lack_is_left_out_by_name() {
        let text = br#"no-pty,environment="TOKEN=secret\"",no-touch-required,Tunnel="3",from="a""#;
        let judged = judge(text).unwrap();
        assert_eq!(judged.kept, ["no-pty", r#"from="a""#]);
        assert_eq!(judged.left_out, ["environment", "no-touch-required", "tunnel"]);
    }

    #[test]
    fn a_key_for_something_else_is_refused() {
        for (text, name) in [
            (r#"command="rsync --server",restrict"#, "command"),
            (r#"no-pty,COMMAND="a \"b\" c""#, "command"),
            ("cert-authority", "cert-authority"),
            (r#"restrict,principals="alice""#, "principals"),
        ] {
            assert_eq!(judge(text.as_bytes()), Err(Refused::Limited(name)), "{text}");
        }
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for (text, name) in [
            ("no-ptyx", "no-ptyx"),
            ("restrict,allow-everything", "allow-everything"),
            ("from", "from"),
            ("command", "command"),
            (r#"pty="yes""#, "pty"),
            (r#"cert-authority="x""#, "cert-authority"),
            ("no-verify-required", "no-verify-required"),
            (r#""from"="a""#, "\"from\""),
            (" pty", " pty"),
            ("pty,,no-pty", ""),
            ("pty,", ""),
            (",", ""),
            ("", ""),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(judge(text.as_bytes()), Err(Refused::UnknownOption(name.into())), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_written_as_it_must_be_is_refused() {
        for text in [
            "from=a",
            "from=",
            r#"from=""#,
            r#"from="a"#,
            r#"from="a\""#,
            r#"from="a"pty"#,
            r#"from="a" ,pty"#,
            r#"from="a"""#,
            "command=x",
        ] {
            assert_eq!(judge(text.as_bytes()), Err(Refused::Options), "{text}");
        }
        assert_eq!(judge(b"from=\"\xff\""), Err(Refused::Options));
    }

    proptest! {
        #[test]
        fn what_is_kept_reads_the_same_again(text in r#"(((from|permitopen|environment|command)(="[a,\\" ]{0,6}"?)?|restrict|pty|[a-z=",\\]{0,4}),?){0,4}"#) {
            let Ok(judged) = judge(text.as_bytes()) else { return Ok(()) };
            for option in &judged.kept {
                prop_assert!(text.contains(option.as_str()));
            }
            if !judged.kept.is_empty() {
                let again = judge(judged.kept.join(",").as_bytes());
                prop_assert_eq!(again, Ok(Judged { kept: judged.kept, left_out: Vec::new() }));
            }
        }

        #[test]
        fn no_text_panics(text in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'='), Just(b','), any::<u8>()], 0..40)) {
            let _ = judge(&text);
            let _ = judge(&[b"from=\"", &text[..]].concat());
        }
    }
}
