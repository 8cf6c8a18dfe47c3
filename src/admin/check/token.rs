//! Follows one login through the hub: tries a token of the user's, and gets the keys from the hub
//! and the web. [`super::user`] does this host's part.

use super::Finding;
use super::answer::Answer;
use super::hub::{addresses, no_answer};
use super::probe::{NoAnswer, Probe};
use super::user::TOPIC;
use super::websocket;
use ::hub::error::{Fault, HttpError};
use ::hub::http::{Call, Http};
use ::hub::locate::locate;
use ::hub::model::{ServerState, Verified};
use ::hub::text::printable;
use ::hub::tokens::{Minted, Wanted, mint, revoke, server_scopes};
use ::hub::users::auth_state_texts;
use ::hub::verify::{VerifyError, verify};
use common::{HubUrl, LoginName};
use host::config::{Config, Source};
use host::secret::Token;
use hub_keys::{lines, url};
use server::terminado::rest::{self, CreateError, Kind};
use std::path::Path;
use std::time::Duration;

/// How long the hub and the server may take for each answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a token that is made for a check is valid if it is not revoked.
const LIFETIME: Duration = Duration::from_secs(60);

/// Checks a token for a login as a gateway does, and checks the server if it runs.
pub fn check(config: &Config, http: &Http, login: &LoginName, token: &Token) -> Vec<Finding> {
    let server = login.server().map_or("", |server| server.as_str());
    let verified = verify(http, token, login.user().as_str(), server, PATIENCE).and_then(|verified| {
        if !config.login.server_tokens {
            verified.only_the_users_own()?;
        }
        Ok(verified)
    });
    let verified = match verified {
        Ok(verified) => verified,
        Err(VerifyError::Refused(refusal)) => {
            let page = http.token_page();
            let text = refusal.for_user(login.user().as_str(), &page);
            let remedy = text.split_once('\n').map_or("", |(_, remedy)| remedy);
            return vec![Finding::error(
                TOPIC,
                format_args!("the token does not let {} in: {}", login.as_str(), refusal.for_log()),
                remedy,
            )];
        }
        Err(VerifyError::Unavailable { for_log, .. }) => {
            return vec![Finding::unknown(
                TOPIC,
                format_args!("the token could not be tried: {for_log}"),
                "See the findings under hub",
            )];
        }
    };
    let mut findings = vec![Finding::fine(TOPIC, "the token is good, and may open the server")];
    if let Err(no) = config.login.judge(login.user().as_str(), verified.groups.as_deref()) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("{} may not log in: {}", login.user(), no.for_log()),
            "Change [login] in /etc/jupyterhub-openssh/config.toml, or the user's groups at the hub",
        ));
    }
    let named = login.server().filter(|_| verified.state == ServerState::Stopped);
    let known = named.is_none_or(|name| knows(config, token, name.as_str()) != Some(false));
    let (finding, runs) = state(&verified);
    findings.push(match login.server() {
        Some(name) if !known => unknown_server(login, name.as_str()),
        _ => finding,
    });
    if let (true, Ok(hub)) = (runs, config.hub_url()) {
        let said = verified
            .address
            .or_else(|| locate(http, token, login.user().as_str(), server, PATIENCE))
            .unwrap_or_else(|| "/".to_owned());
        match place(hub, &said, config.hub().ca_file.as_deref()) {
            Ok((place, found)) => {
                findings.extend(found);
                match ForServer::of(http, login, token, verified.may_make_tokens) {
                    Ok(for_server) => {
                        findings.push(for_server.finding());
                        findings.extend(at_server(config, http, &place, login, for_server.token()));
                        for_server.give_back(http);
                    }
                    Err(why) => findings.push(Finding::unknown(
                        TOPIC,
                        format_args!("the server was not asked, as the hub made no token for it: {why}"),
                        "Try again when the hub answers",
                    )),
                }
            }
            Err(finding) => findings.push(finding),
        }
    }
    findings
}

/// The token that the server will see. As at a login, the hub makes another one for it if the given
/// one allows that.
struct ForServer<'a> {
    login: &'a LoginName,
    given: &'a Token,
    made: Result<(Minted, Wanted), String>,
}

