//! REST calls about terminals: their bodies, and what the answers mean behind a hub.
//!
//! The API is that of `jupyter_server_terminals/api_handlers.py`. No I/O; the gateway makes the
//! calls.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name of a terminal accepted, in bytes. Servers count 1, 2, 3 …
pub(crate) const MAX_NAME: usize = 64;

/// The name of a terminal: `[A-Za-z0-9_]{1,64}`, so it needs no escapes in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalName(String);

impl TerminalName {
    /// Takes a name that the server gave; `None` if it doesn't fit the server's own routes (`\w+`).
    #[must_use]
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && !name.is_empty() && name.len() <= MAX_NAME).then(|| Self(name.to_owned()))
    }

    /// Returns the name as it stands in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path of this terminal's WebSocket below the user's server.
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

/// Returns the body of the POST that creates a terminal.
///
/// `None` asks for the server's own shell. Each variable of `environment` is set, or removed if it
/// is `None`. Servers before `jupyter_server` 1.24 ignore the body, so nothing may depend on its
/// being honoured. One argument may have up to 120 KB.
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
    /// The user's server isn't running, or the proxy cannot reach it: ask the hub to start it.
    ///
    /// The status is for the log.
    NotRunning(u16),
    /// The token doesn't give access to this server.
    Forbidden,
    /// The server has no terminals: switched off, or their extension isn't installed.
    NoTerminals,
    /// The server failed (500 and the like). A command that isn't on its PATH causes this too: try
    /// without.
    Failed(u16),
    /// Success, but the answer names no usable terminal.
    BadAnswer,
    /// An answer that this call doesn't have: from another program, or the hub in the server's
    /// place.
    Unexpected(u16),
}

impl CreateError {
    /// True if the answer may not be the server's: the hub's, a proxy's, or the default server's.
    ///
    /// The default server may answer in place of a named one.
    #[must_use]
    pub fn may_be_anothers(self) -> bool {
        matches!(self, Self::NoTerminals | Self::Unexpected(_))
    }
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

/// True for statuses that only a *hub or proxy* sends, for a server that isn't there.
///
/// They are the hub's own 424, and 502 to 504 of proxies.
#[must_use]
pub(crate) fn means_not_running(status: u16) -> bool {
    matches!(status, 424 | 502 | 503 | 504)
}

/// Returns what a redirect in place of an answer means.
///
/// `target` is where it leads, `base` the hub's address with its slash. For a server that isn't
/// running the hub redirects to a page of its own. No other target says whether the server runs, so
/// the hub's model must: even a server that *runs* may redirect to the hub's sign-in pages.
#[must_use]
pub fn interpret_redirect(status: u16, base: &str, target: &str) -> CreateError {
    match target.strip_prefix(base) {
        Some(page) if page.starts_with("hub/user/") || page.starts_with("hub/spawn") => {
            CreateError::NotRunning(status)
        }
        _ => CreateError::Unexpected(status),
    }
}

/// Returns what the answer to the POST means.
///
/// # Errors
/// Fails with the reason why there is no terminal. A 403 with JSON is the user's server refusing. A
/// 403 with HTML that complains about `_xsrf` is the *hub* refusing a POST that it should never
/// have seen, because that server isn't running; before JupyterHub 4 this is a 405. For a named
/// server that isn't running the user's default server may have answered.
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
        403 | 405 if is_page_of_hub(body) => Err(CreateError::NotRunning(status)),
        403 if looks_like_html(body) => Err(CreateError::Unexpected(status)),
        401 | 403 => Err(CreateError::Forbidden),
        404 => Err(CreateError::NoTerminals),
        status if means_not_running(status) => Err(CreateError::NotRunning(status)),
        500..=599 => Err(CreateError::Failed(status)),
        _ => Err(CreateError::Unexpected(status)),
    }
}

/// The path below the user's server where Jupyter tells its version, to everybody.
pub const VERSION: &str = "api";

/// What kind of program a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Jupyter Server, or the classic notebook.
    Jupyter,
    /// Another program (a dashboard, an editor), or one with a login of its own; the status is for
    /// the log.
    Other(u16),
    /// Unknown, because the server did not answer or its answer does not tell.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jupyter => f.write_str("it is a Jupyter server"),
            Self::Other(status) => write!(f, "it is no Jupyter server (its api: HTTP {status})"),
            Self::Unknown => f.write_str("its api does not tell what it is"),
        }
    }
}

/// Returns what the answer to a GET of [`VERSION`] means.
#[must_use]
pub fn interpret_version(status: u16, body: &[u8]) -> Kind {
    #[derive(Deserialize)]
    struct Api {
        #[serde(rename = "version")]
        _version: String,
    }
    match status {
        200 if serde_json::from_slice::<Api>(body).is_ok() => Kind::Jupyter,
        401 | 403 | 408 | 424 | 429 | 500..=599 => Kind::Unknown,
        _ => Kind::Other(status),
    }
}

