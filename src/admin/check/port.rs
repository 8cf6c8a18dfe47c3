//! Finds out what listens at the port of `hub.url` if it is not the hub's proxy: another protocol,
//! or the hub itself, through which no user's server can be reached.
//!
//! A JupyterHub has two ports. Users open the proxy's in their browser; the proxy passes requests
//! on to the hub and to users' servers. The hub's own (8081 by default) is for the proxy and the
//! servers. The API is the same at both, but at its own port the hub redirects all other paths to
//! one of its own.

use super::Finding;
use super::answer::Answer;
use super::probe::{NoAnswer, Probe};
use ::hub::text::printable;
use common::HubUrl;
use server::terminado::socket::{ConnectError, Tls, connect_stream};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const TOPIC: &str = "hub";
/// How long each question to the port may take.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Most that is read of another protocol's greeting, in bytes.
const MAX_GREETING: usize = 512;
/// Most that is shown of a greeting, in characters.
const MAX_SHOWN: usize = 60;
/// The path of configurable-http-proxy's health check.
const HEALTH: &str = "/_chp_healthz";

/// The protocol that a port speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP without TLS.
    Http,
    /// TLS.
    Tls,
    /// SSH, with the server's version line.
    Ssh(String),
    /// Another protocol, or none.
    Other,
}

/// Finds out which protocol a port speaks: whether TLS if the address is `http`, and whether not if
/// it is `https`.
pub fn speaks(hub: &HubUrl) -> Speaks {
    let said = greeting(hub).unwrap_or_default();
    match told(&said) {
        Speaks::Other if !hub.is_https() && takes_tls(hub) => Speaks::Tls,
        // Some servers answer in plain HTTP that they want TLS.
        Speaks::Http if !hub.is_https() && takes_tls(hub) => Speaks::Tls,
        known => known,
    }
}

/// Reads what comes first after a request without TLS. SSH and mail servers send a greeting to any
/// client.
fn greeting(hub: &HubUrl) -> Option<Vec<u8>> {
    let mut stream = connect_stream(&other_scheme(hub, "http"), None, Instant::now() + PATIENCE).ok()?;
    let request = format!("GET {}/hub/api/ HTTP/1.0\r\nHost: {}\r\n\r\n", hub.path(), hub.host());
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).ok()?;
    let mut buffer = [0; MAX_GREETING];
    let length = stream.read(&mut buffer).ok()?;
    buffer.get(..length).map(<[u8]>::to_vec)
}

/// Recognizes the protocol of a greeting.
fn told(said: &[u8]) -> Speaks {
    if said.starts_with(b"HTTP/") {
        Speaks::Http
    } else if said.starts_with(b"SSH-") {
        let line = said.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        Speaks::Ssh(printable(&String::from_utf8_lossy(line), MAX_SHOWN))
    } else {
        Speaks::Other
    }
}

/// True if a TLS handshake gets as far as the certificate, trusted or not.
fn takes_tls(hub: &HubUrl) -> bool {
    let Ok(tls) = Tls::new(None) else { return false };
    match connect_stream(&other_scheme(hub, "https"), Some(&tls), Instant::now() + PATIENCE) {
        Ok(_) => true,
        Err(ConnectError::Tls(why)) => why.contains("certificate"),
        Err(_) => false,
    }
}

/// The same address with another scheme. It keeps the port, even if that was the default one.
fn other_scheme(hub: &HubUrl, scheme: &str) -> String {
    let host = if hub.host().contains(':') { format!("[{}]", hub.host()) } else { hub.host().to_owned() };
    format!("{scheme}://{host}:{}{}", hub.port(), hub.path())
}

/// An https address without the port if that is the default one.
fn without_port(https: &str) -> String {
    HubUrl::parse(https)
        .ok()
        .filter(|url| url.port() == 443)
        .map_or_else(|| https.to_owned(), |url| https.replacen(&format!(":443{}", url.path()), url.path(), 1))
}

/// A finding if a port doesn't speak the protocol that hub.url names.
pub fn another_protocol(speaks: &Speaks, hub: &HubUrl) -> Option<Finding> {
    let (host, port) = (hub.host(), hub.port());
    let remedy = format!(
        "Set hub.url in config.toml to the address that users open in their browser, with its port; {} is not it",
        hub.base()
    );
    let error = |what: String, remedy: String| Some(Finding::error(TOPIC, what, remedy));
    match speaks {
        Speaks::Ssh(name) => {
            error(format!("{host} port {port} is an SSH server ({name}), not a hub"), remedy)
        }
        // Doesn't suggest http: anybody on the way can forge such an answer.
        Speaks::Http if hub.is_https() => {
            error(format!("{host} port {port} speaks http, and hub.url says https"), remedy)
        }
        Speaks::Tls if !hub.is_https() => error(
            format!("{host} port {port} speaks https, and hub.url says http"),
            format!("Set in config.toml: url = \"{}\"", without_port(&other_scheme(hub, "https"))),
        ),
        _ => None,
    }
}

