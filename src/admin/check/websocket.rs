//! Checks that WebSockets pass on the way to the hub, because terminals and commands use them.
//!
//! The hub itself has no WebSockets, and a user's server has them only for those with a token.
//! Without a token it still shows whether the hub's usual proxy, configurable-http-proxy, sees the
//! request for an upgrade: if it does, the refusal keeps `Connection: Upgrade`, and it drops a POST
//! with such a request without an answer. (http-proxy, lib/http-proxy/passes/ws-incoming.js.) A
//! proxy in front of it that strips the header makes both of them plain requests.

use super::Finding;
use super::answer::Answer;
use super::probe::{NoAnswer, Probe};
use common::LoginName;
use host::secret::Token;
use std::time::Duration;

const TOPIC: &str = "hub";
/// How long each answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The request for an upgrade, from RFC 6455, section 1.2. The key is no secret.
const WISH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The path of configurable-http-proxy's health check, which doesn't depend on the hub's base path.
const HEALTH: &str = "/_chp_healthz";
const REMEDY: &str = "Have the proxy in front of the hub pass WebSockets. nginx, in the hub's location: proxy_http_version 1.1; \
                      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";";

/// Whether WebSockets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Stripped,
    Unknown,
}

/// Finds out without a token whether WebSockets reach the hub's proxy.
pub fn without_token(probe: &Probe<'_>) -> Finding {
    let wish = probe.request("GET", "/hub/api/", WISH, None, PATIENCE);
    let verdict = match by_get(&wish) {
        Verdict::Unknown => {
            let post =
                probe.request("POST", "/hub/api/", &format!("{WISH}Content-Length: 0\r\n"), None, PATIENCE);
            let health = || probe.get_at_root(HEALTH, PATIENCE);
            by_post(&post, || health().is_ok_and(|answer| is_healthy(&answer)))
        }
        known => known,
    };
    match verdict {
        Verdict::Pass => Finding::fine(TOPIC, "WebSockets reach its proxy"),
        Verdict::Stripped => Finding::warning(
            TOPIC,
            "WebSockets do not seem to pass: the hub's proxy was asked for one and took it for a plain request; without \
             them there are neither terminals nor commands",
            format_args!("{REMEDY} To be sure: jupyterhub-openssh check --user NAME, with a token of NAME's"),
        ),
        Verdict::Unknown => Finding::info(
            TOPIC,
            "whether WebSockets pass cannot be told without a token",
            "jupyterhub-openssh check --user NAME, with a token of NAME's, while that server runs",
        ),
    }
}

/// Judges the answer to a GET: configurable-http-proxy marks a refused upgrade.
fn by_get(wish: &Result<Answer, NoAnswer>) -> Verdict {
    match wish {
        Ok(answer) if answer.status == 101 => Verdict::Pass,
        Ok(answer)
            if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")) =>
        {
            Verdict::Pass
        }
        _ => Verdict::Unknown,
    }
}

/// Judges the answer to a POST, which configurable-http-proxy drops; a proxy in front of it answers
/// with 502 to 504 then. Any other answer tells something only if the hub has this proxy.
fn by_post(post: &Result<Answer, NoAnswer>, usual_proxy: impl FnOnce() -> bool) -> Verdict {
    match post {
        Err(NoAnswer::Closed) => Verdict::Pass,
        Ok(answer) if matches!(answer.status, 502..=504) => Verdict::Pass,
        Ok(_) if usual_proxy() => Verdict::Stripped,
        _ => Verdict::Unknown,
    }
}

fn is_healthy(answer: &Answer) -> bool {
    answer.status == 200
        && answer.object().is_some_and(|object| object.get("status").is_some_and(|value| value == "OK"))
}

/// Finds out with a user's token whether WebSockets reach the user's running server. Asks for the
/// WebSocket of events, which starts nothing there (jupyter_server 2).
pub fn with_token(probe: &Probe<'_>, login: &LoginName, token: &Token) -> Finding {
    let server = login.server().map(|server| format!("/{}", server.path_segment())).unwrap_or_default();
    let path = format!("/user/{}{server}/api/events/subscribe", login.user().path_segment());
    match by_token(&probe.request("GET", &path, WISH, Some(token), PATIENCE)) {
        Verdict::Pass => Finding::fine("user", "WebSockets pass to the server"),
        Verdict::Stripped => Finding::error(
            "user",
            "WebSockets do not pass: the server was asked for one and took it for a plain request. There are neither terminals \
             nor commands",
            REMEDY,
        ),
        Verdict::Unknown => Finding::info(
            "user",
            "whether WebSockets pass cannot be told from this server's answer",
            "Log in with ssh, and see",
        ),
    }
}

/// Judges the server's answer. Tornado refuses a plain request for a WebSocket with this text.
fn by_token(answer: &Result<Answer, NoAnswer>) -> Verdict {
    const REFUSAL: &[u8] = b"\"Upgrade\" only to \"WebSocket\"";
    match answer {
        Ok(answer) if answer.status == 101 => Verdict::Pass,
        Ok(answer)
            if answer.status == 426
                || (answer.status == 400
                    && answer.body.windows(REFUSAL.len()).any(|part| part == REFUSAL)) =>
        {
            Verdict::Stripped
        }
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &str, body: &str) -> Result<Answer, NoAnswer> {
        Ok(Answer::parse(format!("HTTP/1.1 {status} X\r\n{headers}\r\n{body}").as_bytes()).unwrap())
    }

    #[test]
    fn the_usual_proxy_shows_that_it_was_asked() {
        assert_eq!(by_get(&answer(200, "connection: Upgrade\r\n", "{}")), Verdict::Pass);
        assert_eq!(by_get(&answer(101, "", "")), Verdict::Pass);
        for unsure in [
            answer(200, "connection: close\r\n", "{}"),
            answer(200, "", ""),
            Err(NoAnswer::Closed),
            Err(NoAnswer::Timeout),
        ] {
            assert_eq!(by_get(&unsure), Verdict::Unknown);
        }
    }

    #[test]
    fn a_post_that_is_answered_was_stripped_of_its_wish() {
        assert_eq!(by_post(&Err(NoAnswer::Closed), || false), Verdict::Pass);
        assert_eq!(by_post(&answer(502, "", ""), || false), Verdict::Pass);
        assert_eq!(by_post(&answer(405, "", ""), || true), Verdict::Stripped);
        assert_eq!(by_post(&answer(405, "", ""), || false), Verdict::Unknown);
        assert_eq!(by_post(&Err(NoAnswer::Timeout), || true), Verdict::Unknown);
        assert!(is_healthy(&answer(200, "", "{\"status\": \"OK\"}").unwrap()));
        assert!(!is_healthy(&answer(200, "", "{\"status\": \"no\"}").unwrap()));
        assert!(!is_healthy(&answer(404, "", "{\"status\": \"OK\"}").unwrap()));
    }

    #[test]
    fn a_server_says_it_for_certain() {
        assert_eq!(by_token(&answer(101, "", "")), Verdict::Pass);
        assert_eq!(by_token(&answer(400, "", "Can \"Upgrade\" only to \"WebSocket\".")), Verdict::Stripped);
        assert_eq!(by_token(&answer(426, "", "")), Verdict::Stripped);
        for unsure in
            [answer(400, "", "bad"), answer(404, "", ""), answer(403, "", ""), Err(NoAnswer::Closed)]
        {
            assert_eq!(by_token(&unsure), Verdict::Unknown);
        }
    }
}