impl<'a> ForServer<'a> {
    /// Has the hub make a token for the server.
    ///
    /// # Errors
    /// The hub failed for now. That is no reason to show the given token to the server.
    fn of(
        http: &Http,
        login: &'a LoginName,
        given: &'a Token,
        may_make_tokens: bool,
    ) -> Result<Self, String> {
        let user = login.user().as_str();
        let wanted = Wanted {
            note: format!("jupyterhub-openssh: a check, process {}", std::process::id()),
            expires_in: LIFETIME.as_secs(),
            scopes: server_scopes(user, login.server().map_or("", |server| server.as_str())),
        };
        let made = match may_make_tokens {
            false => Err("the token may make no others".to_owned()),
            true => match mint(http, given, user, &wanted, PATIENCE) {
                Ok(minted) => Ok((minted, wanted)),
                Err(error) if error.is_final() => Err(error.for_log()),
                Err(error) => return Err(error.for_log()),
            },
        };
        Ok(Self { login, given, made })
    }

    /// The token to send to the server.
    fn token(&self) -> &Token {
        match &self.made {
            Ok((Minted { token, narrow: true, .. }, _)) => token,
            _ => self.given,
        }
    }

    /// Tells which token the server sees.
    fn finding(&self) -> Finding {
        let why = match &self.made {
            Ok((Minted { narrow: true, marked: false, .. }, _)) => {
                return Finding::warning(
                    TOPIC,
                    "the server sees another token, but that one, and the server's own, log in here as well: this hub's users \
                     may not report activity",
                    "Give the hub's role \"user\" the scope users:activity!user",
                );
            }
            Ok((Minted { narrow: true, .. }, _)) => {
                return Finding::fine(TOPIC, "the server sees another token, which opens nothing else");
            }
            Ok(_) => "the hub cannot narrow tokens (JupyterHub before 3.0)",
            Err(why) => why,
        };
        Finding::info(
            TOPIC,
            format_args!("the server, and who else may use it, sees this token itself: {why}"),
            "Use JupyterHub 3.0 or newer, and tokens that have no scopes set",
        )
    }

    /// Revokes the token that was made.
    fn give_back(self, http: &Http) {
        if let Ok((Minted { id, .. }, wanted)) = self.made {
            // If this fails, the token expires soon anyway.
            let _ = revoke(http, self.given, self.login.user().as_str(), (&id, &wanted.note), PATIENCE);
        }
    }
}

/// Checks the server itself: its terminals and WebSockets.
fn at_server(config: &Config, http: &Http, place: &HubUrl, login: &LoginName, token: &Token) -> Vec<Finding> {
    let mut findings = vec![match http.at(place) {
        Ok(http) => terminals(&http, login, token),
        Err(error) => no_answer(TOPIC, &error),
    }];
    if let Ok(probe) = Probe::new(place, config.hub().ca_file.as_deref()) {
        findings.push(websocket::with_token(&probe, login, token));
    }
    findings
}

/// The address to use for a server that is at `said` by the hub's word, and a finding about it.
///
/// # Errors
/// A finding: the address is not the hub's, or has its own host, which cannot be reached.
fn place(hub: &HubUrl, said: &str, ca_file: Option<&Path>) -> Result<(HubUrl, Option<Finding>), Finding> {
    let Some(place) = hub.at_host_of(said) else {
        return Err(Finding::error(
            TOPIC,
            format_args!(
                "the hub says that the server is at {}, which is neither the host of hub.url nor beneath it with the same \
                 scheme and port: no token is sent there",
                printable(said, 200)
            ),
            format_args!("Set hub.url to the address that users open in their browser: it is {}", hub.base()),
        ));
    };
    if place.host() == hub.host() {
        return Ok((place, None));
    }
    let reached = addresses(&place).and_then(|_| {
        let probe = Probe::new(&place, ca_file).map_err(NoAnswer::Tls)?;
        probe.request("GET", "/hub/api/", "Connection: close\r\n", None, PATIENCE)
    });
    match reached {
        Ok(_) => {
            let what = format!("the server has a host name of its own, {}, which is the hub's", place.host());
            Ok((place, Some(Finding::fine(TOPIC, what))))
        }
        Err(failure) => Err(out_of_reach(&failure, &place, hub)),
    }
}

