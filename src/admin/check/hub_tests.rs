//! What the hub's answers, and their absence, are taken for.
#![allow(clippy::unwrap_used)]
use super::*;

fn url(text: &str) -> HubUrl {
    HubUrl::parse(text).unwrap()
}

fn answer(status: u16, headers: &str, body: &str) -> Answer {
    Answer::parse(format!("HTTP/1.1 {status} X\r\n{headers}\r\n{body}").as_bytes()).unwrap()
}

fn judged(answer: &Answer, keys_on: bool) -> (String, bool, bool) {
    let (finding, is_hub) = identity(answer, &url("https://hub.example.org"), keys_on);
    (finding.text(), finding.is_error(), is_hub)
}

#[test]
fn a_hub_is_known_by_its_version() {
    let of = |version: &str, keys_on| {
        judged(&answer(200, "", &format!("{{\"version\": \"{version}\"}}")), keys_on)
    };
    let (text, _, is_hub) = of("5.2.1", true);
    assert!(is_hub && text == "hub: JupyterHub 5.2.1 answers at https://hub.example.org", "{text}");
    assert!(of("1.5.0", false).1 && of("0.9", false).1);
    assert!(
        of("2.3.1", false).0.contains("answers at")
            && of("2.3.1", true).0.contains("cannot narrow the token")
    );
    assert!(of("3.0.0b1", true).0.contains("answers at"));
    assert!(of("latest\u{202e}", true).0.contains("unknown version"));
    let header = judged(&answer(200, "X-JupyterHub-Version: 4.1.0\r\n", ""), true);
    assert!(header.2 && header.0.contains("JupyterHub 4.1.0"));
}

#[test]
fn what_is_no_hub_is_told_with_its_remedy() {
    for (status, headers, body, what, remedy) in [
        (
            302,
            "Location: https://hub.example.org/jupyter/hub/api/\r\n",
            "",
            "is redirected",
            "url = \"https://hub.example.org/jupyter\"",
        ),
        (301, "Location: https://login.example.org/?next=x\r\n", "", "is redirected", "in their browser"),
        (
            302,
            "Location: https://evil.example/hub/api/\r\n",
            "",
            "is redirected to https://evil.example",
            "in their browser",
        ),
        (308, "", "", "is redirected", "in their browser"),
        (404, "", "<html>", "there is no JupyterHub", "base path"),
        (404, "X-JupyterHub-Version: 5.0.0\r\n", "", "there is no JupyterHub", "base path"),
        (200, "", "<html>welcome</html>", "is not a JupyterHub", "in their browser"),
        (200, "", "{\"version\": 5}", "is not a JupyterHub", "in their browser"),
        (401, "", "", "is not a JupyterHub (status 401)", "in their browser"),
        (502, "", "", "the hub behind it does not seem to (status 502)", "its log"),
    ] {
        let (text, is_error, is_hub) = judged(&answer(status, headers, body), true);
        assert!(is_error && !is_hub && text.contains(what) && text.contains(remedy), "{status}: {text}");
    }
}

#[test]
fn a_base_path_that_is_there_is_not_to_be_added() {
    let text = |hub: &str| identity(&answer(404, "", ""), &url(hub), false).0.text();
    assert!(text("https://h").contains("Add the hub's base path"));
    assert!(text("https://h/jupyter").contains("Correct the base path /jupyter in hub.url"));
}

#[test]
fn a_redirect_may_tell_the_address() {
    for (asked, location, expected) in [
        ("https://h", "/jupyter/hub/hub/api/", Some("https://h/jupyter")),
        ("https://h:8443/jupyter", "/hub/jupyter/hub/api/", Some("https://h:8443")),
        ("http://h", "https://h/hub/api/", Some("https://h")),
        ("http://h:8000", "https://H:8443/x/hub/api/", Some("https://h:8443/x")),
        // Another host, or without TLS.
        ("http://h", "https://evil.example/hub/api/", None),
        ("https://h", "https://h.evil.example/hub/api/", None),
        ("https://h", "http://h/hub/api/", None),
        ("https://h", "/jupyter/hub/api/", Some("https://h/jupyter")),
        ("https://h", "https://login.example.org/?next=/hub/api/", None),
        ("https://h", "//evil/hub/api/", None),
        ("https://h", "", None),
    ] {
        assert_eq!(address_of(location, &url(asked)).as_deref(), expected, "{location}");
    }
}

