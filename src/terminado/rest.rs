//! REST calls about terminals (`jupyter_server_terminals/api_handlers.py`): what is asked, and what the answers
//! mean behind a hub. Pure; the gateway makes the calls.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Path of the terminals below the user's server, for POST and GET.
pub const TERMINALS: &str = "api/terminals";

/// Longest name of a terminal accepted, in bytes. Servers count 1, 2, 3 …
pub const MAX_NAME: usize = 64;

/// The name of a terminal: `[A-Za-z0-9_]{1,64}`, so it can stand in a path as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalName(String);

impl TerminalName {
    /// Takes a name that the server gave. `None` when it could not be used in the server's own routes (`\w+`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && !name.is_empty() && name.len() <= MAX_NAME).then(|| Self(name.to_owned()))
    }

    /// The name as it stands in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Path below the user's server of this terminal's REST resource.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("{TERMINALS}/{}", self.0)
    }

    /// Path below the user's server of this terminal's WebSocket.
    #[must_use]
    pub fn websocket(&self) -> String {
        format!("terminals/websocket/{}", self.0)
    }
}

impl fmt::Display for TerminalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Serialize)]
struct Create<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    shell_command: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_env: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Body of the POST that creates a terminal. `None` asks for the server's own shell. Each variable of
/// `environment` is set, or with `None` removed. Servers before `jupyter_server` 1.24 ignore the body, so nothing may
/// depend on it being honoured; one argument may have up to 120 KB.
#[must_use]
pub fn create_body(command: Option<&[String]>, environment: &[(&str, Option<&str>)]) -> String {
    let extra_env = (!environment.is_empty()).then(|| {
        environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).map_or(serde_json::Value::Null, Into::into)))
            .collect()
    });
    serde_json::to_string(&Create { shell_command: command, extra_env }).unwrap_or_else(|_| "{}".to_owned())
}

/// Why no terminal was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// The user's server isn't running, or the proxy cannot reach it: ask the hub to start it. The status is for
    /// the log.
    NotRunning(u16),
    /// The token doesn't give access to this server.
    Forbidden,
    /// The server has no terminals: switched off, or their extension isn't installed.
    NoTerminals,
    /// The server failed (500 and such). A command that isn't on its PATH gives this too: try without one.
    Failed(u16),
    /// Success, but the answer names no usable terminal.
    BadAnswer,
    /// A status that this call doesn't have.
    Unexpected(u16),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(status) => write!(f, "the server is not running (HTTP {status})"),
            Self::Forbidden => f.write_str("the token gives no access to this server (HTTP 403)"),
            Self::NoTerminals => f.write_str("the server offers no terminals (HTTP 404)"),
            Self::Failed(status) => write!(f, "the server could not start a terminal (HTTP {status})"),
            Self::BadAnswer => f.write_str("the server's answer names no terminal"),
            Self::Unexpected(status) => write!(f, "the server answered with HTTP {status}"),
        }
    }
}

impl std::error::Error for CreateError {}

/// True for answers that a *hub or proxy* gives in place of a user's server which isn't there: a redirect to the
/// hub (302), the hub's own 424, 502 to 504 of proxies. A 403 needs its body: see [`interpret_created`].
#[must_use]
pub fn means_not_running(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308 | 424 | 502 | 503 | 504)
}

/// What the answer to the POST means.
///
/// # Errors
/// See [`CreateError`]. A 403 is the user's server refusing (JSON), or the *hub* refusing a POST that it
/// should never have seen because that server isn't running (HTML that complains about `_xsrf`).
pub fn interpret_created(status: u16, body: &[u8]) -> Result<TerminalName, CreateError> {
    match status {
        200 | 201 => {
            #[derive(Deserialize)]
            struct Created {
                name: String,
            }
            let created: Created = serde_json::from_slice(body).map_err(|_| CreateError::BadAnswer)?;
            TerminalName::parse(&created.name).ok_or(CreateError::BadAnswer)
        }
        403 if looks_like_html(body) => Err(CreateError::NotRunning(status)),
        401 | 403 => Err(CreateError::Forbidden),
        404 => Err(CreateError::NoTerminals),
        status if means_not_running(status) => Err(CreateError::NotRunning(status)),
        500..=599 => Err(CreateError::Failed(status)),
        _ => Err(CreateError::Unexpected(status)),
    }
}

