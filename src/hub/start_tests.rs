//! Starting a server, against scripted hubs: what each answer leads to.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::fake::{Fake, answer, events, hub_error, send};
use super::*;
use std::net::TcpStream;
use std::sync::Arc;

const POST: &str = "POST /base/hub/api/users/alice/server";
const PROGRESS: &str = "GET /base/hub/api/users/alice/server/progress";
const USER: &str = "GET /base/hub/api/user";
const READY: &str = r#"{"progress":100,"ready":true,"message":"Server ready at /user/alice/"}"#;

fn user(server: &str) -> String {
    let servers = if server.is_empty() { String::new() } else { format!("\"\":{server}") };
    answer(
        200,
        "",
        &format!(
            r#"{{"kind":"user","name":"alice","scopes":["access:servers!user=alice","read:servers!user=alice"],"servers":{{{servers}}}}}"#
        ),
    )
}

/// A hub that answers by the request line and how often it has come before.
fn hub(script: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Fake {
    Fake::new(move |stream: &mut TcpStream, head, before| {
        let line = head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
        send(stream, script(&line, before).as_bytes());
    })
}

struct Outcome {
    result: Result<(), StartError>,
    shown: Vec<Progress>,
    took: Duration,
}

fn start_within(fake: &Fake, seconds: u64) -> Outcome {
    let http = Http::new(&fake.base, None).unwrap();
    let cancel = AtomicBool::new(false);
    let start = Start { user: "alice", server: "", timeout: Duration::from_secs(seconds), cancel: &cancel };
    let mut shown = Vec::new();
    let began = Instant::now();
    let result = ensure_running(&http, &Token::parse("s3cret").unwrap(), start, &mut |progress| {
        shown.push(progress.clone());
        ControlFlow::Continue(())
    });
    if let Err(error) = &result {
        assert_eq!(error.for_user("https://hub/hub/home").lines().count(), 2);
        assert_eq!(error.for_log().lines().count(), 1);
    }
    Outcome { result, shown, took: began.elapsed() }
}

fn start(fake: &Fake) -> Outcome {
    start_within(fake, 20)
}

#[test]
fn already_running() {
    let fake = hub(|_, _| hub_error(400, "", "alice is already running"));
    assert_eq!(start(&fake).result, Ok(()));
    assert_eq!(fake.lines(), [POST]);
    let head = fake.requests().pop().unwrap().to_ascii_lowercase();
    assert!(head.contains("authorization: token s3cret"), "{head}");
    assert!(head.contains("content-length: 0"), "a body would be new options: {head}");
}

#[test]
fn named_server() {
    let fake = hub(|_, _| hub_error(400, "", "alice:gpu is already running"));
    let http = Http::new(&fake.base, None).unwrap();
    let cancel = AtomicBool::new(false);
    let start = Start { user: "alice", server: "gpu", timeout: Duration::from_secs(5), cancel: &cancel };
    let token = Token::parse("s3cret").unwrap();
    assert_eq!(ensure_running(&http, &token, start, &mut |_| ControlFlow::Continue(())), Ok(()));
    assert_eq!(fake.lines(), ["POST /base/hub/api/users/alice/servers/gpu"]);
}

#[test]
fn slow_start_shows_the_progress() {
    let fake = hub(|line, _| match line {
        POST => answer(202, "", ""),
        _ => events(&[
            r#"{"progress":0,"message":"Server requested"}"#,
            r#"{"progress":50,"message":"Pulling\u0007 image"}"#,
            READY,
        ]),
    });
    let outcome = start(&fake);
    assert_eq!(outcome.result, Ok(()));
    let shown = |percent, message: &str| Progress { percent: Some(percent), message: message.to_owned() };
    assert_eq!(outcome.shown, [shown(0, "Server requested"), shown(50, "Pulling image")]);
}

/// The hub keeps the POST open: its progress is shown meanwhile, and the answer still decides.
#[test]
fn progress_while_the_hub_thinks() {
    let fake = hub(|line, _| match line {
        POST => {
            thread::sleep(Duration::from_millis(1500));
            answer(201, "", "")
        }
        _ => events(&[r#"{"progress":20,"message":"working"}"#, READY]),
    });
    let outcome = start(&fake);
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.took >= Duration::from_millis(1500), "{:?}", outcome.took);
    assert_eq!(fake.lines(), [POST, PROGRESS, PROGRESS]);
    // The verdict on an earlier attempt, read before the POST arrived, does not count.
    let fake = hub(|line, before| match (line, before) {
        (POST, _) => {
            thread::sleep(Duration::from_secs(1));
            answer(201, "", "")
        }
        (_, 0) => events(&[r#"{"failed":true,"message":"Spawn failed: yesterday"}"#]),
        _ => events(&[READY]),
    });
    assert_eq!(start(&fake).result, Ok(()));
}

#[test]
fn a_false_201() {
    let fake = hub(|line, _| match line {
        POST => answer(201, "", ""),
        _ => events(&[r#"{"progress":100,"failed":true,"message":"Spawn failed: out of \u001b[1mGPUs"}"#]),
    });
    assert_eq!(start(&fake).result, Err(StartError::Failed("out of GPUs".to_owned())));
    assert_eq!(fake.lines(), [POST, PROGRESS]);
}

/// As a real hub does for a server that exits at once.
#[test]
fn a_500_without_a_reason_has_one_later() {
    let fake = hub(|line, _| match line {
        POST => hub_error(500, "", "Internal Server Error"),
        _ => events(&[
            r#"{"progress":10,"message":"Server requested"}"#,
            r#"{"progress":100,"failed":true,"message":"Spawn failed: did not respond in 20 seconds"}"#,
        ]),
    });
    assert_eq!(start(&fake).result, Err(StartError::Failed("did not respond in 20 seconds".to_owned())));
    let fake = hub(|line, _| match line {
        POST => hub_error(500, "", "Internal Server Error"),
        USER => user(""),
        _ => hub_error(400, "", "alice is not starting..."),
    });
    assert_eq!(start(&fake).result, Err(StartError::Failed("Internal Server Error".to_owned())));
}

#[test]
fn refusals_are_final() {
    for (reply, expected) in [
        (
            hub_error(400, "", "User alice already has the maximum of 1 named servers."),
            StartError::Rejected("User alice already has the maximum of 1 named servers.".to_owned()),
        ),
        (
            hub_error(403, "", "Action is not authorized"),
            StartError::NotAllowed("Action is not authorized".to_owned()),
        ),
        (
            hub_error(404, "", "No access to resources"),
            StartError::NotFound("No access to resources".to_owned()),
        ),
        (
            hub_error(429, "", "Active user limit exceeded."),
            StartError::Full("Active user limit exceeded.".to_owned()),
        ),
        (
            hub_error(429, "Retry-After: 60\r\n", "Too many users."),
            StartError::Full("Too many users.".to_owned()),
        ),
        (hub_error(500, "", "Error in Spawner"), StartError::Failed("Error in Spawner".to_owned())),
        (hub_error(503, "", "quota used up"), StartError::Failed("quota used up".to_owned())),
    ] {
        let fake = hub(move |_, _| reply.clone());
        let outcome = start(&fake);
        assert_eq!(outcome.result, Err(expected));
        assert_eq!(fake.lines(), [POST], "asked once");
        assert!(outcome.took < Duration::from_secs(2));
    }
    let fake = Fake::saying(302, "Location: https://other.example/\r\n", "");
    assert!(
        matches!(start(&fake).result, Err(StartError::Unavailable(_, log)) if log.contains("https://other.example/"))
    );
}

#[test]
fn waits_as_long_as_the_hub_asks() {
    let fake = hub(|line, before| match (line, before) {
        (POST, 0) => hub_error(429, "Retry-After: 2\r\n", "Too many users trying to log in right now."),
        (POST, _) => answer(201, "", ""),
        _ => events(&[READY]),
    });
    let outcome = start(&fake);
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.took >= Duration::from_secs(2), "{:?}", outcome.took);
    let message = "The hub is starting too many servers; next attempt in 2 s";
    assert_eq!(outcome.shown, [Progress { percent: None, message: message.to_owned() }]);
}

#[test]
fn waits_for_a_stopping_server() {
    let fake = hub(|line, before| match (line, before) {
        (POST, 0 | 1) => hub_error(400, "", "alice is pending stop"),
        (POST, _) => answer(201, "", ""),
        _ => events(&[READY]),
    });
    let outcome = start(&fake);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.shown.len(), 1);
    assert!(outcome.shown[0].message.contains("still stopping"));
    let stuck = hub(|_, _| hub_error(400, "", "alice is pending stop"));
    let outcome = start_within(&stuck, 2);
    assert!(matches!(outcome.result, Err(StartError::TimedOut(..))));
    assert!(outcome.took < Duration::from_millis(2600), "{:?}", outcome.took);
}

#[test]
fn restarting_hub_is_sat_out() {
    let fake = hub(|line, before| match (line, before) {
        (POST, 0) => answer(503, "", "<html>Service Unavailable</html>"),
        (POST, 1) => String::new(),
        (POST, _) => answer(202, "", ""),
        (PROGRESS, _) => events(&[READY]),
        _ => answer(500, "", ""),
    });
    let outcome = start(&fake);
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.took >= Duration::from_secs(3), "{:?}", outcome.took);
}

#[test]
fn dropped_streams() {
    // The stream breaks, the server is still starting, it breaks again, and the model says ready.
    let fake = hub(|line, before| match (line, before) {
        (POST, _) => answer(202, "", ""),
        (PROGRESS, _) => events(&[r#"{"progress":10,"message":"a"}"#]),
        (USER, 0) => user(r#"{"ready":false,"pending":"spawn"}"#),
        (USER, _) => user(r#"{"ready":true,"pending":null}"#),
        _ => String::new(),
    });
    assert_eq!(start(&fake).result, Ok(()));
    assert_eq!(fake.lines(), [POST, PROGRESS, USER, PROGRESS, USER]);
    // The hub restarted and has forgotten the start: one retry, then it counts as the server's
    // failure.
    let fake = hub(|line, _| match line {
        POST => answer(202, "", ""),
        PROGRESS => hub_error(400, "", "alice is not starting..."),
        _ => user(""),
    });
    assert!(matches!(start(&fake).result, Err(StartError::Failed(_))));
    assert_eq!(fake.lines().iter().filter(|line| *line == POST).count(), 2);
    // The token was revoked meanwhile.
    let fake = hub(|line, _| match line {
        POST => answer(202, "", ""),
        _ => hub_error(403, "", "Forbidden"),
    });
    assert!(matches!(start(&fake).result, Err(StartError::NotAllowed(_))));
}

/// A token that may start but not read the server.
#[test]
fn blind() {
    let fake = hub(|line, before| match (line, before) {
        (POST, 0 | 1) => answer(202, "", ""),
        (POST, _) => hub_error(400, "", "alice is already running"),
        (USER, _) => {
            answer(200, "", r#"{"kind":"user","name":"alice","scopes":["access:servers!user=alice"]}"#)
        }
        _ => hub_error(404, "", "No access"),
    });
    assert_eq!(start(&fake).result, Ok(()));
}

#[test]
fn gives_up_within_half_a_second() {
    let hang = || {
        Fake::new(|stream, head, _| {
            if head.starts_with("POST") {
                thread::sleep(Duration::from_secs(9));
            }
            send(stream, b"HTTP/1.1 200 X\r\n\r\n\n\ndata: {\"progress\":1,\"message\":\"m\"}\n\n");
            thread::sleep(Duration::from_secs(9));
        })
    };
    let outcome = start_within(&hang(), 2);
    assert_eq!(outcome.result, Err(StartError::TimedOut(Duration::from_secs(2), "m".to_owned())));
    assert!(outcome.took < Duration::from_millis(2500), "{:?}", outcome.took);

    let fake = hang();
    let http = Http::new(&fake.base, None).unwrap();
    let token = Token::parse("s3cret").unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        flag.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let start = Start { user: "alice", server: "", timeout: Duration::from_secs(20), cancel: &cancel };
    assert_eq!(
        ensure_running(&http, &token, start, &mut |_| ControlFlow::Continue(())),
        Err(StartError::Cancelled)
    );
    assert!(canceller.join().unwrap().elapsed() < Duration::from_millis(500));

    cancel.store(false, Ordering::Relaxed);
    assert_eq!(
        ensure_running(&http, &token, start, &mut |_| ControlFlow::Break(())),
        Err(StartError::Cancelled)
    );
}
