//! Parses one line of an authorized_keys file, as sshd(8) describes it. Pure.

use super::blob;
use super::options::{self, Judged};
pub use super::refused::Refused;
use common::error::excerpt;
use std::fmt;

/// A key that a user has listed. Its `Display` form is the line for sshd, without a line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Options to pass on to sshd, as written.
    pub options: Vec<String>,
    /// Names of the options left out; without them the key allows no more.
    pub left_out: Vec<String>,
    /// The key's type.
    pub kind: &'static str,
    /// The decoded key, at most 16 KiB.
    pub blob: Vec<u8>,
}

/// Parses a line, with or without its line end (LF or CRLF). `None` for a blank line or a comment.
/// What follows the key, usually its owner's name, is dropped.
///
/// # Errors
/// The line has no key that a login here may use: [`Refused`].
pub fn parse(line: &[u8]) -> Result<Option<Line>, Refused> {
    Parts::of(line)?.map(Parts::judged).transpose()
}

/// A line that contains a key, its options not yet judged.
#[derive(Debug)]
pub struct Parts<'a> {
    line: &'a [u8],
    options: Option<&'a [u8]>,
    kind: &'static str,
    /// The decoded key.
    pub blob: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// Splits a line into options, type and key, as sshd does.
    ///
    /// # Errors
    /// The line contains no key.
    pub fn of(line: &'a [u8]) -> Result<Option<Self>, Refused> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = blanks_skipped(line);
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        let (first, after) = word(line);
        let (options, kind, rest) = match blob::kind(first) {
            Some(kind) => (None, kind, after),
            // A key type that we don't accept; as options it would be reported as unknown.
            None if [&b"ssh-"[..], b"ecdsa-", b"sk-"].iter().any(|start| first.starts_with(start)) => {
                return Err(Refused::Kind(shown(first)));
            }
            None => {
                let (options, rest) = line.split_at(options_length(line).ok_or(Refused::Options)?);
                let (second, rest) = word(blanks_skipped(rest));
                match blob::kind(second) {
                    Some(kind) => (Some(options), kind, rest),
                    None if second.is_empty() => return Err(Refused::NoKey),
                    None => return Err(Refused::Kind(shown(second))),
                }
            }
        };
        let (base64, _comment) = word(blanks_skipped(rest));
        if base64.is_empty() {
            return Err(Refused::NoKey);
        }
        let blob = blob::decode(kind, base64).map_err(Refused::Blob)?;
        Ok(Some(Self { line, options, kind, blob }))
    }

    /// Judges the options.
    ///
    /// # Errors
    /// The key may not be used, or the line contains a control character.
    pub fn judged(self) -> Result<Line, Refused> {
        if self.line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Refused::Control);
        }
        let Judged { kept, left_out } = match self.options {
            Some(options) => options::judge(options)?,
            None => Judged::default(),
        };
        Ok(Line { options: kept, left_out, kind: self.kind, blob: self.blob })
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn blanks_skipped(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len())..]
}

/// Splits a text at its first blank.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len()))
}

