//! Checks the way to the hub: does a JupyterHub answer, and do proxies and firewalls on the way let
//! everything pass?

use super::Finding;
use super::answer::{Answer, seconds};
use super::port::{self, Speaks};
use super::probe::{NoAnswer, Probe};
use super::websocket;
use crate::status::patience::await_answer;
use ::hub::error::HttpError;
use common::HubUrl;
use host::config::Config;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TOPIC: &str = "hub";
/// How long the hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the hub's name may take to resolve.
const RESOLVER: Duration = Duration::from_secs(3);
/// Most seconds that this host's clock may differ from the hub's. With more, tokens look expired or
/// not yet valid.
const MAX_SKEW: i64 = 60;
/// Oldest JupyterHub that works.
const OLDEST: (u32, u32) = (2, 0);
/// Oldest JupyterHub that can narrow a token to a server, as login by key needs.
const OLDEST_FOR_KEYS: (u32, u32) = (3, 0);

/// The remedy for a port that isn't the hub's.
const RIGHT_ADDRESS: &str =
    "Set hub.url in config.toml to the address that users open in their browser, with its scheme and port";

/// Asks the hub what needs no token. Also returns whether it makes sense to ask it for more.
pub fn check(config: &Config) -> (Vec<Finding>, bool) {
    let Ok(hub) = config.hub_url() else { return (Vec::new(), false) };
    let ca_file = config.hub().ca_file.as_deref();
    let probe = match Probe::new(hub, ca_file) {
        Ok(probe) => probe,
        Err(why) => {
            let remedy =
                "Correct hub.ca_file in config.toml: a file of PEM certificates that everybody may read";
            return (
                vec![Finding::error(TOPIC, format_args!("its certificate cannot be checked: {why}"), remedy)],
                false,
            );
        }
    };
    let reached = addresses(hub).and_then(|addresses| {
        Ok((addresses, probe.request("GET", "/hub/api/", "Connection: close\r\n", None, PATIENCE)?))
    });
    let (addresses, answer) = match reached {
        Ok(reached) => reached,
        Err(failure) => return (vec![unreachable(&failure, hub, ca_file, port::speaks)], false),
    };
    // Some TLS servers answer a request without TLS in plain text.
    let another = (answer.status == 400).then(|| port::another_protocol(&port::speaks(hub), hub));
    if let Some(finding) = another.flatten() {
        return (vec![finding], false);
    }
    let (finding, is_hub) = identity(&answer, hub, config.keys.is_on());
    let mut findings = vec![finding];
    if is_hub {
        findings.extend(in_the_clear(hub, &addresses));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        findings.extend(answer.header("date").and_then(|date| clock(date, i64::try_from(now).unwrap_or(0))));
        match port::without_proxy(&probe, hub) {
            Some(finding) => findings.push(finding),
            None => findings.push(websocket::without_token(&probe)),
        }
    }
    (findings, is_hub)
}

/// Resolves the hub's name, with a time limit.
pub fn addresses(hub: &HubUrl) -> Result<Vec<IpAddr>, NoAnswer> {
    let (host, port) = (hub.host().to_owned(), hub.port());
    let found = await_answer(RESOLVER, move || (host.as_str(), port).to_socket_addrs());
    let found =
        found.ok_or_else(|| NoAnswer::Resolve(format!("no answer within {} s", RESOLVER.as_secs())))?;
    found.map(|all| all.map(|one| one.ip()).collect()).map_err(|error| NoAnswer::Resolve(error.to_string()))
}

/// Explains why there was no answer. `speaks` finds out which protocol the port speaks.
fn unreachable(
    failure: &NoAnswer,
    hub: &HubUrl,
    ca_file: Option<&Path>,
    speaks: impl FnOnce(&HubUrl) -> Speaks,
) -> Finding {
    let (host, port) = (hub.host(), hub.port());
    let is_mute = match failure {
        NoAnswer::Closed | NoAnswer::NotHttp => true,
        NoAnswer::Tls(why) => is_no_tls(why),
        NoAnswer::Resolve(_) | NoAnswer::Connect(_) | NoAnswer::Timeout => false,
    };
    let another = is_mute.then(|| port::another_protocol(&speaks(hub), hub));
    if let Some(finding) = another.flatten() {
        return finding;
    }
    let error = |what: String, remedy: String| Finding::error(TOPIC, what, remedy);
    match failure {
        NoAnswer::Resolve(why) => error(
            format!("its name {host} does not resolve: {why}"),
            format!("Correct hub.url in config.toml, or this host's resolver: getent ahosts {host}"),
        ),
        NoAnswer::Connect(why) => error(
            format!("no connection to {host} port {port}: {why}"),
            format!(
                "See whether the hub runs and a firewall lets this host through: curl -v {}/hub/api/",
                hub.base()
            ),
        ),
        NoAnswer::Tls(why) => tls(why, hub, ca_file),
        NoAnswer::Timeout => error(
            format!("{host} port {port} did not answer within {} s", PATIENCE.as_secs()),
            format!("See whether the hub hangs or a firewall drops packets: curl -v {}/hub/api/", hub.base()),
        ),
        NoAnswer::Closed => error(
            format!("{host} port {port} takes connections, but closes them without an answer"),
            RIGHT_ADDRESS.to_owned(),
        ),
        NoAnswer::NotHttp => {
            error(format!("what answers at {host} port {port} does not speak HTTP"), RIGHT_ADDRESS.to_owned())
        }
    }
}