#[test]
fn faults_of_tls_are_told_apart() {
    const START: &str = "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl/statem/statem_clnt.c:1889:";
    for (why, what, remedy) in [
        ("(certificate has expired)", "has expired", "Renew"),
        ("(certificate is not yet valid)", "not valid yet", "timedatectl"),
        ("(hostname mismatch)", "another name than hub.example.org", "subjectAltName"),
        ("(IP address mismatch)", "another name", "subjectAltName"),
        ("(self-signed certificate)", "does not trust", "hub.ca_file"),
        ("(self signed certificate in certificate chain)", "does not trust", "update-ca-certificates"),
        ("(unable to get local issuer certificate)", "does not trust", "hub.ca_file"),
        ("wrong version number", "does not speak TLS, and hub.url says https", "scheme and port"),
        (
            "(unsuitable certificate purpose\x1b[2J)",
            "TLS fails: certificate verify failed (unsuitable certificate purpose). ",
            "openssl s_client -connect hub.example.org:443 -servername",
        ),
    ] {
        let text = tls(&format!("{START} {why}"), &url("https://hub.example.org"), None).text();
        assert!(text.contains(what) && text.contains(remedy) && !text.contains('\x1b'), "{text}");
        // The place in OpenSSL's source is left out.
        assert!(!text.contains("statem"), "{text}");
    }
    assert_eq!(reason("the handshake\nfailed: x"), "the handshake failed: x");
    let address = tls("x", &url("https://[2001:db8::1]:8443"), None).text();
    assert!(address.ends_with("openssl s_client -connect [2001:db8::1]:8443 </dev/null"), "{address}");
    let named =
        tls("(unable to get local issuer certificate)", &url("https://h"), Some(Path::new("/etc/ca.pem")))
            .text();
    assert!(named.contains("into /etc/ca.pem (hub.ca_file)"), "{named}");
}

#[test]
fn what_keeps_answers_away_is_told_apart() {
    let of = |failure, speaks| {
        unreachable(&failure, &url("https://hub.example.org:8443"), None, |_| speaks).text()
    };
    let text = |failure| of(failure, Speaks::Other);
    assert!(
        text(NoAnswer::Resolve("Name or service not known".into())).contains("getent ahosts hub.example.org")
    );
    assert!(
        text(NoAnswer::Connect("Connection refused (os error 111)".into()))
            .contains("port 8443: Connection refused")
    );
    assert!(text(NoAnswer::Timeout).contains("within 4 s"));
    assert!(text(NoAnswer::Closed).contains("with its scheme and port"));
    assert!(text(NoAnswer::NotHttp).contains("does not speak HTTP"));
    // Only after these failures the port is asked which protocol it speaks.
    for failure in [NoAnswer::Closed, NoAnswer::NotHttp, NoAnswer::Tls("wrong version number".into())] {
        assert!(of(failure, Speaks::Ssh("SSH-2.0-x".into())).contains("is an SSH server (SSH-2.0-x)"));
    }
    assert!(of(NoAnswer::Timeout, Speaks::Http).contains("within 4 s"));
    assert!(of(NoAnswer::Tls("(certificate has expired)".into()), Speaks::Http).contains("has expired"));
}

#[test]
fn tokens_in_the_clear_and_clocks() {
    let plain = url("http://hub.example.org");
    let at = |text: &str| vec![text.parse().unwrap()];
    assert_eq!(in_the_clear(&url("https://hub.example.org"), &at("192.0.2.1")), None);
    assert_eq!(
        in_the_clear(&plain, &at("192.0.2.1")).unwrap().severity,
        super::super::finding::Severity::Warning
    );
    for private in ["10.1.2.3", "127.0.0.1", "192.168.1.1", "::1", "fd00::1"] {
        assert_eq!(
            in_the_clear(&plain, &at(private)).unwrap().severity,
            super::super::finding::Severity::Info
        );
    }
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!((clock(DATE, 784_111_777), clock(DATE, 784_111_837), clock("now", 0)), (None, None, None));
    assert!(clock(DATE, 784_111_838).unwrap().text().contains("61 s ahead of"));
    assert!(clock(DATE, 784_111_000).unwrap().text().contains("777 s behind"));
}
