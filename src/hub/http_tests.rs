//! Limits and faults of a single request.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::fake::{Fake, answer, drip, send};
use super::*;
use std::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);
const USER: &[&str] = &["hub", "api", "user"];

fn token() -> Token {
    Token::parse("s3cret").unwrap()
}

fn get(fake: &Fake, timeout: Duration) -> Result<Reply, HttpError> {
    Http::new(&fake.base, None).unwrap().call(&token(), Call::get(USER, timeout))
}

fn fault(fake: &Fake) -> Fault {
    get(fake, SECOND).unwrap_err().fault
}

#[test]
fn what_is_sent() {
    let fake = Fake::saying(200, "", "{}");
    assert_eq!(get(&fake, SECOND).unwrap(), Reply { status: 200, retry_after: None, body: b"{}".to_vec() });
    let head = fake.requests().pop().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /base/hub/api/user http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: token s3cret\r\n"), "{head}");
    assert!(
        head.contains(concat!("\r\nuser-agent: jupyterhub-openssh/", env!("CARGO_PKG_VERSION"), "\r\n")),
        "{head}"
    );
    assert!(!head.contains("cookie") && !head.contains("accept-encoding"), "{head}");
}

#[test]
fn paths_are_encoded_and_never_climb() {
    let http = Http::new("https://hub.example.org/base/", None).unwrap();
    let url = |path: &[&str]| http.url(path).map(|url| url.to_string());
    assert_eq!(
        url(&["hub", "a b/c?d#e%2f"]).unwrap(),
        "https://hub.example.org/base/hub/a%20b%2Fc%3Fd%23e%252f"
    );
    for step in ["", ".", "..", "%2e%2E", ".%2e"] {
        assert_eq!(url(&["hub", step, "x"]), None, "{step}");
        assert_eq!(url(&[step, "hub"]), None, "{step}");
    }
    assert_eq!(http.token_page(), "https://hub.example.org/base/hub/token");
}

/// Checks that nothing changes the path on its way; src/common/tests/vectors.rs compares `quote`
/// with JupyterHub's own.
#[test]
fn a_name_is_written_as_jupyterhub_writes_it() {
    let http = Http::new("https://hub.example.org/", None).unwrap();
    for c in (1..=0x2ff_u32).filter_map(char::from_u32) {
        let name = format!("a{c}b");
        let url = http.url(&["user", &name, "api"]).unwrap().to_string();
        assert_eq!(url, format!("https://hub.example.org/user/{}/api", quote(&name)), "{name:?}");
    }
    let url = http.url(&["user", "tag+x@example.org", "g.p-u_1"]).unwrap();
    assert_eq!(url.path(), "/user/tag%2Bx@example.org/g.p-u_1");
}

#[test]
fn bad_settings_are_named() {
    let fault = |base, ca: Option<&str>| Http::new(base, ca.map(Path::new)).unwrap_err().to_string();
    assert!(fault("hub.example.org", None).starts_with("hub.url: "));
    assert!(fault("ftp://hub.example.org/", None).starts_with("hub.url: "));
    let base = "https://hub.example.org/";
    assert!(fault(base, Some("/nonexistent")).starts_with("the CA file /nonexistent: "));
    assert!(fault(base, Some("/dev/null")).contains("no PEM certificate"));
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Fake::saying(200, "", "{}");
    for status in [301, 302, 303, 307, 308] {
        let fake = Fake::saying(status, &format!("Location: {}x?token=1\r\n", elsewhere.base), "");
        let target = format!("{}x", elsewhere.base);
        assert_eq!(fault(&fake), Fault::Redirect { status, target });
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
    let fake = Fake::saying(302, "", "");
    assert_eq!(fault(&fake), Fault::Redirect { status: 302, target: "nowhere".to_owned() });
    assert!(
        get(&fake, SECOND)
            .unwrap_err()
            .to_string()
            .starts_with("GET /base/hub/api/user: redirected (302) to nowhere")
    );
}

#[test]
fn bodies_are_bounded() {
    let exact = "x".repeat(MAX_BODY);
    assert_eq!(get(&Fake::saying(200, "", &exact), 9 * SECOND).unwrap().body.len(), MAX_BODY);
    assert_eq!(fault(&Fake::saying(200, "", &format!("{exact}x"))), Fault::TooLarge(MAX_BODY));
    // Without a length, and without an end.
    let endless = Fake::new(|stream, _, _| {
        send(stream, b"HTTP/1.1 200 X\r\n\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    assert_eq!(fault(&endless), Fault::TooLarge(MAX_BODY));
    let reply = get(&Fake::saying(500, "", &exact), SECOND).unwrap();
    assert_eq!((reply.status, reply.body.len()), (500, MAX_ERROR_BODY));
}

use std::io::Write;

/// A request returns at its deadline whatever the server does.
#[test]
fn deadlines_hold() {
    let limit = Duration::from_millis(700);
    let check = |what: &str, fake: Fake| {
        let asked = Instant::now();
        assert!(matches!(get(&fake, limit).unwrap_err().fault, Fault::Timeout(_)), "{what}");
        let took = asked.elapsed();
        assert!(took >= limit && took < limit + SECOND, "{what}: {took:?}");
    };
    check("no answer", Fake::new(|_, _, _| thread::sleep(5 * SECOND)));
    let slow = Duration::from_millis(50);
    let text = answer(200, "", &"x".repeat(1000));
    check("a dripping head", Fake::new(move |stream, _, _| drip(stream, text.as_bytes(), slow)));
    check(
        "a dripping body",
        Fake::new(move |stream, _, _| {
            send(stream, b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n");
            drip(stream, &[b'x'; 1000], slow);
        }),
    );
    check(
        "a body that stops",
        Fake::new(|stream, _, _| {
            send(stream, b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\nxxx");
            thread::sleep(5 * SECOND);
        }),
    );
}

#[test]
fn broken_connections() {
    for bytes in [
        "",
        "HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nxxx",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 X\r\nA",
    ] {
        let fake = Fake::new(move |stream, _, _| send(stream, bytes.as_bytes()));
        assert!(matches!(fault(&fake), Fault::Broken(_)), "{bytes}: {:?}", fault(&fake));
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = Http::new(&format!("http://127.0.0.1:{port}/"), None).unwrap();
    let error = http.call(&token(), Call::get(USER, SECOND)).unwrap_err();
    assert!(matches!(&error.fault, Fault::Connect(why) if why.contains("refused")), "{error}");
    assert!(error.is_passing());
    let http = Http::new("http://hub.invalid/", None).unwrap();
    let error = http.call(&token(), Call::get(USER, 5 * SECOND)).unwrap_err();
    assert!(matches!(error.fault, Fault::Resolve(_) | Fault::Timeout(_)), "{error}");
}

/// Plain HTTP where TLS is expected is a permanent TLS error, and the token is not sent.
#[test]
fn no_tls_where_tls_is_expected() {
    let fake = Fake::saying(200, "", "{}");
    let http = Http::new(&fake.base.replace("http:", "https:"), None).unwrap();
    let error = http.call(&token(), Call::get(USER, SECOND)).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("s3cret"));
    assert!(matches!(error.fault, Fault::Tls(_) | Fault::Timeout(_)), "{error}");
}
