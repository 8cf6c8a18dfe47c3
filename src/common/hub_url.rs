//! The hub's address, and the addresses derived from it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::names::LoginName;

/// Longest address, in bytes.
const MAX_URL: usize = 1024;

/// The address that users open in their browser: scheme, host, port and the hub's base path.
///
/// Written without a slash at its end: `https://hub.example.org`,
/// `https://example.org:8443/jupyter`. It has no user, query or fragment and only printable ASCII,
/// so it can be shown and put into requests as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubUrl {
    text: String,
    https: bool,
    host: String,
    port: u16,
    /// Where the path starts in `text`.
    path: usize,
}

/// Why a text is not the address of a hub, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlError {
    /// What is wrong.
    pub problem: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn error<T>(problem: &'static str, remedy: &'static str) -> Result<T, UrlError> {
    Err(UrlError { problem, remedy })
}

impl HubUrl {
    /// Parses the address of a hub. Slashes at its end are dropped, scheme and host are made
    /// lower-case.
    ///
    /// # Errors
    /// It is not http or https, has no valid host, carries a user, a query or a fragment, or is the
    /// address of one of the hub's pages.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        const EXAMPLE: &str =
            "Use the address that users open in their browser, for example https://hub.example.org.";
        if text.len() > MAX_URL {
            return error("the address is longer than 1024 bytes", EXAMPLE);
        }
        if text.contains(['?', '#']) {
            return error(
                "the address has a query or a fragment",
                "Leave out the ? or # and what follows it.",
            );
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return error("the address does not start with https:// or http://", EXAMPLE);
        };
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return error("the address does not start with https:// or http://", EXAMPLE);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = parse_authority(authority)?;
        let path = path.trim_end_matches('/');
        check_path(path)?;
        let mut base = format!("{}://{host}", if https { "https" } else { "http" });
        if let Some(port) = port {
            base.push_str(&format!(":{port}"));
        }
        let start = base.len();
        base.push_str(path);
        Ok(Self {
            text: base,
            https,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
            path: start,
        })
    }

    /// The address as text, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.text
    }

    /// The hub's REST API, without a slash at its end: `https://HUB/hub/api`.
    pub fn api(&self) -> String {
        format!("{}/hub/api", self.text)
    }

    /// The page where users get their token: `https://HUB/hub/token`.
    pub fn token_page(&self) -> String {
        format!("{}/hub/token", self.text)
    }

    /// A user's server, without a slash at its end: `https://HUB/user/alice` or
    /// `https://HUB/user/alice/gpu`.
    pub fn user_server(&self, name: &LoginName) -> String {
        let mut url = format!("{}/user/{}", self.text, name.user().path_segment());
        if let Some(server) = name.server() {
            url.push('/');
            url.push_str(&server.path_segment());
        }
        url
    }

    /// The hub's address with the host of `url`, the address that the hub has given for one of its
    /// servers.
    ///
    /// With `subdomain_host` each user's server has a host beneath the hub's. Only the host is
    /// taken from `url`.
    ///
    /// `None` if `url` does not belong to the hub: no token may be sent there. It belongs to the
    /// hub if scheme and port are the same, and the host is the hub's or beneath it, or if it is a
    /// path only.
    pub fn at_host_of(&self, url: &str) -> Option<Self> {
        if url.starts_with('/') && !url.starts_with("//") {
            return Some(self.clone());
        }
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let found = Self::parse(&format!("{scheme}://{authority}{}", self.path())).ok()?;
        let above = found.host.strip_suffix(self.host.as_str())?;
        let same = found.https == self.https && found.port == self.port;
        (same && (above.is_empty() || above.ends_with('.'))).then_some(found)
    }

    /// True if the scheme is https.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host: a name, an IPv4 address or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, given or implied by the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The hub's base path without a slash at its end: empty, or `/jupyter`.
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Parses `HOST` or `HOST:PORT`; the host comes back lower-case, an IPv6 address with its brackets.
fn parse_authority(text: &str) -> Result<(String, Option<u16>), UrlError> {
    if text.contains('@') {
        return error("the address contains a user or a password", "Leave out the @ and what precedes it.");
    }
    let (host, port) = match text.rfind(':').filter(|at| !text[*at..].contains(']')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            // FromStr would accept a leading +.
            Ok(port) if port != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => {
                return error(
                    "the port is not a number from 1 to 65535",
                    "Correct the port, or leave it out.",
                );
            }
        },
    };
    let host = host.to_ascii_lowercase();
    let valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // A name does not end in a number (RFC 3696), so this must be an address.
        None => {
            host.len() <= 253
                && host.split('.').all(is_label)
                && (host.rsplit('.').next().is_some_and(has_letter) || host.parse::<Ipv4Addr>().is_ok())
        }
    };
    if !valid {
        return error(
            "the address has no valid host",
            "Use a host name in ASCII (xn--… for others), an IPv4 address, or an IPv6 address in brackets.",
        );
    }
    Ok((host, port))
}

