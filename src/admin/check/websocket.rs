//! Do WebSockets pass on the way to the hub? Terminals and commands travel in them.
//!
//! The hub itself has none, and a user's server answers only those who may enter. Without a token
//! it can be seen whether the hub's usual proxy, configurable-http-proxy, notices the wish: what it
//! handles as a WebSocket that is refused keeps `Connection: Upgrade` in the answer, and a POST
//! with such a wish it drops without an answer. (http-proxy, lib/http-proxy/passes/ws-incoming.js.)
//! A proxy before it that strips the header makes both plain requests.

use super::Finding;
use super::answer::Answer;
use super::probe::{Failure, Probe};
use common::LoginName;
use host::secret::Token;
use std::time::Duration;

const TOPIC: &str = "hub";
const PATIENCE: Duration = Duration::from_secs(2);
/// Of RFC 6455, 1.2. The key says nothing secret.
const WISH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Where configurable-http-proxy says that it is well, whatever the hub's base path is.
const HEALTH: &str = "/_chp_healthz";
const REMEDY: &str = "Have the proxy in front of the hub pass WebSockets. nginx, in the hub's location: proxy_http_version 1.1; \
                      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";";

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Stripped,
    Unknown,
}

/// Tries without a token.
pub fn without_token(probe: &Probe<'_>) -> Finding {
    let wish = probe.ask("GET", "/hub/api/", WISH, None, PATIENCE);
    let verdict = match by_get(&wish) {
        Verdict::Unknown => {
            let post =
                probe.ask("POST", "/hub/api/", &format!("{WISH}Content-Length: 0\r\n"), None, PATIENCE);
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

/// A refused WebSocket's answer, as configurable-http-proxy passes it on.
fn by_get(wish: &Result<Answer, Failure>) -> Verdict {
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

/// The drop of a POST, which a proxy in front shows as a bad gateway. That the hub answers it says
/// something only where it has the proxy that would have dropped it.
fn by_post(post: &Result<Answer, Failure>, usual_proxy: impl FnOnce() -> bool) -> Verdict {
    match post {
        Err(Failure::Closed) => Verdict::Pass,
        Ok(answer) if matches!(answer.status, 502..=504) => Verdict::Pass,
        Ok(_) if usual_proxy() => Verdict::Stripped,
        _ => Verdict::Unknown,
    }
}

fn is_healthy(answer: &Answer) -> bool {
    answer.status == 200
        && answer.object().is_some_and(|object| object.get("status").is_some_and(|value| value == "OK"))
}

/// Tries with a user's token, while that server runs. Its events are a WebSocket that costs nothing
/// (jupyter_server 2).
pub fn with_token(probe: &Probe<'_>, login: &LoginName, token: &Token) -> Finding {
    let server = login.server().map(|server| format!("/{}", server.path_segment())).unwrap_or_default();
    let path = format!("/user/{}{server}/api/events/subscribe", login.user().path_segment());
    match by_token(&probe.ask("GET", &path, WISH, Some(token), PATIENCE)) {
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

/// Tornado refuses a plain request for a WebSocket in these words.
fn by_token(answer: &Result<Answer, Failure>) -> Verdict {
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

    fn answer(status: u16, headers: &str, body: &str) -> Result<Answer, Failure> {
        Ok(Answer::parse(format!("HTTP/1.1 {status} X\r\n{headers}\r\n{body}").as_bytes()).unwrap())
    }

    #[test]
    fn the_usual_proxy_shows_that_it_was_asked() {
        assert_eq!(by_get(&answer(200, "connection: Upgrade\r\n", "{}")), Verdict::Pass);
        assert_eq!(by_get(&answer(101, "", "")), Verdict::Pass);
        for unsure in [
            answer(200, "connection: close\r\n", "{}"),
            answer(200, "", ""),
            Err(Failure::Closed),
            Err(Failure::Timeout),
        ] {
            assert_eq!(by_get(&unsure), Verdict::Unknown);
        }
    }

    #[test]
    fn a_post_that_is_answered_was_stripped_of_its_wish() {
        assert_eq!(by_post(&Err(Failure::Closed), || false), Verdict::Pass);
        assert_eq!(by_post(&answer(502, "", ""), || false), Verdict::Pass);
        assert_eq!(by_post(&answer(405, "", ""), || true), Verdict::Stripped);
        assert_eq!(by_post(&answer(405, "", ""), || false), Verdict::Unknown);
        assert_eq!(by_post(&Err(Failure::Timeout), || true), Verdict::Unknown);
        assert!(is_healthy(&answer(200, "", "{\"status\": \"OK\"}").unwrap()));
        assert!(!is_healthy(&answer(200, "", "{\"status\": \"no\"}").unwrap()));
        assert!(!is_healthy(&answer(404, "", "{\"status\": \"OK\"}").unwrap()));
    }

    #[test]
    fn a_server_says_it_for_certain() {
        assert_eq!(by_token(&answer(101, "", "")), Verdict::Pass);
        assert_eq!(by_token(&answer(400, "", "Can \"Upgrade\" only to \"WebSocket\".")), Verdict::Stripped);
        assert_eq!(by_token(&answer(426, "", "")), Verdict::Stripped);
        for unsure in [answer(400, "", "bad"), answer(404, "", ""), answer(403, "", ""), Err(Failure::Closed)]
        {
            assert_eq!(by_token(&unsure), Verdict::Unknown);
        }
    }
}
