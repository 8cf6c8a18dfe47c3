//! Parses the one-line answers of the gateway and the jail.

/// Longest accepted line, in bytes.
pub const MAX_LINE: usize = 2048;

/// The gateway's answer to a login.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hub confirms that the token is this user's; the gateway waits to be claimed with this
    /// handle.
    Granted(String),
    /// The hub rejects it, with a message for the user.
    Refused(String),
    /// The hub could not be asked, with a message for the user.
    Unavailable(String),
}

/// Parses the gateway's line. `None` if it is malformed, which counts as a failure.
#[must_use]
pub fn verdict(line: &[u8]) -> Option<Verdict> {
    let (word, rest) = split(line)?;
    match word {
        "granted" if is_handle(rest) => Some(Verdict::Granted(rest.to_owned())),
        "refused" => Some(Verdict::Refused(message(rest))),
        "unavailable" => Some(Verdict::Unavailable(message(rest))),
        _ => None,
    }
}

/// How a session is isolated.
#[derive(Debug, PartialEq, Eq)]
pub enum Jail {
    /// In namespaces; this is the pid of their first process.
    Process(libc::pid_t),
    /// Not at all, as sshd runs without root. The gateway serves the session on a socket of this
    /// name.
    None(String),
}

/// Parses the jail's line.
///
/// # Errors
/// The jail's own error message, or that the line is malformed.
pub fn jail(line: &[u8]) -> Result<Jail, String> {
    match split(line) {
        Some(("ready", pid)) if pid.bytes().all(|b| b.is_ascii_digit()) => match pid.parse() {
            Ok(pid) if pid > 1 => Ok(Jail::Process(pid)),
            _ => Err("the jail named an impossible process".into()),
        },
        Some(("none", name)) if name.len() == 32 && is_hex(name) => Ok(Jail::None(name.to_owned())),
        Some(("failed", reason)) => Err(reason.to_owned()),
        _ if line.is_empty() => Err("the jail's program ended without an answer".into()),
        _ => Err("the jail's program gave an answer that makes no sense".into()),
    }
}

/// Parses the answer of `jail --is-confined`: whether sshd confines a login.
///
/// # Errors
/// What sshd leaves open and what to do, why the answer is unknown, or that the line is malformed.
pub fn confinement(line: &[u8]) -> Result<(), String> {
    match split(line) {
        Some(("confined", "-")) => Ok(()),
        Some(("open", reason)) => Err(reason.to_owned()),
        Some(("unknown", reason)) => Err(format!("whether sshd confines this user is not known: {reason}")),
        _ => Err("whether sshd confines this user is not known: there was no answer that makes sense".into()),
    }
}

/// True if `text` has the shape of a handle: 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_handle(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split(line: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(line).ok()?;
    text.trim_end_matches('\n').split_once(' ')
}

/// Makes a message printable: U+001F separates its lines, other control characters are escaped.
fn message(text: &str) -> String {
    text.split('\u{1f}').map(common::text::one_line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_answers() {
        let handle = "0a".repeat(32);
        assert_eq!(verdict(format!("granted {handle}").as_bytes()), Some(Verdict::Granted(handle)));
        assert_eq!(
            verdict("refused Wrong token.\u{1f}Make a new one. ü\x1b[31m".as_bytes()),
            Some(Verdict::Refused("Wrong token.\nMake a new one. ü\\u{1b}[31m".into()))
        );
        assert_eq!(
            verdict(b"unavailable The hub is down."),
            Some(Verdict::Unavailable("The hub is down.".into()))
        );
    }

    #[test]
    fn everything_else_is_a_failure() {
        let long = format!("granted {}", "0a".repeat(33));
        let upper = format!("granted {}", "0A".repeat(32));
        let more = format!("granted {} x", "0a".repeat(32));
        for bad in [
            &b""[..],
            b"granted",
            b"granted ",
            b"GRANTED x",
            b"\xff",
            b"ok",
            long.as_bytes(),
            upper.as_bytes(),
            more.as_bytes(),
        ] {
            assert_eq!(verdict(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn whether_a_login_is_confined() {
        assert_eq!(confinement(b"confined -"), Ok(()));
        assert_eq!(confinement(b"open it is. Mend it"), Err("it is. Mend it".into()));
        for bad in [&b""[..], b"confined", b"confined - ", b"confined yes", b"unknown why", b"\xff"] {
            assert!(confinement(bad).is_err_and(|why| why.contains("is not known")));
        }
    }

    #[test]
    fn the_jails_answers() {
        assert_eq!(jail(b"ready 4711"), Ok(Jail::Process(4711)));
        let none = format!("none {}", "0a".repeat(16));
        assert_eq!(jail(none.as_bytes()), Ok(Jail::None("0a".repeat(16))));
        assert_eq!(jail(b"failed no room"), Err("no room".into()));
        for bad in [
            &b""[..],
            b"ready",
            b"ready 1",
            b"ready 0",
            b"ready -5",
            b"ready 99999999999",
            b"ready 5 6",
            b"ready +5",
            b"none",
            b"none 0a",
            b"none 0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A",
            b"none 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
        ] {
            assert!(jail(bad).is_err());
        }
    }
}
