//! What the PAM module asks for: five `key value` lines, then an empty one. Pure.

use common::LoginName;
use common::uid::Ids;
use std::fmt;
use std::str::FromStr;

/// Longest request, in bytes.
pub const MAX_REQUEST: usize = 1024;

/// A request that has passed every check. The caller is root's PAM module; the checks are for its faults.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The login name.
    pub user: LoginName,
    /// The session's uid and gid, as sshd's own lookup gave them, within the rules for hub users.
    pub ids: Ids,
    /// The sshd process that opened the session.
    pub sshd: i32,
    /// First half of the handle: the end of the gateway's socket name.
    pub gateway: String,
    /// Second half: proves to the gateway that we were sent by PAM.
    pub secret: String,
}

/// What is wrong with a request; names the line, never repeats its value (one of them is a secret).
#[derive(Debug, PartialEq, Eq)]
pub struct Fault(&'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Request {
    /// Parses a whole request. Every key must be there once, no other may be.
    ///
    /// # Errors
    /// The first fault found.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        if text.len() > MAX_REQUEST {
            return Err(Fault("too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| Fault("not UTF-8"))?;
        let lines = text.strip_suffix("\n\n").ok_or(Fault("no empty line at its end"))?;
        let (mut user, mut uid, mut gid, mut sshd, mut handle) = (None, None, None, None, None);
        for line in lines.split('\n') {
            let (key, value) = line.split_once(' ').ok_or(Fault("a line without a value"))?;
            let slot = match key {
                "user" => &mut user,
                "uid" => &mut uid,
                "gid" => &mut gid,
                "sshd" => &mut sshd,
                "handle" => &mut handle,
                _ => return Err(Fault("an unknown key")),
            };
            if slot.replace(value).is_some() {
                return Err(Fault("a key twice"));
            }
        }
        let (gateway, secret) = handle.and_then(split_handle).ok_or(Fault("handle"))?;
        let (uid, gid) = uid.and_then(number).zip(gid.and_then(number)).ok_or(Fault("uid or gid"))?;
        Ok(Self {
            user: user.and_then(|u| LoginName::parse(u).ok()).ok_or(Fault("user"))?,
            ids: Ids::new(uid, gid).map_err(|_| Fault("uid or gid: not one for hub users"))?,
            sshd: sshd.and_then(number).filter(|n| *n > 1).ok_or(Fault("sshd"))?,
            gateway,
            secret,
        })
    }
}

/// Digits only: no sign, no leading zero (`from_str` alone would take `+1000` and `01000`).
fn number<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

/// 64 lower-case hexadecimal digits, in two halves.
fn split_handle(handle: &str) -> Option<(String, String)> {
    let shape = handle.len() == 64 && handle.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (gateway, secret) = shape.then(|| handle.split_at(32))?;
    Some((gateway.to_owned(), secret.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good() -> Vec<String> {
        let handle = format!("{}{}", "0a".repeat(16), "f1".repeat(16));
        ["user alice", "uid 1000", "gid 100", "sshd 4711"]
            .into_iter()
            .map(str::to_owned)
            .chain([format!("handle {handle}")])
            .collect()
    }

    fn parse(lines: &[String]) -> Result<Request, Fault> {
        Request::parse(format!("{}\n\n", lines.join("\n")).as_bytes())
    }

    #[test]
    fn a_good_request_in_any_order() {
        let mut lines = good();
        let request = parse(&lines).unwrap();
        assert_eq!((request.user.as_str(), request.sshd), ("alice", 4711));
        assert_eq!((request.ids.uid(), request.ids.gid()), (1000, 100));
        assert_eq!((request.gateway, request.secret), ("0a".repeat(16), "f1".repeat(16)));
        lines.reverse();
        assert!(parse(&lines).is_ok());
    }

    #[test]
    fn each_key_once_and_no_other() {
        for i in 0..good().len() {
            let mut missing = good();
            let line = missing.remove(i);
            assert!(parse(&missing).is_err(), "without {line}");
            let mut twice = good();
            twice.push(line);
            assert_eq!(parse(&twice), Err(Fault("a key twice")));
        }
        let mut more = good();
        more.push("shell /bin/sh".into());
        assert_eq!(parse(&more), Err(Fault("an unknown key")));
    }

    #[test]
    fn bad_values() {
        let bad = [
            (0, "user "),
            (0, "user ../etc"),
            (0, "user a/b"),
            (0, "user a:b"),
            (0, "user .."),
            (0, "user root\tx"),
            (1, "uid 0"),
            (1, "uid 999"),
            (1, "uid -1"),
            (1, "uid 4294967295"),
            (1, "uid 4294967296"),
            (1, "uid 65534"),
            (1, "uid 61184"),
            (1, "uid +1000"),
            (1, "uid 01000"),
            (1, "uid 1000 "),
            (2, "gid 0"),
            (2, "gid 4294967295"),
            (3, "sshd 0"),
            (3, "sshd 1"),
            (3, "sshd 2147483648"),
            (4, "handle"),
            (4, "handle 00"),
        ];
        for (at, line) in bad {
            let mut lines = good();
            lines[at] = line.to_owned();
            assert!(parse(&lines).is_err(), "{line:?}");
        }
        let mut upper = good();
        upper[4] = format!("handle {}", "0A".repeat(32));
        assert_eq!(parse(&upper), Err(Fault("handle")));
        assert_eq!(Request::parse(b"user alice"), Err(Fault("no empty line at its end")));
        assert_eq!(Request::parse(&[b'a'; MAX_REQUEST + 1]), Err(Fault("too long")));
        assert_eq!(Request::parse(b"user \xff\n\n"), Err(Fault("not UTF-8")));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_yields_root(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = Request::parse(&bytes) {
                prop_assert!(request.ids.uid() >= 1000 && request.ids.gid() >= 100 && request.sshd > 1);
            }
        }

        #[test]
        fn uids_are_hub_users_only(uid: u32) {
            let mut lines = good();
            lines[1] = format!("uid {uid}");
            if let Ok(request) = parse(&lines) {
                prop_assert!(request.ids.uid() >= 1000 && !(61184..=65519).contains(&request.ids.uid()));
            }
        }
    }
}