/// Explains an error of OpenSSL. The texts are those of X509_verify_cert_error_string(3).
fn tls(why: &str, hub: &HubUrl, ca_file: Option<&Path>) -> Finding {
    let (host, port) = (hub.host(), hub.port());
    let show = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("openssl s_client -connect [{host}]:{port} </dev/null"),
        Ok(IpAddr::V4(_)) => format!("openssl s_client -connect {host}:{port} </dev/null"),
        Err(_) => format!("openssl s_client -connect {host}:{port} -servername {host} </dev/null"),
    };
    let has = |text: &str| why.to_ascii_lowercase().contains(text);
    let (what, remedy) = if has("has expired") {
        (
            "its certificate has expired".to_owned(),
            "Renew it where TLS ends, on the hub or its proxy".to_owned(),
        )
    } else if has("not yet valid") {
        (
            "its certificate is not valid yet".to_owned(),
            "See whether this host's clock is right: timedatectl".to_owned(),
        )
    } else if has("hostname mismatch") || has("ip address mismatch") {
        (
            format!("its certificate is for another name than {host}"),
            format!(
                "Set hub.url to a name that the certificate has; these it has: {show} | openssl x509 -noout -ext subjectAltName"
            ),
        )
    } else if has("self-signed")
        || has("self signed")
        || has("local issuer")
        || has("unable to get issuer")
        || has("unable to verify")
    {
        let remedy = match ca_file {
            Some(path) => format!(
                "Put the authority that has signed it into {} (hub.ca_file), with those between",
                path.display()
            ),
            None => "Name its authority in hub.ca_file in config.toml, or add it to the system's: \
                     /usr/local/share/ca-certificates/NAME.crt and update-ca-certificates"
                .to_owned(),
        };
        ("its certificate is signed by an authority that this host does not trust".to_owned(), remedy)
    } else if is_no_tls(why) {
        (format!("{host} port {port} does not speak TLS, and hub.url says https"), RIGHT_ADDRESS.to_owned())
    } else {
        (format!("TLS fails: {}", reason(why)), format!("See what is offered: {show}"))
    };
    Finding::error(TOPIC, what, remedy)
}

/// True if the other side answered a TLS handshake with something other than TLS.
fn is_no_tls(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    [
        "wrong version number",
        "unexpected eof",
        "http request",
        "packet length too long",
        "record layer failure",
    ]
    .iter()
    .any(|text| why.contains(text))
}

/// Cuts OpenSSL's reason out of a message with the place in its source:
/// `error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE:MORE`, and what may follow in brackets.
fn reason(why: &str) -> String {
    let parts: Vec<&str> =
        why.strip_prefix("error:").map(|rest| rest.split(':').collect()).unwrap_or_default();
    let text = match parts[..] {
        [_, _, _, reason, _, _, ..] => {
            let more = why.rfind('(').and_then(|at| why.get(at..)).unwrap_or_default();
            format!("{reason} {more}")
        }
        _ => why.to_owned(),
    };
    ::hub::text::printable(&text, 200)
}

