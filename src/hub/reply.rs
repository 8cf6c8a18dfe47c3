//! Interprets the hub's answer to "start this server". Pure.
//!
//! The statuses are those of JupyterHub's `apihandlers/users.py` and `handlers/base.py`
//! (`spawn_single_user`). Only the hub's own errors are JSON (`{"status": N, "message": …}`);
//! a proxy's are not, and say nothing about the server.

use super::http::Reply;
use super::json;
use super::text::{MAX_MESSAGE, printable};
use serde::Deserialize;
use std::time::Duration;

/// How long to wait if `Retry-After` is not a number of seconds (it may be a date).
const DEFAULT_RETRY: Duration = Duration::from_secs(10);

/// An answer to `POST …/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// "Started". May be untrue after an earlier failed spawn, so it has to be confirmed.
    Started,
    /// The spawn continues in the background.
    Starting,
    /// The server was up already; the hub has just checked.
    Running,
    /// The server is stopping or being changed (`stop`, `check`, `rename`) and can be started
    /// afterwards.
    Pending(String),
    /// Too many servers are starting; the hub asks us to come back after this time.
    Later(Duration, String),
    /// The hub is full and doesn't say for how long.
    Full(String),
    /// The token may not start servers, or is no longer valid.
    NotAllowed(String),
    /// The hub does not know the user, or the token covers nothing of that user.
    NotFound(String),
    /// The hub refuses: too many named servers, named servers disabled, a bad name, a hook.
    Rejected(String),
    /// The spawn failed at once.
    Failed(String),
    /// A proxy, or a hub that is restarting: it is unknown whether the request arrived.
    Unsteady(String),
}

#[derive(Deserialize)]
struct Body {
    status: u16,
    /// `null` for a wrong token.
    message: Option<String>,
}

/// Returns the hub's message in an error, as one printable line; `None` if the error is not the
/// hub's.
#[must_use]
pub(crate) fn hub_message(reply: &Reply) -> Option<String> {
    let body: Body = json::object(&reply.body).ok()?;
    (body.status == reply.status).then(|| printable(&body.message.unwrap_or_default(), MAX_MESSAGE))
}

/// Interprets an answer.
#[must_use]
pub(crate) fn read(reply: &Reply) -> Answer {
    let message = hub_message(reply);
    let own = message.is_some();
    let text = message.unwrap_or_default();
    match reply.status {
        201 => Answer::Started,
        200..=299 => Answer::Starting,
        // In these two messages the server's name comes first, so only their ends are fixed.
        400 if text.ends_with(" is already running") => Answer::Running,
        400 => match text.rsplit_once(" is pending ") {
            Some((_, "spawn")) => Answer::Starting,
            Some((_, what)) => Answer::Pending(what.to_owned()),
            None => Answer::Rejected(text),
        },
        401 | 403 => Answer::NotAllowed(text),
        404 => Answer::NotFound(text),
        429 => match &reply.retry_after {
            Some(after) => Answer::Later(retry_after(after), text),
            None => Answer::Full(text),
        },
        // The hub's own word on a spawn is final, whatever status a spawner or hook chose. Another
        // attempt would count towards the number of failures at which the hub exits
        // (`consecutive_failure_limit`).
        500..=599 if own => Answer::Failed(text),
        408 | 500..=599 => Answer::Unsteady(format!("status {}", reply.status)),
        status if text.is_empty() => Answer::Rejected(format!("status {status}")),
        _ => Answer::Rejected(text),
    }
}

fn retry_after(text: &str) -> Duration {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds.clamp(1, 24 * 3600)),
        Err(_) => DEFAULT_RETRY,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        read(&Reply { status, retry_after: None, body: body.as_bytes().to_vec() })
    }

    fn hub(status: u16, message: &str) -> Answer {
        answer(status, &serde_json::json!({"status": status, "message": message}).to_string())
    }

    #[test]
    fn each_status() {
        assert_eq!(answer(201, ""), Answer::Started);
        assert_eq!(answer(202, ""), Answer::Starting);
        assert_eq!(answer(200, "<html>"), Answer::Starting);
        assert_eq!(hub(400, "alice is already running"), Answer::Running);
        assert_eq!(hub(400, "alice:gpu is pending stop"), Answer::Pending("stop".to_owned()));
        assert_eq!(hub(400, "alice is pending spawn"), Answer::Starting);
        let limit = "User alice already has the maximum of 1 named servers.";
        assert_eq!(hub(400, limit), Answer::Rejected(limit.to_owned()));
        assert_eq!(answer(400, "alice is already running"), Answer::Rejected(String::new()));
        assert_eq!(hub(403, "no"), Answer::NotAllowed("no".to_owned()));
        assert_eq!(answer(404, "<html>"), Answer::NotFound(String::new()));
        assert_eq!(hub(409, "quota"), Answer::Rejected("quota".to_owned()));
        assert_eq!(answer(418, ""), Answer::Rejected("status 418".to_owned()));
        assert_eq!(
            hub(429, "Active user limit exceeded."),
            Answer::Full("Active user limit exceeded.".to_owned())
        );
        assert_eq!(hub(500, "Error in Spawner"), Answer::Failed("Error in Spawner".to_owned()));
        assert_eq!(hub(503, "no room"), Answer::Failed("no room".to_owned()));
        assert_eq!(answer(500, "oops"), Answer::Unsteady("status 500".to_owned()));
        assert_eq!(answer(500, "{\"status\":500,\"message\":null}"), Answer::Failed(String::new()));
        assert_eq!(answer(504, "<html>"), Answer::Unsteady("status 504".to_owned()));
        // JSON, but not the hub's.
        assert_eq!(
            answer(503, "{\"message\":\"no healthy upstream\"}"),
            Answer::Unsteady("status 503".to_owned())
        );
    }

    #[test]
    fn retry_after_is_seconds_within_reason() {
        for (text, seconds) in
            [("30", 30), ("0", 1), ("999999999999", 86400), ("Wed, 21 Oct 2026 07:28:00 GMT", 10), ("-1", 10)]
        {
            let reply = Reply { status: 429, retry_after: Some(text.to_owned()), body: Vec::new() };
            assert_eq!(read(&reply), Answer::Later(Duration::from_secs(seconds), String::new()), "{text}");
        }
    }

    #[test]
    fn messages_are_cleaned() {
        assert_eq!(hub(500, "a\x1b[2J\nb"), Answer::Failed("a b".to_owned()));
        let Answer::Failed(long) = hub(500, &"x".repeat(10_000)) else { unreachable!() };
        assert_eq!(long.chars().count(), MAX_MESSAGE);
    }
}