/// A finding if the hub itself answers, and not its proxy.
///
/// It takes two signs: the hub redirects a path that isn't its own, and there is no HTTP proxy in
/// between, because Tornado answers a malformed request without any header.
pub fn without_proxy(probe: &Probe<'_>, hub: &HubUrl) -> Option<Finding> {
    let redirected = probe.get_at_root(HEALTH, PATIENCE).is_ok_and(|answer| is_hubs_redirect(&answer));
    let itself = || is_tornados(&probe.raw(b"GET\r\n\r\n", PATIENCE));
    (redirected && itself()).then(|| {
        Finding::error(
            TOPIC,
            format_args!(
                "{} is the hub itself, not its proxy: users' servers cannot be reached through it, and each session fails",
                hub.base()
            ),
            "Set hub.url in config.toml to the address that users open in their browser: that of the proxy (port 8000 where \
             nobody has set another; in Kubernetes the service proxy-public)",
        )
    })
}

/// True if an answer is the hub's redirect of an unknown path to the same path beneath its own.
pub fn is_hubs_redirect(answer: &Answer) -> bool {
    let target = answer.header("location").unwrap_or_default();
    matches!(answer.status, 301 | 302)
        && target.split('?').next().unwrap_or_default().ends_with(&format!("/hub{HEALTH}"))
}

/// True if this is Tornado's answer to a malformed request.
fn is_tornados(said: &Result<Vec<u8>, NoAnswer>) -> bool {
    said.as_ref().is_ok_and(|said| said == b"HTTP/1.1 400 Bad Request\r\n\r\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn url(text: &str) -> HubUrl {
        HubUrl::parse(text).unwrap()
    }

    #[test]
    fn protocols_are_told_apart() {
        assert_eq!(told(b"HTTP/1.1 400 Bad Request\r\n"), Speaks::Http);
        assert_eq!(
            told(b"SSH-2.0-OpenSSH_9.2p1\x1b[2J\r\nInvalid"),
            Speaks::Ssh("SSH-2.0-OpenSSH_9.2p1".to_owned())
        );
        for other in [&b""[..], b"220 mail ESMTP\r\n", b"\x15\x03\x01\0\x02\x02\x0a", b"\xff\xfe"] {
            assert_eq!(told(other), Speaks::Other);
        }
    }

    #[test]
    fn the_right_address_is_told_only_where_it_is_known() {
        let text = |speaks, hub: &str| another_protocol(&speaks, &url(hub)).map(|found| found.text());
        let tls = text(Speaks::Tls, "http://hub.example.org:8443/jupyter").unwrap();
        assert!(tls.ends_with("url = \"https://hub.example.org:8443/jupyter\""), "{tls}");
        let tls = text(Speaks::Tls, "http://[2001:db8::1]:443").unwrap();
        assert!(tls.ends_with("url = \"https://[2001:db8::1]\""), "{tls}");
        let tls = text(Speaks::Tls, "http://h:4430").unwrap();
        assert!(tls.ends_with("url = \"https://h:4430\""), "{tls}");
        let plain = text(Speaks::Http, "https://hub.example.org:8000").unwrap();
        assert!(plain.contains("port 8000 speaks http, and hub.url says https"), "{plain}");
        assert!(
            plain.ends_with("https://hub.example.org:8000 is not it") && !plain.contains("http:/"),
            "{plain}"
        );
        for scheme in ["http", "https"] {
            let hub = format!("{scheme}://h:22");
            assert!(text(Speaks::Ssh("SSH-2.0-x".to_owned()), &hub).unwrap().contains("(SSH-2.0-x)"));
            assert_eq!(text(Speaks::Other, &hub), None);
        }
        assert_eq!((text(Speaks::Http, "http://h"), text(Speaks::Tls, "https://h")), (None, None));
    }

    #[test]
    fn the_hub_itself_is_known_by_what_no_proxy_says() {
        let answer = |status: u16, location: &str| {
            Answer::parse(format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\n\r\n").as_bytes()).unwrap()
        };
        assert!(is_hubs_redirect(&answer(302, "/hub/_chp_healthz")));
        assert!(is_hubs_redirect(&answer(302, "/jupyter/hub/_chp_healthz?x")));
        for (status, location) in
            [(200, ""), (302, "/hub/login"), (302, "https://h/_chp_healthz"), (404, "/hub/_chp_healthz")]
        {
            assert!(!is_hubs_redirect(&answer(status, location)), "{location}");
        }
        assert!(is_tornados(&Ok(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())));
        for other in [
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
            "",
            "HTTP/1.1 400 Bad Request\r\n\r\n<html>",
        ] {
            assert!(!is_tornados(&Ok(other.as_bytes().to_vec())), "{other}");
        }
        assert!(!is_tornados(&Err(NoAnswer::Closed)));
    }
}
