//! The PAM module asks the program `jail` to build a jail.
//!
//! The request is the first part of standard input; it ends with an empty line. The answer is one
//! line on standard output:
//!
//! ```text
//! user alice              ready PID
//! handle HANDLE           none NAME
//! uid 20001               failed WHY
//! gid 100
//! sshd 4711
//! ```
//!
//! After `ready` the module joins the namespaces of process PID. After `none` (sshd runs without
//! root) it passes NAME on to the session program. Then it sends [`JOINED`]; if that doesn't come,
//! `jail` tears everything down.

use crate::handle::{self, Handle};
use crate::lines::{self, Malformed};
use common::LoginName;
use common::text::one_line;
use common::uid::Ids;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Longest request, in bytes.
pub const MAX_REQUEST: usize = 1024;
/// What the module sends when it has joined, without the line feed.
pub const JOINED: &str = "joined";

/// A jail to build. It comes from the PAM module, which is root: the checks are against mistakes.
pub struct Request {
    /// The login name.
    pub user: LoginName,
    /// Uid and gid of the connection as sshd looked them up, checked against the rules for hub
    /// users.
    pub ids: Ids,
    /// The sshd process that opens the session.
    pub sshd: i32,
    /// The gateway that has verified the login.
    pub handle: Handle,
}

impl Request {
    /// Reads a request, with the empty line at its end.
    ///
    /// # Errors
    /// The lines are not exactly these, or a value is impossible.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.len() > MAX_REQUEST {
            return Err(Malformed("too long"));
        }
        let text = text.strip_suffix(b"\n").ok_or(Malformed("no empty line at its end"))?;
        let [user, handle, uid, gid, sshd] = lines::values(text, ["user", "handle", "uid", "gid", "sshd"])?;
        let (uid, gid) = number(uid).zip(number(gid)).ok_or(Malformed("uid or gid"))?;
        Ok(Self {
            user: LoginName::parse(user).map_err(|_| Malformed("user"))?,
            ids: Ids::new(uid, gid).map_err(|_| Malformed("uid or gid: not one for hub users"))?,
            sshd: number(sshd).filter(|n| *n > 1).ok_or(Malformed("sshd"))?,
            handle: Handle::parse(handle).ok_or(Malformed("handle"))?,
        })
    }
}

/// Writes a request, with the empty line at its end. The ids are as sshd looked them up; `jail`
/// checks them.
#[must_use]
pub fn request(user: &LoginName, handle: &Handle, uid: u32, gid: u32, sshd: u32) -> Zeroizing<String> {
    Zeroizing::new(format!("user {user}\nhandle {}\nuid {uid}\ngid {gid}\nsshd {sshd}\n\n", handle.as_str()))
}

/// Reads a number of digits only: no sign, no leading zero. (`from_str` takes `+1000` and `01000`.)
fn number<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

/// The answer of `jail`.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The jail is built; this is the pid of its first process.
    Ready(i32),
    /// There is no jail, because sshd runs without root: the first half of the gateway's handle,
    /// by which the session program finds its socket.
    None(String),
    /// The jail could not be built: why, for the log.
    Failed(String),
}