/// What became of a terminal after the call to delete it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and was told to end (204).
    Done,
    /// It is no longer there (404), or its whole server isn't.
    WasGone,
    /// It may still be there; the status is for the log.
    Unknown(u16),
}

/// Returns what the answer to the DELETE means.
#[must_use]
pub fn interpret_deleted(status: u16, body: &[u8]) -> Deleted {
    match status {
        200 | 202 | 204 => Deleted::Done,
        404 => Deleted::WasGone,
        403 if looks_like_html(body) => Deleted::WasGone,
        // A terminal can be deleted, so this isn't the server: it is a hub before JupyterHub 4.0.
        405 => Deleted::WasGone,
        // A proxy that cannot reach the server right now says nothing about the terminal.
        301 | 302 | 303 | 307 | 308 | 424 => Deleted::WasGone,
        status => Deleted::Unknown(status),
    }
}

/// True for HTML with the hub's style sheet.
fn is_page_of_hub(body: &[u8]) -> bool {
    const STATIC: &[u8] = b"/hub/static/";
    looks_like_html(body) && body.windows(STATIC.len()).any(|part| part == STATIC)
}

/// True if `body` begins with `<` after white space; the servers' own answers are JSON.
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
        assert_eq!(name.websocket(), "terminals/websocket/3");
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
        let of_hub = b"\n <!DOCTYPE HTML><html><link href=\"/b/hub/static/css/style.min.css\"/>'_xsrf' argument missing</html>";
        assert_eq!(interpret_created(403, of_hub), Err(CreateError::NotRunning(403)));
        assert_eq!(interpret_created(405, of_hub), Err(CreateError::NotRunning(405)));
        // From a server that isn't Jupyter, or a hub with pages of its own.
        let html = b"<html>CSRF verification failed</html>";
        assert_eq!(interpret_created(403, html), Err(CreateError::Unexpected(403)));
        assert_eq!(interpret_created(405, html), Err(CreateError::Unexpected(405)));
        assert_eq!(interpret_created(403, br#"{"message": "Forbidden"}"#), Err(CreateError::Forbidden));
        for status in [424, 502, 503, 504] {
            assert_eq!(interpret_created(status, b""), Err(CreateError::NotRunning(status)));
        }
        assert_eq!(interpret_created(404, b""), Err(CreateError::NoTerminals));
        assert_eq!(interpret_created(500, b"{}"), Err(CreateError::Failed(500)));
        assert_eq!(interpret_created(418, b""), Err(CreateError::Unexpected(418)));
    }

    #[test]
    fn jupyter_is_known_by_its_version() {
        assert_eq!(interpret_version(200, br#"{"version": "2.21.1"}"#), Kind::Jupyter);
        for other in ["<html>", "{}", r#"{"version": 2}"#, "[\"2.21.1\", 1]", ""] {
            assert_eq!(interpret_version(200, other.as_bytes()), Kind::Other(200), "{other}");
        }
        for (status, kind) in [
            (404, Kind::Other(404)),
            (302, Kind::Other(302)),
            (403, Kind::Unknown),
            (500, Kind::Unknown),
            (503, Kind::Unknown),
        ] {
            assert_eq!(interpret_version(status, br#"{"version": "2.21.1"}"#), kind);
        }
    }

    #[test]
    fn only_a_page_of_the_hub_says_that_a_server_is_down() {
        let base = "http://hub.example.org/b/";
        for (target, down) in [
            ("http://hub.example.org/b/hub/user/alice/api/terminals", true),
            ("http://hub.example.org/b/hub/spawn/alice", true),
            ("http://hub.example.org/b/hub/api/oauth2/authorize", false),
            ("http://hub.example.org/b/hub/login", false),
            ("http://hub.example.org/b/user/alice/login", false),
            ("https://hub.example.org/b/hub/user/alice/", false),
            ("http://hub.example.org/hub/user/alice/", false),
            ("nowhere", false),
        ] {
            let expected = if down { CreateError::NotRunning(302) } else { CreateError::Unexpected(302) };
            assert_eq!(interpret_redirect(302, base, target), expected, "{target}");
        }
    }

    #[test]
    fn deleted() {
        assert_eq!(interpret_deleted(204, b""), Deleted::Done);
        assert_eq!(interpret_deleted(404, b""), Deleted::WasGone);
        assert_eq!(interpret_deleted(424, b""), Deleted::WasGone);
        assert_eq!(interpret_deleted(405, b"<html>"), Deleted::WasGone);
        assert_eq!(interpret_deleted(503, b""), Deleted::Unknown(503));
        assert_eq!(interpret_deleted(403, b"{}"), Deleted::Unknown(403));
    }
}
