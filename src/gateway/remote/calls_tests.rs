//! Making a terminal against scripted hubs: when is the server started, and when is it not?
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::access::server_token::ServerToken;
use common::LoginName;
use host::config::Config;
use host::counters::Meter;
use host::secret::Token;
use hub::fake::{Fake, answer, events, hub_error, send};
use hub::http::new_http;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const USER: &str = "GET /base/hub/api/user";
const POST: &str = "POST /base/user/alice/api/terminals";
const POST_GPU: &str = "POST /base/user/alice/gpu/api/terminals";
const API: &str = "GET /base/user/alice/api";
const START: &str = "POST /base/hub/api/users/alice/server";
const START_GPU: &str = "POST /base/hub/api/users/alice/servers/gpu";
const SCOPES: &str = r#"["access:servers!user=alice","servers!user=alice","read:servers!user=alice"]"#;
/// What a hub says in the place of a server that isn't running.
const HUBS_PAGE: &str =
    r#"<!DOCTYPE HTML><link rel="stylesheet" href="/base/hub/static/css/style.min.css"/>"#;
/// Jupyter's, for what it doesn't know.
const JUPYTERS_404: &str = "<!DOCTYPE HTML><title>Jupyter Server</title>404 : Not Found";

fn made() -> String {
    answer(200, "", r#"{"name": "7"}"#)
}

fn version() -> String {
    answer(200, "", r#"{"version": "2.21.1"}"#)
}

fn user(scopes: &str, ready: &[&str]) -> String {
    let servers: Vec<String> =
        ready.iter().map(|name| format!(r#""{name}":{{"ready":true,"pending":null}}"#)).collect();
    let servers = servers.join(",");
    let model = format!(r#"{{"kind":"user","name":"alice","scopes":{scopes},"servers":{{{servers}}}}}"#);
    answer(200, "", &model)
}

/// A hub that answers a request line, and is told whether a server has been started by now.
fn hub(script: impl Fn(&str, bool) -> String + Send + Sync + 'static) -> Fake {
    let started = AtomicBool::new(false);
    Fake::new(move |stream: &mut TcpStream, head, _| {
        let line = head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
        let said = if line.ends_with("/progress") {
            events(&[r#"{"progress":100,"ready":true,"message":"up"}"#])
        } else {
            script(&line, started.load(Ordering::SeqCst))
        };
        if line == START || line == START_GPU {
            started.store(true, Ordering::SeqCst);
        }
        send(stream, said.as_bytes());
    })
}

/// At the login the hub has said that the server is on its own host.
fn make_terminal(fake: &Fake, login: &str) -> Result<String, NoTerminal> {
    make_terminal_with(fake, login, "", Some("/base/user/alice/"))
}

fn make_terminal_with(
    fake: &Fake,
    login: &str,
    settings: &str,
    address: Option<&str>,
) -> Result<String, NoTerminal> {
    let text = format!("[hub]\nurl = \"{}\"\n{settings}", fake.base.trim_end_matches('/'));
    let config = Config::from_str(&text, Path::new("config.toml")).unwrap();
    let hub = config.hub_url().unwrap().clone();
    let http = new_http(&config, &hub).unwrap();
    let token = Token::parse("s3cret").unwrap();
    let login = LoginName::parse(login).unwrap();
    let access = Access::new(config, hub, login, (token, ServerToken::own()), http.clone(), Meter::off());
    access.heed(address);
    let made =
        make(&http, &access, Bodies { body: r#"{"a":1}"#, plain: "{}" }, &Cancel::default(), &mut |_| ());
    if let Err(error) = &made {
        assert_eq!((error.for_user.lines().count(), error.for_log.lines().count()), (2, 1), "{error:?}");
    }
    made.map(|name| name.as_str().to_owned())
}

#[test]
fn a_server_that_runs_is_asked_for_nothing_else() {
    let fake = hub(|_, _| made());
    assert_eq!(make_terminal(&fake, "alice").unwrap(), "7");
    assert_eq!(fake.lines(), [POST]);
}

#[test]
fn where_a_server_is_is_asked_until_the_hub_says_it() {
    let up = user(SCOPES, &[""]).replace("true,", r#"true,"url":"/base/user/alice/","#);
    let up_ = up.clone();
    let fake = hub(move |line, _| if line == USER { up_.clone() } else { made() });
    assert_eq!(make_terminal_with(&fake, "alice", "", None).unwrap(), "7");
    assert_eq!(fake.lines(), [USER, POST]);
    let fake = hub(move |line, started| match (line, started) {
        (USER, false) => user(SCOPES, &[]),
        (USER, true) => up.clone(),
        (POST, false) => answer(503, "", ""),
        (START, _) => answer(201, "", ""),
        _ => made(),
    });
    assert_eq!(make_terminal_with(&fake, "alice", "", None).unwrap(), "7");
    assert_eq!(fake.lines()[..3], [USER, POST, START]);
    assert_eq!(fake.lines()[fake.lines().len() - 2..], [USER, POST]);
}

#[test]
fn a_token_is_not_sent_where_the_hub_is_not() {
    let fake = hub(|_, _| made());
    for address in ["http://127.0.0.1:1/base/user/alice/", "http://elsewhere.example.org/", "//x/"] {
        let error = make_terminal_with(&fake, "alice", "", Some(address)).unwrap_err();
        assert!(error.for_log.contains("no token is sent there. Set hub.url to"), "{}", error.for_log);
    }
    assert_eq!(fake.lines(), Vec::<String>::new());
}

#[test]
fn what_the_hub_and_its_proxy_say_of_a_stopped_server_starts_it() {
    let to_hub = answer(302, "Location: /base/hub/user/alice/api/terminals\r\n", "");
    // 403 since JupyterHub 4.0, 405 before.
    for said in [answer(403, "", HUBS_PAGE), answer(405, "", HUBS_PAGE), answer(503, "", ""), to_hub] {
        let fake = hub(move |line, started| match (line, started) {
            (POST, false) => said.clone(),
            (POST, true) => made(),
            (START, _) => answer(201, "", ""),
            _ => hub_error(404, "", "unexpected"),
        });
        assert_eq!(make_terminal(&fake, "alice").unwrap(), "7");
        assert_eq!(fake.lines().iter().filter(|line| *line == START).count(), 1);
    }
}

#[test]
fn pages_that_may_be_anybodys_are_judged_by_the_hub() {
    for said in [
        answer(403, "", "<p>no"),
        answer(405, "", "<p>no"),
        answer(404, "", ""),
        answer(302, "Location: /x\r\n", ""),
    ] {
        let fake = hub(move |line, started| match (line, started) {
            (POST, false) => said.clone(),
            (POST, true) => made(),
            (USER, _) => user(SCOPES, &[]),
            (START, _) => answer(201, "", ""),
            _ => hub_error(404, "", "unexpected"),
        });
        assert_eq!(make_terminal(&fake, "alice").unwrap(), "7");
        assert_eq!(fake.lines()[..3], [POST, USER, START]);
    }
}

/// The proxy passes what is for gpu to the default server, whose 404 says nothing about gpu.
#[test]
fn a_named_server_is_started_while_the_default_one_runs() {
    let fake = hub(|line, started| match (line, started) {
        (POST_GPU, false) => answer(404, "", JUPYTERS_404),
        (POST_GPU, true) => made(),
        (USER, _) => user(SCOPES, &[""]),
        (START_GPU, _) => answer(201, "", ""),
        _ => hub_error(404, "", "unexpected"),
    });
    assert_eq!(make_terminal(&fake, "alice+gpu").unwrap(), "7");
    assert_eq!(fake.lines()[..3], [POST_GPU, USER, START_GPU]);
}

#[test]
fn a_hub_without_named_servers_says_so() {
    let fake = hub(|line, _| match line {
        POST_GPU => answer(404, "", JUPYTERS_404),
        USER => user(SCOPES, &[""]),
        START_GPU => hub_error(400, "", "Named servers are not enabled."),
        _ => hub_error(404, "", "unexpected"),
    });
    let error = make_terminal(&fake, "alice+gpu").unwrap_err();
    assert!(error.for_user.starts_with("The hub has no server \"gpu\" for you"), "{error:?}");
    assert!(error.for_log.contains("named servers are switched off on the hub: gpu"), "{error:?}");
}

#[test]
fn a_server_that_runs_without_terminals_is_not_started() {
    let fake = hub(|line, _| match line {
        POST => answer(404, "", JUPYTERS_404),
        USER => user(SCOPES, &["", "gpu"]),
        API => version(),
        _ => hub_error(404, "", "unexpected"),
    });
    let error = make_terminal(&fake, "alice").unwrap_err();
    assert!(error.for_user.starts_with("Your server offers no terminals."), "{error:?}");
    assert!(!fake.lines().iter().any(|line| line == START));
}

/// A restart of the hub is sat out, as for a server that is known to be down.
#[test]
fn a_hub_that_does_not_answer_meanwhile_is_waited_for() {
    let fake = Fake::new(|stream, head, before| {
        let line = head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
        let said = match (line.as_str(), before) {
            (POST_GPU, 0) => answer(404, "", JUPYTERS_404),
            (POST_GPU, _) => made(),
            (START_GPU, 1) => hub_error(400, "", "alice:gpu is already running"),
            _ => answer(503, "", ""),
        };
        send(stream, said.as_bytes());
    });
    assert_eq!(make_terminal(&fake, "alice+gpu").unwrap(), "7");
}

#[test]
fn a_token_that_is_good_no_more_starts_nothing() {
    let fake = hub(|line, _| match line {
        POST => answer(403, "", r#"{"message": "Forbidden"}"#),
        _ => hub_error(403, "", "Missing or invalid credentials."),
    });
    let error = make_terminal(&fake, "alice").unwrap_err();
    assert!(error.for_user.starts_with("The hub does not accept your login any more."), "{error:?}");
    assert_eq!(fake.lines(), [POST, USER]);
}

#[test]
fn a_command_that_the_server_does_not_find_is_left_out() {
    let fake = Fake::new(|stream, head, before| {
        let line = head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
        let said = match (line.as_str(), before) {
            (POST, 0) => answer(500, "", r#"{"message": "no such file"}"#),
            (POST, _) => made(),
            _ => user(SCOPES, &[""]),
        };
        send(stream, said.as_bytes());
    });
    assert_eq!(make_terminal(&fake, "alice").unwrap(), "7");
    assert_eq!(fake.lines(), [POST, USER, POST]);
}

/// Dashboards, editors: each refuses in its own way.
#[test]
fn a_server_that_is_no_jupyter_is_told_at_once() {
    let login = answer(302, "Location: /base/user/alice/login\r\n", "");
    let page = "<html>My dashboard</html>";
    let huge = "x".repeat(3 << 20);
    for (made, api) in [
        (answer(405, "", page), answer(200, "", page)),
        (answer(405, "", page), answer(401, "", page)),
        (answer(500, "", page), answer(404, "", page)),
        (answer(200, "", page), answer(200, "", page)),
        (answer(200, "", &huge), answer(200, "", &huge)),
        (answer(404, "", page), answer(404, "", page)),
        (answer(403, "", page), answer(403, "", page)),
        (answer(403, "", r#"{"detail": "Not authenticated"}"#), answer(404, "", "{}")),
        (login.clone(), login),
    ] {
        let fake = hub(move |line, _| match line {
            POST => made.clone(),
            API => api.clone(),
            USER => user(SCOPES, &[""]),
            _ => hub_error(404, "", "unexpected"),
        });
        let began = Instant::now();
        let error = make_terminal(&fake, "alice").unwrap_err();
        assert!(error.for_user.starts_with("What runs as your server is not Jupyter"), "{error:?}");
        assert!(error.for_user.ends_with("/base/hub/home."), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{error:?}");
        assert!(!fake.lines().iter().any(|line| line == START));
        let error =
            make_terminal_with(&fake, "alice", "[homes]\nroot = \"/srv/homes\"\n", Some("/")).unwrap_err();
        assert!(error.for_user.contains("sftp and scp to this host"), "{error:?}");
    }
}

#[test]
fn a_server_that_is_no_jupyter_is_told_soon_after_its_start() {
    let fake = hub(|line, started| match (line, started) {
        (POST, false) => answer(403, "", HUBS_PAGE),
        (POST, true) => answer(404, "", "<html>Not Found"),
        (API, _) => answer(404, "", "<html>Not Found"),
        (START, _) => answer(201, "", ""),
        _ => hub_error(404, "", "unexpected"),
    });
    let began = Instant::now();
    let error = make_terminal(&fake, "alice").unwrap_err();
    assert!(error.for_user.starts_with("What runs as your server is not Jupyter"), "{error:?}");
    assert!(began.elapsed() < SETTLE, "{error:?}");
}

#[test]
fn a_jupyter_without_terminals_is_told_at_once_after_its_start() {
    let fake = hub(|line, started| match (line, started) {
        (POST, false) => answer(403, "", HUBS_PAGE),
        (POST, true) => answer(404, "", JUPYTERS_404),
        (API, _) => version(),
        (START, _) => answer(201, "", ""),
        _ => hub_error(404, "", "unexpected"),
    });
    let error = make_terminal(&fake, "alice").unwrap_err();
    assert!(error.for_user.starts_with("Your server offers no terminals."), "{error:?}");
    assert_eq!(fake.lines().iter().filter(|line| *line == POST).count(), 2);
}

/// It came up between the server's answer and the hub's.
#[test]
fn a_server_that_has_just_come_up_is_asked_again() {
    let fake = Fake::new(|stream, head, before| {
        let line = head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
        let said = match (line.as_str(), before) {
            (POST_GPU, 0) => answer(404, "", JUPYTERS_404),
            (POST_GPU, _) => made(),
            _ => user(SCOPES, &["", "gpu"]),
        };
        send(stream, said.as_bytes());
    });
    assert_eq!(make_terminal(&fake, "alice+gpu").unwrap(), "7");
    assert_eq!(fake.lines(), [POST_GPU, USER, POST_GPU]);
}

/// Neither may this token see the server, nor start it.
#[test]
fn a_token_without_rights_learns_what_to_do() {
    let narrow = r#"["access:servers!server=alice/gpu"]"#;
    let fake = hub(move |line, _| match line {
        POST_GPU => answer(404, "", JUPYTERS_404),
        USER => user(narrow, &[]),
        START_GPU => hub_error(403, "", "Action is not authorized with current scopes"),
        _ => answer(404, "", JUPYTERS_404),
    });
    let error = make_terminal(&fake, "alice+gpu").unwrap_err();
    assert!(error.for_user.starts_with("The hub does not allow this token to start the server"), "{error:?}");
}