/// Checks that a JupyterHub answered, of a version that works. `GET /hub/api/` tells the version
/// without a token. Also returns whether it is one.
fn identity(answer: &Answer, hub: &HubUrl, keys_on: bool) -> (Finding, bool) {
    let base = hub.base();
    let version = answer.object().and_then(|object| Some(object.get("version")?.as_str()?.to_owned()));
    let told = version.as_deref().or(answer.header("x-jupyterhub-version"));
    let none = |what: String, remedy: String| (Finding::error(TOPIC, what, remedy), false);
    match (answer.status, told) {
        (200, Some(version)) => {
            let shown = ::hub::text::printable(version, 40);
            match release(version) {
                None => (
                    Finding::unknown(TOPIC, format_args!("{base} is a JupyterHub of an unknown version, {shown}"), "2.0 or newer is needed"),
                    true,
                ),
                Some(number) if number < OLDEST => {
                    none(format!("{base} is JupyterHub {shown}, whose tokens have no scopes"), "Upgrade the hub to 2.0 or newer".to_owned())
                }
                Some(number) if number < OLDEST_FOR_KEYS && keys_on => (
                    Finding::warning(
                        TOPIC,
                        format_args!("{base} is JupyterHub {shown}, which cannot narrow the token of a login by key to a server"),
                        "Upgrade the hub to 3.0 or newer",
                    ),
                    true,
                ),
                Some(_) => (Finding::fine(TOPIC, format_args!("JupyterHub {shown} answers at {base}")), true),
            }
        }
        (301 | 302 | 303 | 307 | 308, _) => {
            let target = answer.header("location").unwrap_or_default();
            let remedy = match address_of(target, hub) {
                Some(url) if url != base => format!("Set in config.toml: url = \"{url}\""),
                _ => "Set hub.url in config.toml to the address that users open in their browser, without /hub and what follows".to_owned(),
            };
            none(format!("{base}/hub/api/ is redirected to {target}, which is not followed: tokens go nowhere else"), remedy)
        }
        (502..=504, _) => none(
            format!("the proxy at {base} answers, the hub behind it does not seem to (status {})", answer.status),
            "See whether the hub runs, and its log".to_owned(),
        ),
        (404, _) => none(
            format!("there is no JupyterHub at {base} (status 404 for {base}/hub/api/)"),
            match hub.path() {
                "" => "Add the hub's base path to hub.url (c.JupyterHub.base_url), as in https://hub.example.org/jupyter: what \
                       stands before /hub when you are signed in"
                    .to_owned(),
                path => format!(
                    "Correct the base path {path} in hub.url (c.JupyterHub.base_url): what stands before /hub when you are signed in"
                ),
            },
        ),
        (status, _) => none(
            format!("what answers at {base}/hub/api/ is not a JupyterHub (status {status})"),
            "Set hub.url to the address that users open in their browser, with its base path".to_owned(),
        ),
    }
}

/// The hub's address, if the target of a redirect tells it. A JupyterHub that is asked outside of
/// its base path redirects to `BASE/hub` and the path that it was asked for.
///
/// Never suggests another host, which would receive tokens. Nor the same host without TLS: over
/// plain http anybody on the way can forge the redirect.
fn address_of(location: &str, asked: &HubUrl) -> Option<String> {
    let (scheme, rest) = asked.base().split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // After two slashes the name of another host follows.
    let target = if location.starts_with('/') && !location.starts_with("//") {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let base = match target.strip_suffix(&format!("/hub{path}/hub/api/")) {
        Some(base) => base,
        None => target.split_once("/hub/api")?.0,
    };
    let found = HubUrl::parse(base).ok()?;
    let is_safe = found.host() == asked.host() && (found.is_https() || !asked.is_https());
    is_safe.then(|| found.base().to_owned())
}

/// The first two numbers of a version such as `5.2.1` or `4.0.0b1`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..digits).and_then(|digits| digits.parse().ok())
    });
    Some((parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Warns if tokens travel without TLS.
fn in_the_clear(hub: &HubUrl, addresses: &[IpAddr]) -> Option<Finding> {
    let private = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    if hub.is_https() {
        return None;
    }
    let what = "tokens go to it unencrypted (http)";
    Some(if addresses.iter().all(private) {
        Finding::info(
            TOPIC,
            format_args!("{what}, within a private network"),
            "Use https:// where others can listen on it",
        )
    } else {
        Finding::warning(TOPIC, what, "Set hub.url to its https:// address")
    })
}

/// Compares this host's clock with the hub's.
fn clock(date: &str, now: i64) -> Option<Finding> {
    let off = now - seconds(date)?;
    (off.abs() > MAX_SKEW).then(|| {
        Finding::warning(
            TOPIC,
            format_args!(
                "this host's clock is {} s {} the hub's: certificates and keys may count as expired, or as not valid yet",
                off.abs(),
                if off > 0 { "ahead of" } else { "behind" }
            ),
            "timedatectl set-ntp true, here and on the hub",
        )
    })
}

/// A finding for a later request to the hub that failed.
pub fn no_answer(topic: &str, error: &HttpError) -> Finding {
    Finding::unknown(
        topic,
        format_args!("the hub did not answer as it should: {error}"),
        "Try again; the hub's log may say why",
    )
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