/// What became of a terminal that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and has been told to end (204).
    Done,
    /// It is not there any more (404), or its whole server isn't.
    WasGone,
    /// It may still be there; the status is for the log.
    Unknown(u16),
}

/// What the answer to the DELETE means.
#[must_use]
pub fn interpret_deleted(status: u16, body: &[u8]) -> Deleted {
    match status {
        200 | 202 | 204 => Deleted::Done,
        404 => Deleted::WasGone,
        403 if looks_like_html(body) => Deleted::WasGone,
        // A proxy that cannot reach the server right now says nothing about the terminal.
        301 | 302 | 303 | 307 | 308 | 424 => Deleted::WasGone,
        status => Deleted::Unknown(status),
    }
}

/// HTML begins with `<` after white space; the servers' own answers are JSON.
fn looks_like_html(body: &[u8]) -> bool {
    body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        assert_eq!(create_body(None, &[]), "{}");
        let command = ["sh".to_owned(), "-c".to_owned(), "a\"b\n".to_owned()];
        assert_eq!(
            create_body(Some(&command), &[("TERM", Some("xterm")), ("LINES", None)]),
            r#"{"shell_command":["sh","-c","a\"b\n"],"extra_env":{"LINES":null,"TERM":"xterm"}}"#
        );
    }

    #[test]
    fn created() {
        let ok = br#"{"name": "3", "last_activity": "2026-01-01T00:00:00Z"}"#;
        let name = interpret_created(200, ok).unwrap();
        assert_eq!(
            (name.resource().as_str(), name.websocket().as_str()),
            ("api/terminals/3", "terminals/websocket/3")
        );
        assert!(interpret_created(201, ok).is_ok());
        for bad in
            ["", "{}", "[]", r#"{"name":3}"#, r#"{"name":""}"#, r#"{"name":"../x"}"#, r#"{"name":"a b"}"#]
        {
            assert_eq!(interpret_created(200, bad.as_bytes()), Err(CreateError::BadAnswer), "{bad}");
        }
        assert!(TerminalName::parse(&"a".repeat(MAX_NAME)).is_some());
        assert!(TerminalName::parse(&"a".repeat(MAX_NAME + 1)).is_none());
    }

    #[test]
    fn refusals_mean_different_things() {
        let html = b"\n <!DOCTYPE HTML><html>'_xsrf' argument missing from POST</html>";
        assert_eq!(interpret_created(403, html), Err(CreateError::NotRunning(403)));
        assert_eq!(interpret_created(403, br#"{"message": "Forbidden"}"#), Err(CreateError::Forbidden));
        for status in [302, 424, 503, 504] {
            assert_eq!(interpret_created(status, b""), Err(CreateError::NotRunning(status)));
        }
        assert_eq!(interpret_created(404, b""), Err(CreateError::NoTerminals));
        assert_eq!(interpret_created(500, b"{}"), Err(CreateError::Failed(500)));
        assert_eq!(interpret_created(418, b""), Err(CreateError::Unexpected(418)));
    }

    #[test]
    fn deleted() {
        assert_eq!(interpret_deleted(204, b""), Deleted::Done);
        assert_eq!(interpret_deleted(404, b""), Deleted::WasGone);
        assert_eq!(interpret_deleted(424, b""), Deleted::WasGone);
        assert_eq!(interpret_deleted(503, b""), Deleted::Unknown(503));
        assert_eq!(interpret_deleted(403, b"{}"), Deleted::Unknown(403));
    }
}