/// Explains why the server's own host doesn't answer while the hub's does.
fn out_of_reach(failure: &NoAnswer, place: &HubUrl, hub: &HubUrl) -> Finding {
    let (host, port, all) = (place.host(), place.port(), format!("*.{}", hub.host()));
    let (why, remedy) = match failure {
        NoAnswer::Resolve(why) => (
            format!("which does not resolve: {why}"),
            format!("Have {all} resolve to the hub's address, for this host too: getent ahosts {host}"),
        ),
        NoAnswer::Tls(why) => (
            format!("whose certificate does not do: {}", printable(why, 200)),
            format!(
                "Have the certificate name {all}; these it names: openssl s_client -connect {host}:{port} -servername {host} \
                 </dev/null | openssl x509 -noout -ext subjectAltName"
            ),
        ),
        NoAnswer::Connect(_) | NoAnswer::Timeout | NoAnswer::Closed | NoAnswer::NotHttp => (
            format!("where port {port} does not answer as the hub's does"),
            format!(
                "Have {all} lead to the hub's proxy, from this host too: curl -v {}/hub/api/",
                place.base()
            ),
        ),
    };
    Finding::error(TOPIC, format_args!("the server has a host name of its own, {host}, {why}"), remedy)
}

/// Asks the hub whether it knows a named server that is stopped. `None` if the hub doesn't tell.
/// A hub without named servers knows none.
fn knows(config: &Config, token: &Token, name: &str) -> Option<bool> {
    let probe = Probe::new(config.hub_url().ok()?, config.hub().ca_file.as_deref()).ok()?;
    let path = "/hub/api/user?include_stopped_servers=1";
    let answer = probe.request("GET", path, "Connection: close\r\n", Some(token), PATIENCE).ok()?;
    lists(&answer, name)
}

/// True if the hub's answer lists the named server; `None` if it doesn't tell.
fn lists(answer: &Answer, name: &str) -> Option<bool> {
    // Older hubs don't list stopped servers even if asked to.
    let release: u32 = answer.header("x-jupyterhub-version")?.split('.').next()?.parse().ok()?;
    let user = answer.object().filter(|_| answer.status == 200 && release >= 4)?;
    Some(user.get("servers")?.as_object()?.contains_key(name))
}

/// A finding for a named server that the hub doesn't know. A login asks the hub to start it; only
/// then the hub tells whether the user may have a new one.
fn unknown_server(login: &LoginName, name: &str) -> Finding {
    Finding::unknown(
        TOPIC,
        format_args!(
            "the hub knows no server {name} of {}'s: a login starts it only if the hub lets users have named servers, and one more",
            login.user()
        ),
        "See the hub's home page, which lists them under Named Servers (c.JupyterHub.allow_named_servers)",
    )
}

/// Tells what a login would do with the server. Also returns whether the server runs.
fn state(verified: &Verified) -> (Finding, bool) {
    const STARTABLE: &str = "Make a token that has the scope servers!user, or none set";
    let finding = match (&verified.state, verified.may_start) {
        (ServerState::Ready, _) => return (Finding::fine(TOPIC, "the server runs"), true),
        (ServerState::Starting, _) => Finding::fine(TOPIC, "the server is starting: a login waits for it"),
        (ServerState::Stopped, true) => Finding::fine(TOPIC, "the server is stopped: a login starts it"),
        (ServerState::Stopping | ServerState::Busy | ServerState::Unknown, true) => {
            Finding::fine(TOPIC, "the server is not known to run: a login starts it if it has to")
        }
        (ServerState::Stopped, false) => {
            Finding::error(TOPIC, "the server is stopped, and this token may not start it", STARTABLE)
        }
        (_, false) => Finding::warning(
            TOPIC,
            "the server is not known to run, and this token may not start it",
            STARTABLE,
        ),
    };
    (finding, false)
}

/// Checks that the server has terminals: without them neither shells nor commands can run in it.
fn terminals(http: &Http, login: &LoginName, token: &Token) -> Finding {
    let mut path = vec!["user", login.user().as_str()];
    path.extend(login.server().map(|server| server.as_str()));
    let ask = |rest: &[&str]| http.call(token, Call::get(&[&path, rest].concat(), PATIENCE));
    match ask(&["api", "terminals"]) {
        Ok(reply) if reply.status == 200 && is_list(&reply.body) => {
            Finding::fine(TOPIC, "the server has terminals")
        }
        Ok(reply) => match ask(&[rest::VERSION]) {
            Ok(version) => no_terminals(reply.status, rest::interpret_version(version.status, &version.body)),
            Err(HttpError { fault: Fault::Redirect { status, .. }, .. }) => {
                no_terminals(reply.status, Kind::Other(status))
            }
            Err(_) => no_terminals(reply.status, Kind::Unknown),
        },
        Err(HttpError { fault: Fault::Redirect { status, target }, .. }) => {
            redirected(http.base().as_str(), status, &target)
        }
        Err(error) => no_answer(TOPIC, &error),
    }
}