impl Answer {
    /// Reads the answer; a malformed one is [`Answer::Failed`].
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let failed = |why: &str| Self::Failed(why.to_owned());
        match lines::answer(line) {
            Some(("ready", pid)) if pid.bytes().all(|b| b.is_ascii_digit()) => match pid.parse() {
                Ok(pid) if pid > 1 => Self::Ready(pid),
                _ => failed("the jail named an impossible process"),
            },
            Some(("none", name)) if handle::is_name(name) => Self::None(name.to_owned()),
            Some(("failed", why)) => failed(why),
            _ if line.is_empty() => failed("the jail's program ended without an answer"),
            _ => failed("the jail's program gave an answer that makes no sense"),
        }
    }

    /// Writes the answer, without a line feed.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Ready(pid) => format!("ready {pid}"),
            Self::None(name) => format!("none {name}"),
            Self::Failed(why) => format!("failed {}", one_line(why)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "user alice\nhandle H\nuid 1000\ngid 100\nsshd 4711\n\n";

    fn text(template: &str) -> String {
        template.replace('H', &format!("{}{}", "0a".repeat(16), "f1".repeat(16)))
    }

    #[test]
    fn requests_arrive_as_they_are_sent() {
        let request = Request::parse(text(GOOD).as_bytes()).unwrap();
        assert_eq!((request.user.as_str(), request.sshd), ("alice", 4711));
        assert_eq!((request.ids.uid(), request.ids.gid()), (1000, 100));
        assert_eq!((request.handle.name(), request.handle.secret()), (&*"0a".repeat(16), &*"f1".repeat(16)));
        assert_eq!(*super::request(&request.user, &request.handle, 1000, 100, 4711), text(GOOD));
    }

    #[test]
    fn each_line_once_and_no_other() {
        let lines: Vec<&str> = GOOD.trim_end().lines().collect();
        for i in 0..lines.len() {
            let mut missing = lines.clone();
            missing.remove(i);
            let mut twice = lines.clone();
            twice.push(lines[i]);
            for bad in [missing, twice] {
                assert!(Request::parse(text(&format!("{}\n\n", bad.join("\n"))).as_bytes()).is_err());
            }
        }
        for bad in
            [format!("{}home /root\n\n", GOOD.trim_end()), GOOD.trim_end().to_owned(), format!("{GOOD}\n")]
        {
            assert!(Request::parse(text(&bad).as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_checked() {
        for (from, to) in [
            ("user alice", "user "),
            ("user alice", "user ../etc"),
            ("user alice", "user a/b"),
            ("user alice", "user a:b"),
            ("user alice", "user .."),
            ("user alice", "user root\tx"),
            ("uid 1000", "uid 0"),
            ("uid 1000", "uid 999"),
            ("uid 1000", "uid -1"),
            ("uid 1000", "uid 4294967295"),
            ("uid 1000", "uid 4294967296"),
            ("uid 1000", "uid 65534"),
            ("uid 1000", "uid 61184"),
            ("uid 1000", "uid +1000"),
            ("uid 1000", "uid 01000"),
            ("uid 1000", "uid 1000 "),
            ("gid 100", "gid 0"),
            ("gid 100", "gid -1"),
            ("gid 100", "gid 4294967295"),
            ("sshd 4711", "sshd 0"),
            ("sshd 4711", "sshd 1"),
            ("sshd 4711", "sshd 2147483648"),
            ("handle H", "handle"),
            ("handle H", "handle 00"),
            ("handle H", "handle HH"),
        ] {
            assert!(Request::parse(text(&GOOD.replace(from, to)).as_bytes()).is_err(), "{to}");
        }
        let reason = |text: &[u8]| Request::parse(text).err().unwrap().to_string();
        assert_eq!(reason(&[b'a'; MAX_REQUEST + 1]), "too long");
        assert_eq!(reason(b"user alice"), "no empty line at its end");
        assert_eq!(reason(b"user \xff\n\n"), "not UTF-8");
    }

    #[test]
    fn a_secret_is_never_repeated() {
        let bad = text(GOOD).replace("f1f1", "F1F1");
        let why = Request::parse(bad.as_bytes()).err().unwrap();
        assert_eq!(why.to_string(), "handle");
    }

    #[test]
    fn the_answers() {
        for answer in [Answer::Ready(4711), Answer::None("0a".repeat(16)), Answer::Failed("no room".into())] {
            assert_eq!(Answer::parse(answer.line().as_bytes()), answer);
        }
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
            assert!(matches!(Answer::parse(bad), Answer::Failed(_)), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_or_yields_root(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = Request::parse(&bytes) {
                prop_assert!(request.ids.uid() >= 1000 && request.ids.gid() >= 100 && request.sshd > 1);
            }
            let _ = Answer::parse(&bytes);
        }

        #[test]
        fn uids_are_hub_users_only(uid: u32) {
            if let Ok(request) = Request::parse(text(&GOOD.replace("1000", &uid.to_string())).as_bytes()) {
                prop_assert!(request.ids.uid() >= 1000 && !(61184..=65519).contains(&request.ids.uid()));
            }
        }
    }
}
