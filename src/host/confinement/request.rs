//! A login as the PAM module describes it, translated for sshd. Pure.

use super::listener::Listener;
use common::LoginName;
use std::net::IpAddr;
use wire::confinement;

/// A login to check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    user: LoginName,
    /// The ids of the user's groups.
    groups: String,
    /// The client's name, as sshd knows it; its address if sshd looks up no names.
    host: String,
    /// The client's address, and this host's address and port, if known.
    connection: Option<(IpAddr, IpAddr, u16)>,
}

impl Request {
    /// Parses a request; `None` if it is malformed.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let said = confinement::Request::parse(text).ok()?;
        // A comma would begin the next field of sshd's specification.
        let is_name = |name: &&str| {
            name.len() <= 255
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_' | b'%'))
        };
        Some(Self {
            groups: said.groups.to_owned(),
            host: Some(said.host).filter(is_name).unwrap_or("UNKNOWN").to_owned(),
            connection: said.connection.and_then(addresses),
            user: said.user,
        })
    }

    /// Formats the login for `sshd -C`. The routing domain (RDomain) is not known here, so a Match
    /// block for one doesn't apply.
    #[must_use]
    pub(crate) fn spec(&self) -> String {
        let Self { user, host, connection, .. } = self;
        let fixed = format!("user={user},host={host},rdomain=");
        match connection {
            Some((address, local, port)) => format!("{fixed},addr={address},laddr={local},lport={port}"),
            None => {
                format!("{fixed},addr={}", host.parse::<IpAddr>().map_or("UNKNOWN".into(), |a| a.to_string()))
            }
        }
    }

    /// Formats everything besides files that the answer depends on.
    #[must_use]
    pub(crate) fn key(&self, listener: &Listener, more_than_groups: bool) -> String {
        let spec = if more_than_groups { self.spec() } else { String::new() };
        format!("{} {:?} groups={} {spec}", listener.program, listener.arguments, self.groups)
    }
}

/// Parses `SSH_CONNECTION`: the client's address and port, and this host's.
fn addresses(text: &str) -> Option<(IpAddr, IpAddr, u16)> {
    let words: Vec<&str> = text.split(' ').collect();
    let [address, _, local, port] = words[..] else { return None };
    // A link-local address is followed by its interface.
    let parse = |text: &str| text.split('%').next()?.parse().ok();
    Some((parse(address)?, parse(local)?, port.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_described_to_sshd() {
        let text = "user tag+x@example.org\ngroups 100,998\nhost 192.0.2.7\nconnection 192.0.2.7 4711 192.0.2.1 2222\n";
        let request = Request::parse(text.as_bytes()).unwrap();
        assert_eq!(
            request.spec(),
            "user=tag+x@example.org,host=192.0.2.7,rdomain=,addr=192.0.2.7,laddr=192.0.2.1,lport=2222"
        );
        let listener =
            Listener { program: "/usr/sbin/sshd".into(), arguments: vec!["-f".into(), "/x".into()] };
        assert_eq!(request.key(&listener, false), "/usr/sbin/sshd [\"-f\", \"/x\"] groups=100,998 ");
        assert!(request.key(&listener, true).ends_with("lport=2222"));
        let bare = Request::parse(b"user a\ngroups 1\nhost a,user=root\n").unwrap();
        assert_eq!(bare.spec(), "user=a,host=UNKNOWN,rdomain=,addr=UNKNOWN");
        let six = Request::parse(b"user a\ngroups 1\nhost ::1\nconnection fe80::1%eth0 1 ::1 22\n").unwrap();
        assert!(six.spec().ends_with("addr=fe80::1,laddr=::1,lport=22"));
    }
}