/// Explains a redirect. A server that accepts the token doesn't redirect its API unless it has its
/// own login, so another program has answered.
fn redirected(base: &str, status: u16, target: &str) -> Finding {
    let own = matches!(rest::interpret_redirect(status, base, target), CreateError::Unexpected(_));
    if own && target.starts_with(base) {
        return no_terminals(status, Kind::Other(status));
    }
    Finding::error(
        TOPIC,
        format_args!("what is meant for the server does not reach it, but is redirected to {target}"),
        "Set hub.url to the address that users open in their browser, that of the hub's proxy; if it is, see the proxy's log",
    )
}

fn is_list(body: &[u8]) -> bool {
    serde_json::from_slice::<Vec<serde_json::Value>>(body).is_ok()
}

/// Explains why the server has no terminals.
fn no_terminals(status: u16, kind: Kind) -> Finding {
    match status {
        _ if matches!(kind, Kind::Other(_)) => Finding::error(
            TOPIC,
            "what runs as the server is no Jupyter server, or wants a login of its own: neither a shell nor a command can \
             run in it",
            "Have the user start a Jupyter server; files go on where this host has the homes (homes.root)",
        ),
        404 => Finding::error(
            TOPIC,
            "the server has no terminals: neither a shell nor a command can run in it",
            "Install terminado (jupyter_server_terminals) in the image, and leave c.ServerApp.terminals_enabled on",
        ),
        403 => Finding::error(
            TOPIC,
            "the server does not accept the token that the hub accepts",
            "See its log; the JupyterHub in its image may be too old for the hub's",
        ),
        status => Finding::unknown(
            TOPIC,
            format_args!("whether the server has terminals: it answers with status {status}"),
            "The hub may believe that a server runs that has died: see its page, and its log",
        ),
    }
}

/// Gets the user's keys from the hub and the web, and reports them.
pub fn keys(config: &Config, http: &Http, service: Option<&Token>, login: &LoginName) -> Vec<Finding> {
    let user = login.user();
    let asked = config.keys.sources.iter().filter_map(|source| {
        let found = match source {
            Source::Hub => auth_state_texts(http, service?, user, &config.keys.hub_field, PATIENCE)
                .map(|texts| lines::read(texts.join("\n").as_bytes()))
                .map_err(|error| error.to_string()),
            Source::Url => url::fetch_keys(&config.keys.url.as_ref()?.for_user(user.as_str()), PATIENCE),
            Source::Home | Source::File => return None,
        };
        Some((*source, found))
    });
    asked.map(|(source, found)| told(source, found)).collect()
}

fn told(source: Source, found: Result<lines::Found, String>) -> Finding {
    match found {
        Err(why) => Finding::error(
            TOPIC,
            format_args!("the source {source} does not answer: {why}"),
            if source == Source::Hub {
                "See the findings under service"
            } else {
                "Try the address of that message from this host: curl -v ADDRESS"
            },
        ),
        Ok(lines::Found { keys, left_out: Some(why) }) => Finding::warning(
            TOPIC,
            format_args!("the source {source} has {} that count; {why}", number(keys.len())),
            "Have the user correct them there",
        ),
        Ok(lines::Found { keys, left_out: None }) => {
            Finding::fine(TOPIC, format_args!("the source {source} has {}", number(keys.len())))
        }
    }
}

