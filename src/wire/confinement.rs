//! The PAM module asks `jail --is-confined` whether sshd confines a login.
//!
//! The request is standard input, the answer one line on standard output:
//!
//! ```text
//! user alice                                      confined -
//! groups 100,998                                  open WHAT. REMEDY
//! host 192.0.2.7                                  unknown WHY
//! connection 192.0.2.7 4711 192.0.2.1 22
//! ```
//!
//! The last line may be missing.

use crate::lines::{self, Malformed};
use common::LoginName;
use common::text::{head, one_line};
use std::fmt::Write;

/// Longest request, in bytes. A user may have 65536 groups, and some have hundreds; but a request
/// must fit into a pipe.
pub const MAX_REQUEST: usize = 4096;
/// Longest answer, in bytes: less than the PAM module reads.
const MAX_ANSWER: usize = 1800;

/// A login, as the PAM module knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The login name as typed, which sshd's Match blocks compare.
    pub user: LoginName,
    /// The numbers of the user's groups, with commas between them.
    pub groups: &'a str,
    /// The client's name as sshd has it: its address where sshd looks up no names.
    pub host: &'a str,
    /// `SSH_CONNECTION`: address and port of the client and of this host, if they are known.
    pub connection: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// The lines are not exactly these, or the user or a group is malformed.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        if text.len() > MAX_REQUEST {
            return Err(Malformed("too long"));
        }
        let with = lines::values(text, ["user", "groups", "host", "connection"]);
        let (user, groups, host, connection) = match with {
            Ok([user, groups, host, connection]) => (user, groups, host, Some(connection)),
            Err(_) => {
                let [user, groups, host] = lines::values(text, ["user", "groups", "host"])?;
                (user, groups, host, None)
            }
        };
        let user = LoginName::parse(user).map_err(|_| Malformed("user"))?;
        if !groups.bytes().all(|b| b.is_ascii_digit() || b == b',') {
            return Err(Malformed("groups"));
        }
        Ok(Self { user, groups, host, connection })
    }
}

/// Writes a request, for a login name as typed. `None` if the user has too many groups for it.
#[must_use]
pub fn request(user: &str, groups: &[u32], host: &str, connection: Option<&str>) -> Option<String> {
    let groups = groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut text = format!("user {user}\ngroups {groups}\nhost {host}\n");
    if let Some(connection) = connection {
        let _ = writeln!(text, "connection {connection}");
    }
    (text.len() <= MAX_REQUEST).then_some(text)
}

/// Whether sshd confines a login.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// sshd confines it.
    Confined,
    /// sshd doesn't confine it: what is open, and the remedy.
    Open(String),
    /// It cannot be found out: why.
    Unknown(String),
}

impl Answer {
    /// Reads the answer; a malformed one is [`Answer::Unknown`].
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        match lines::answer(line) {
            Some(("confined", "-")) => Self::Confined,
            Some(("open", what)) => Self::Open(what.to_owned()),
            Some(("unknown", why)) => Self::Unknown(why.to_owned()),
            _ => Self::Unknown("there was no answer that makes sense".to_owned()),
        }
    }

    /// Writes the answer, without a line feed. Cuts it at [`MAX_ANSWER`].
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = match self {
            Self::Confined => "confined -".to_owned(),
            Self::Open(what) => one_line(&format!("open {what}")),
            Self::Unknown(why) => one_line(&format!("unknown {why}")),
        };
        line.truncate(head(&line, MAX_ANSWER).len());
        line
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_arrive_as_they_are_sent() {
        let sent = request("Alice", &[100, 998], "192.0.2.7", Some("192.0.2.7 4711 192.0.2.1 22")).unwrap();
        assert_eq!(
            sent,
            "user Alice\ngroups 100,998\nhost 192.0.2.7\nconnection 192.0.2.7 4711 192.0.2.1 22\n"
        );
        let got = Request::parse(sent.as_bytes()).unwrap();
        assert_eq!(
            (got.groups, got.host, got.connection),
            ("100,998", "192.0.2.7", Some("192.0.2.7 4711 192.0.2.1 22"))
        );
        let bare = request("alice", &[1], "a,user=root", None).unwrap();
        assert_eq!(Request::parse(bare.as_bytes()).unwrap().connection, None);
        assert_eq!(request("alice", &[1_000_000; 600], "h", None), None);
    }

    #[test]
    fn anything_else_is_no_request() {
        for bad in [
            "",
            "\n",
            "user a\n",
            "user a\ngroups x\nhost h\n",
            "user a\nuser b\ngroups 1\nhost h\n",
            "user a\ngroups 1\nhost h",
            "user a,b\ngroups 1\nhost h\n",
            "user a\ngroups 1\nhost h\nmore x\n",
            "user\ngroups 1\nhost h\n",
        ] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Request::parse(b"\xff\n").is_err());
    }

    #[test]
    fn answers_arrive_as_they_are_sent() {
        for answer in [Answer::Confined, Answer::Open("it is. Mend it".into()), Answer::Unknown("why".into())]
        {
            assert_eq!(Answer::parse(answer.line().as_bytes()), answer);
        }
        for bad in [&b""[..], b"confined", b"confined - ", b"confined yes", b"\xff"] {
            assert!(matches!(Answer::parse(bad), Answer::Unknown(_)));
        }
        assert_eq!(Answer::Open("a\nb".into()).line(), format!("open {}", one_line("a\nb")));
        let long = Answer::Open("ü".repeat(2000)).line();
        assert!(long.len() <= MAX_ANSWER && long.ends_with('ü'));
    }
}