/// Length of the text up to the first blank outside quotation marks, or to the end; `None` if a
/// quotation is not closed.
fn options_length(text: &[u8]) -> Option<usize> {
    let (mut at, mut quoted) = (0, false);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match rest {
            [b'\\', b'"', ..] => at += 1,
            [b'"', ..] => quoted = !quoted,
            [byte, ..] if is_blank(*byte) && !quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    (!quoted).then_some(at)
}

fn shown(text: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(text))
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.options.is_empty() {
            write!(f, "{} ", self.options.join(","))?;
        }
        write!(f, "{} {}", self.kind, blob::encode(&self.blob))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::examples::{ECDSA, ED25519};
    use proptest::prelude::*;

    /// Parses a line and returns the line for sshd.
    fn read(line: &str) -> String {
        parse(line.as_bytes()).unwrap().unwrap().to_string()
    }

    fn refused(line: &str) -> Refused {
        parse(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_key_is_read_however_its_line_is_laid_out() {
        let plain = format!("ssh-ed25519 {ED25519}");
        for line in [
            plain.clone(),
            format!("{plain}\n"),
            format!("{plain}\r\n"),
            format!("{plain}\r"),
            format!("{plain} alice@laptop\r\n"),
            format!("{plain}   command=\"x\" #\" 'ö"),
            format!(" \t ssh-ed25519 \t {ED25519}\t\tcomment\n"),
        ] {
            assert_eq!(read(&line), plain, "{line:?}");
        }
        assert_eq!(read(&format!("ecdsa-sha2-nistp256 {ECDSA}")), format!("ecdsa-sha2-nistp256 {ECDSA}"));
        // A comment in an older encoding.
        let latin = [plain.as_bytes(), b" M\xfcller"].concat();
        assert_eq!(parse(&latin).unwrap().unwrap().to_string(), plain);
    }

    #[test]
    fn options_stand_before_the_type() {
        let key = format!("ssh-ed25519 {ED25519}");
        let options = r#"from="10.0.0.0/8,a b",restrict,pty"#;
        assert_eq!(read(&format!("{options} \t{key} me\r\n")), format!("{options} {key}"));
        let line = parse(format!(r#"environment="A=\" b",pty {key}"#).as_bytes()).unwrap().unwrap();
        assert_eq!((line.options, line.left_out), (vec!["pty".to_owned()], vec!["environment".to_owned()]));
        assert_eq!(read(&format!(r#"tunnel="1" {key}"#)), key);
        let tab = format!("from=\"a\tb\" {key}");
        assert_eq!(read(&tab), tab);
        // A key within quotation marks is not a key.
        assert_eq!(refused(&format!(r#"command="x {key}" "#)), Refused::NoKey);
        assert_eq!(refused(&format!(r#"command="ssh-rsa x" {key}"#)), Refused::Limited("command"));
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        for line in ["", "\n", "\r\n", " \t \r\n", "#", "# ssh-ed25519", "  #\u{1b}\n"] {
            assert_eq!(parse(line.as_bytes()), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let key = format!("ssh-ed25519 {ED25519}");
        for (line, why) in [
            (format!("{key} a\0b"), "it contains control characters"),
            (format!("{key} \u{1b}[2J"), "it contains control characters"),
            (format!("{key} a\rb"), "it contains control characters"),
            (format!("{key} a\x7f"), "it contains control characters"),
            (format!("from=\"\n\" {key}"), "it contains control characters"),
            (format!("from=\"a {key}"), "its options are not written as sshd(8) says"),
            (format!("from=a {key}"), "its options are not written as sshd(8) says"),
            (format!("sudo {key}"), "the option 'sudo' is unknown"),
            (
                format!("cert-authority {key}"),
                "cert-authority is not possible here, and without it the key could do more than its owner meant",
            ),
            ("ssh-ed25519".into(), "there is no key on it"),
            ("ssh-ed25519 \t".into(), "there is no key on it"),
            ("pty".into(), "there is no key on it"),
            ("pty ssh-ed25519".into(), "there is no key on it"),
            (format!("ssh-dss {ED25519}"), "keys of type 'ssh-dss' are not taken"),
            (
                format!("ssh-ed25519-cert-v01@openssh.com {ED25519}"),
                "keys of type 'ssh-ed25519-cert-v01@openssh.com' are not taken",
            ),
            (format!("pty pty {key}"), "keys of type 'pty' are not taken"),
            ("hello world".into(), "keys of type 'world' are not taken"),
            (format!("ssh-rsa {ED25519}"), "its key is not of the type that it names"),
            ("ssh-rsa #?".into(), "its key is not base64"),
            (format!("ssh-rsa {}", "A".repeat(30_000)), "its key is longer than 16384 bytes"),
            ("\u{feff}ssh-ed25519 AAAA".into(), "keys of type 'AAAA' are not taken"),
        ] {
            assert_eq!(refused(&line).to_string(), why, "{line:?}");
        }
    }

    #[test]
    fn a_refused_key_is_known_by_its_blob() {
        let line = format!("command=\"\x01\" ssh-ed25519 {ED25519}");
        let parts = Parts::of(line.as_bytes()).unwrap().unwrap();
        assert_eq!(blob::encode(&parts.blob), ED25519);
        assert_eq!(parts.judged(), Err(Refused::Control));
    }

    proptest! {
        #[test]
        fn a_line_for_sshd_reads_the_same_again(
            options in r#"((from="[a, \t\\"]{0,5}"|pty|restrict|tunnel="0"|x),?){0,3}"#,
            blanks in "[ \t]{1,2}",
            comment in "( [a-z\"#]{0,5})?\r?\n?",
        ) {
            let text = format!("{options}{blanks}ssh-ed25519{blanks}{ED25519}{comment}");
            let Ok(Some(line)) = parse(text.as_bytes()) else { return Ok(()) };
            let shown = line.to_string();
            prop_assert!(!shown.contains(['\r', '\n']));
            let again = parse(shown.as_bytes()).unwrap().unwrap();
            prop_assert_eq!((again.options, again.left_out, again.blob), (line.options, Vec::new(), line.blob));
        }

        #[test]
        fn no_line_panics(start in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b' '), Just(b','), any::<u8>()], 0..40)) {
            for line in [start.clone(), [&start[..], b" ssh-rsa AAAA"].concat(), [b"ssh-rsa ", &start[..]].concat()] {
                if let Ok(Some(line)) = parse(&line) {
                    prop_assert!(line.to_string().bytes().all(|byte| byte >= b' ' || byte == b'\t'));
                }
            }
        }
    }
}
