//! A login as the PAM module describes it, in sshd's words. Pure.

use super::listener::Listener;
use common::LoginName;
use std::net::IpAddr;
use wire::confinement;

/// A login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    user: LoginName,
    /// The user's groups, by number.
    groups: String,
    /// The client's name, as sshd has it; its address where sshd looks up no names.
    host: String,
    /// Address of the client, address and port of this host, where they are known.
    connection: Option<(IpAddr, IpAddr, u16)>,
}

impl Request {
    /// Understands a request; nothing if it is none.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let said = confinement::Request::parse(text).ok()?;
        // A comma would begin the next part of what sshd is asked.
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

    /// What sshd is asked about. An interface of its own (RDomain) is not known here: a Match block for one doesn't hold.
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

    /// What an answer depends on besides files.
    #[must_use]
    pub(crate) fn key(&self, listener: &Listener, more_than_groups: bool) -> String {
        let spec = if more_than_groups { self.spec() } else { String::new() };
        format!("{} {:?} groups={} {spec}", listener.program, listener.arguments, self.groups)
    }
}

/// `SSH_CONNECTION`: the client's address and port, and this host's.
fn addresses(text: &str) -> Option<(IpAddr, IpAddr, u16)> {
    let words: Vec<&str> = text.split(' ').collect();
    let [address, _, local, port] = words[..] else { return None };
    // A link-local address has its interface behind it.
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
