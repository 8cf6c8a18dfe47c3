//! The login's question, against hubs that are down, slow, broken or strange.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::fake::{Fake, drip, hub_error, send};
use super::*;
use std::thread;
use std::time::Instant;

const ALICE: &str = r#"{"kind":"user","name":"alice","scopes":["access:servers!user=alice"],"servers":{}}"#;

fn ask(fake: &Fake) -> Result<Verified, VerifyError> {
    let http = Http::new(&fake.base, None).unwrap();
    verify(&http, &Token::parse("s3cret").unwrap(), "alice", "", Duration::from_secs(2))
}

fn log_of_outage(fake: &Fake) -> String {
    match ask(fake).unwrap_err() {
        error @ VerifyError::Unavailable { .. } => {
            assert_eq!(error.for_user("alice", "page").lines().count(), 2);
            assert_eq!(error.for_log().lines().count(), 1);
            assert!(!format!("{error:?}").contains("s3cret"));
            error.for_log()
        }
        error @ VerifyError::Refused(_) => panic!("{error:?}"),
    }
}

#[test]
fn own_token() {
    assert!(ask(&Fake::saying(200, "", ALICE)).is_ok());
}

#[test]
fn refused() {
    let forbidden = hub_error(403, "", "Missing or invalid credentials.");
    let fake = Fake::new(move |stream, _, _| send(stream, forbidden.as_bytes()));
    let error = ask(&fake).unwrap_err();
    assert_eq!(error.for_log(), "the hub refused the token with status 403: Missing or invalid credentials");
    assert!(matches!(error, VerifyError::Refused(Refusal::WrongToken { .. })));
    assert!(matches!(ask(&Fake::saying(401, "", "<html>")), Err(VerifyError::Refused(_))));
    let bob = ALICE.replace("\"alice\"", "\"bob\"");
    assert!(matches!(
        ask(&Fake::saying(200, "", &bob)),
        Err(VerifyError::Refused(Refusal::OtherUser { .. }))
    ));
}

#[test]
fn outages() {
    for status in [201, 204, 400, 404, 418, 429, 500, 502, 503, 504] {
        let log = log_of_outage(&Fake::saying(status, "", ALICE));
        assert!(log.starts_with(&format!("GET /hub/api/user: status {status}")), "{log}");
    }
    let error = hub_error(500, "", "database\nis \u{1b}[31mlocked");
    let fake = Fake::new(move |stream, _, _| send(stream, error.as_bytes()));
    assert_eq!(log_of_outage(&fake), "GET /hub/api/user: status 500: database is locked");
    assert!(log_of_outage(&Fake::saying(200, "", "<html>login</html>")).contains("not understood"));
    assert!(log_of_outage(&Fake::saying(200, "", &ALICE.repeat(20_000))).contains("longer than"));
    assert!(
        log_of_outage(&Fake::saying(302, "Location: https://evil.example/\r\n", ""))
            .contains("https://evil.example/")
    );
    assert!(log_of_outage(&Fake::new(|_, _, _| {})).contains("broke"));
}

#[test]
fn a_dripping_hub_gets_no_more_time() {
    let fake = Fake::new(|stream, _, _| {
        send(stream, b"HTTP/1.1 200 X\r\nContent-Length: 999\r\n\r\n");
        drip(stream, &[b' '; 999], Duration::from_millis(100));
    });
    let asked = Instant::now();
    assert!(log_of_outage(&fake).contains("no complete answer within 2.0 s"));
    assert!(asked.elapsed() < Duration::from_millis(2600), "{:?}", asked.elapsed());
    let asked = Instant::now();
    assert!(
        log_of_outage(&Fake::new(|_, _, _| thread::sleep(Duration::from_secs(9))))
            .contains("no complete answer")
    );
    assert!(asked.elapsed() < Duration::from_millis(2600), "{:?}", asked.elapsed());
}