fn has_letter(label: &str) -> bool {
    label.bytes().any(|b| b.is_ascii_alphabetic())
}

/// True for a label of a host name. DNS has no `_`, but container networks use it.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn check_path(path: &str) -> Result<(), UrlError> {
    const PAGES: [&str; 8] =
        ["api", "home", "token", "login", "oauth_login", "admin", "spawn", "user-redirect"];
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for segment in &segments {
        let bytes = segment.as_bytes();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~@+=:".contains(b);
        let quoted = |at: usize| {
            bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let valid = bytes.iter().enumerate().all(|(at, b)| plain(b) || (*b == b'%' && quoted(at)));
        if !valid || matches!(*segment, "" | "." | "..") {
            return error(
                "the path of the address is not valid",
                "Use the hub's base path, as in https://example.org/jupyter; quote unusual characters as %XX.",
            );
        }
    }
    // A hub whose base path ends in /hub exists only in theory; a pasted address of a page is
    // common.
    let page = match segments.as_slice() {
        [.., "hub"] => true,
        [.., "hub", page] => PAGES.contains(page),
        _ => false,
    };
    if page {
        return error("this is the address of one of the hub's pages", "Leave out /hub and what follows it.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_normalised() {
        for (text, base, host, port, path) in [
            ("https://hub.example.org", "https://hub.example.org", "hub.example.org", 443, ""),
            ("https://hub.example.org/", "https://hub.example.org", "hub.example.org", 443, ""),
            ("HTTPS://Hub.Example.org//", "https://hub.example.org", "hub.example.org", 443, ""),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1", 8000, ""),
            ("http://[::1]:8000/jupyter/", "http://[::1]:8000/jupyter", "::1", 8000, "/jupyter"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]", "2001:db8::1", 443, ""),
            ("http://proxy-public", "http://proxy-public", "proxy-public", 80, ""),
            ("http://jupyter_hub:8000", "http://jupyter_hub:8000", "jupyter_hub", 8000, ""),
            ("http://hub1", "http://hub1", "hub1", 80, ""),
            ("https://example.org/a/b%20c", "https://example.org/a/b%20c", "example.org", 443, "/a/b%20c"),
            ("https://example.org/hub/lab", "https://example.org/hub/lab", "example.org", 443, "/hub/lab"),
        ] {
            let url = HubUrl::parse(text).unwrap();
            assert_eq!((url.base(), url.host(), url.port(), url.path()), (base, host, port, path), "{text}");
            assert_eq!(HubUrl::parse(url.base()).unwrap(), url);
        }
    }

    #[test]
    fn pages_are_made_below_the_base_path() {
        let url = HubUrl::parse("https://example.org/jupyter/").unwrap();
        assert_eq!(url.token_page(), "https://example.org/jupyter/hub/token");
        assert_eq!(url.api(), "https://example.org/jupyter/hub/api");
        for (name, server) in [
            ("alice", "https://example.org/jupyter/user/alice"),
            ("a+b@example.org+gpu", "https://example.org/jupyter/user/a%2Bb@example.org/gpu"),
        ] {
            assert_eq!(url.user_server(&LoginName::parse(name).unwrap()), server);
        }
        assert!(url.is_https());
    }

    #[test]
    fn a_server_is_at_the_hub_or_beneath_it() {
        for (hub, url, base) in [
            ("https://hub.example.org", "/user/alice/", "https://hub.example.org"),
            ("https://hub.example.org/j", "/j/user/alice/gpu/", "https://hub.example.org/j"),
            ("https://hub.example.org", "https://hub.example.org/user/alice/", "https://hub.example.org"),
            (
                "https://hub.example.org",
                "https://alice.hub.example.org/user/alice/",
                "https://alice.hub.example.org",
            ),
            (
                "https://hub.example.org",
                "https://ALICE.hub.example.org:443",
                "https://alice.hub.example.org:443",
            ),
            ("https://hub.example.org:443", "https://a.hub.example.org/", "https://a.hub.example.org"),
            ("http://hub:8000/j", "http://a_40b.hub:8000/j/user/a@b/", "http://a_40b.hub:8000/j"),
            (
                "https://hub.example.org",
                "https://a.b.c.hub.example.org/x?y#z",
                "https://a.b.c.hub.example.org",
            ),
        ] {
            let hub = HubUrl::parse(hub).unwrap();
            assert_eq!(hub.at_host_of(url).unwrap().base(), base, "{url}");
        }
    }

    #[test]
    fn a_server_elsewhere_is_none_of_the_hubs() {
        let hub = HubUrl::parse("https://hub.example.org:8443/j").unwrap();
        for url in [
            "",
            "user/alice/",
            "//alice.hub.example.org:8443/",
            "http://alice.hub.example.org:8443/",
            "https://alice.hub.example.org/",
            "https://alice.hub.example.org:443/",
            "https://alice.hub.example.org:84430/",
            "https://evil.example.org:8443/",
            "https://evilhub.example.org:8443/",
            "https://example.org:8443/",
            "https://hub.example.org.evil.org:8443/",
            "https://evil.org:8443/.hub.example.org:8443/",
            "https://evil.org:8443?.hub.example.org:8443",
            "https://evil.org:8443#.hub.example.org:8443",
            "https://evil.org:8443\\.hub.example.org:8443/",
            "https://evil.org\\@hub.example.org:8443/",
            "https://alice@hub.example.org:8443/",
            "https://evil.org:8443@hub.example.org:8443/",
            "https://.hub.example.org:8443/",
            "https://a..hub.example.org:8443/",
            "https://a b.hub.example.org:8443/",
            "https://\u{212a}.hub.example.org:8443/",
            "https://a.hub.example.org.:8443/",
            "wss://a.hub.example.org:8443/",
            "javascript://hub.example.org:8443/",
        ] {
            assert_eq!(hub.at_host_of(url), None, "{url:?}");
        }
        for (hub, url) in [
            ("http://10.0.0.1", "http://x.10.0.0.1/"),
            ("http://10.0.0.1", "http://110.0.0.1/"),
            ("http://[::1]", "http://[2001::1]/"),
            ("http://[::1]", "http://a.[::1]/"),
        ] {
            assert_eq!(HubUrl::parse(hub).unwrap().at_host_of(url), None, "{url}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "hub.example.org",
            "ftp://hub.example.org",
            "https://",
            "https:///jupyter",
            "https:hub",
            "https://:443",
            "https://hub:0",
            "https://hub:65536",
            "https://hub:+1",
            "https://hub:",
            "https://alice@hub",
            "https://alice:secret@hub",
            "https://hub?next=x",
            "https://hub/#x",
            "https://hub\n",
            "https://hub example",
            "https://hüb.example.org",
            "https://-hub",
            "https://hub..org",
            "https://1.2.3",
            "https://256.1.1.1",
            "https://[::1",
            "https://::1",
            "https://[::1]x:80",
            "https://[fe80::1%25eth0]",
            "https://hub//x",
            "https://hub/../x",
            "https://hub/a b",
            "https://hub/%zz",
            "https://hub/%2",
            "https://hub/hub",
            "https://hub/hub/",
            "https://hub/hub/token",
            "https://example.org/jupyter/hub/home",
        ] {
            assert!(HubUrl::parse(text).is_err(), "{text:?}");
        }
        assert!(HubUrl::parse(&format!("https://hub/{}", "a".repeat(1024))).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_said_the_host_stays_the_hubs(text in "https?://[a-z.:@/?#%\\\\]{0,12}hub\\.org[a-z.:@/?#]{0,6}|\\PC*") {
            let hub = HubUrl::parse("https://hub.org").unwrap();
            if let Some(found) = hub.at_host_of(&text) {
                prop_assert!(found.host() == "hub.org" || found.host().ends_with(".hub.org"));
                prop_assert!(found.is_https() && found.port() == 443);
            }
        }

        #[test]
        fn what_is_accepted_is_plain_and_stays_the_same(text in "\\PC*|https?://[a-z0-9.:@\\[\\]/%?#_-]{0,40}") {
            if let Ok(url) = HubUrl::parse(&text) {
                prop_assert!(url.base().bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(!url.base().ends_with('/') && !url.host().is_empty());
                prop_assert_eq!(HubUrl::parse(url.base()).unwrap(), url);
            }
        }
    }
}