fn number(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ::hub::model::Holder;

    fn verified(state: ServerState, may_start: bool) -> Verified {
        let holder = Holder::User;
        Verified {
            token_id: None,
            may_start,
            state,
            address: None,
            groups: None,
            holder,
            may_make_tokens: true,
        }
    }

    #[test]
    fn the_server_is_judged_by_what_a_login_could_do() {
        assert!(state(&verified(ServerState::Ready, false)).1);
        for (given, may_start, is_error) in [
            (ServerState::Stopped, true, false),
            (ServerState::Stopped, false, true),
            (ServerState::Unknown, false, false),
            (ServerState::Starting, false, false),
        ] {
            let (finding, runs) = state(&verified(given, may_start));
            assert!(finding.is_error() == is_error && !runs, "{finding:?}");
        }
        let base = "http://hub.example.org/";
        for target in
            ["http://hub.example.org/hub/user/alice/api/terminals", "https://hub.example.org/user/alice/\x1b"]
        {
            let elsewhere = redirected(base, 302, target);
            assert!(
                elsewhere.is_error()
                    && elsewhere.what.contains("does not reach it, but is redirected to http")
            );
        }
        let own = redirected(base, 302, "http://hub.example.org/user/alice/login");
        assert!(own.is_error() && own.what.contains("is no Jupyter server"));
        for (status, kind, is_error) in [
            (404, Kind::Jupyter, true),
            (403, Kind::Jupyter, true),
            (503, Kind::Unknown, false),
            (200, Kind::Other(200), true),
            (404, Kind::Other(404), true),
        ] {
            assert_eq!(no_terminals(status, kind).is_error(), is_error, "{status} {kind:?}");
        }
        assert!(no_terminals(405, Kind::Other(200)).text().contains("is no Jupyter server"));
        assert!(is_list(b"[]") && is_list(b"[{}]") && !is_list(b"{}") && !is_list(b"<html>"));
    }

    #[test]
    fn a_server_is_asked_where_it_is_or_not_at_all() {
        let hub = HubUrl::parse("https://hub.example.org/j").unwrap();
        let (same, said) = place(&hub, "/j/user/alice/", None).unwrap();
        assert!(same == hub && said.is_none());
        for foreign in ["http://alice.hub.example.org/", "https://elsewhere.example.org/user/alice/"] {
            let finding = place(&hub, foreign, None).unwrap_err();
            assert!(finding.is_error() && finding.text().contains("no token is sent there"), "{foreign}");
        }
        let own = hub.at_host_of("https://alice.hub.example.org/").unwrap();
        for (failure, remedy) in [
            (NoAnswer::Resolve("x".to_owned()), "Have *.hub.example.org resolve to"),
            (NoAnswer::Tls("x".to_owned()), "Have the certificate name *.hub.example.org"),
            (NoAnswer::Timeout, "Have *.hub.example.org lead to the hub's proxy"),
        ] {
            let text = out_of_reach(&failure, &own, &hub).text();
            assert!(text.contains(remedy) && text.contains("its own, alice.hub.example.org, "), "{text}");
        }
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_named_server_is_the_hubs_to_know() {
        let known = |status: u16, body: &str| {
            let text = format!("HTTP/1.1 {status} X\r\nX-JupyterHub-Version: 5.2.1\r\n\r\n{body}");
            lists(&Answer::parse(text.as_bytes()).unwrap(), "gpu")
        };
        assert_eq!(known(200, r#"{"servers": {"gpu": {"ready": false}}}"#), Some(true));
        assert_eq!(known(200, r#"{"servers": {"": {}}}"#), Some(false));
        for unsaid in [
            known(200, "{}"),
            known(200, r#"{"servers": null}"#),
            known(403, r#"{"servers": {}}"#),
            known(200, ""),
        ] {
            assert_eq!(unsaid, None);
        }
        let old =
            Answer::parse(b"HTTP/1.1 200 X\r\nX-JupyterHub-Version: 3.1.1\r\n\r\n{\"servers\": {}}").unwrap();
        assert_eq!(lists(&old, "gpu"), None);
        let text = unknown_server(&LoginName::parse("bob+gpu").unwrap(), "gpu").text();
        assert!(text.contains("no server gpu of bob's: a login starts it only if"), "{text}");
    }

    #[test]
    fn keys_from_afar() {
        assert!(told(Source::Hub, Err("no".to_owned())).text().contains("See the findings under service"));
        let one = lines::Found { keys: vec!["k".to_owned()], left_out: None };
        assert_eq!(told(Source::Url, Ok(one)).text(), "user: the source url has 1 key");
        let bad =
            lines::Found { keys: Vec::new(), left_out: Some("a line was left out: line 1: x".to_owned()) };
        assert!(told(Source::Url, Ok(bad)).text().contains("has 0 keys that count; a line was left out"));
    }
}
