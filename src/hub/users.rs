//! Reads what the hub keeps for a user's authenticator: `GET /hub/api/users/NAME`, whose
//! `auth_state` is shown only to tokens with the scope `admin:auth_state`.

use super::error::HttpError;
use super::http::{Call, Http, Reply};
use super::json;
use super::reply::hub_message;
use super::text::{printable, unstopped};
use common::UserName;
use host::secret::Token;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest answer, in bytes.
pub(crate) const MAX_ANSWER: usize = 256 << 10;
/// Longest part of a foreign text in an error, in characters.
const MAX_DETAIL: usize = 200;

/// Why a field of a user's `auth_state` could not be read. One line for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthStateError {
    /// The request brought no answer.
    Call(HttpError),
    /// The hub does not accept the token, or not for this request. Status 401 or 403, and its
    /// message.
    NotAllowed(u16, String),
    /// The hub has a problem, or it is not a hub. The status and the hub's message.
    Status(u16, String),
    /// The answer has no `auth_state`: the token lacks the scope for it.
    Hidden,
    /// Not an answer of a JupyterHub, or not about this user.
    NotUnderstood(String),
    /// The field is neither a text nor a list of texts.
    Field(String),
}

/// Asks the hub for the texts in a field of a user's `auth_state`, with a service's token, within
/// `timeout`.
///
/// The field may hold a text or a list of texts. The result is empty if the field or `auth_state`
/// is missing, or if the hub does not know the user.
///
/// # Errors
/// The hub didn't say what the field holds: [`AuthStateError`].
pub fn auth_state_texts(
    http: &Http,
    token: &Token,
    user: &UserName,
    field: &str,
    timeout: Duration,
) -> Result<Vec<String>, AuthStateError> {
    let path = ["hub", "api", "users", user.as_str()];
    let reply = http.call(token, Call::get(&path, timeout)).map_err(AuthStateError::Call)?;
    judge(reply, user, field)
}

/// Interprets an answer.
fn judge(reply: Reply, user: &UserName, field: &str) -> Result<Vec<String>, AuthStateError> {
    let message = hub_message(&reply);
    match (reply.status, message) {
        (200, _) => read(&Zeroizing::new(reply.body), user, field),
        // The hub's own word. Anything else's 404 says that there is no such page, not that there
        // is no such user.
        (404, Some(_)) => Ok(Vec::new()),
        (status @ (401 | 403), message) => {
            Err(AuthStateError::NotAllowed(status, message.unwrap_or_default()))
        }
        (status, message) => Err(AuthStateError::Status(status, message.unwrap_or_default())),
    }
}

/// Reads one field of a user's model. The rest is dropped here: it may contain the user's tokens
/// for other services.
fn read(answer: &[u8], user: &UserName, field: &str) -> Result<Vec<String>, AuthStateError> {
    let strange = |why: &str| AuthStateError::NotUnderstood(printable(why, MAX_DETAIL));
    if answer.len() > MAX_ANSWER {
        return Err(strange(&format!("it is longer than {MAX_ANSWER} bytes")));
    }
    // serde's own message could repeat a piece of the answer.
    let model: Map<String, Value> = json::object(answer).map_err(|_| strange("it is not a JSON object"))?;
    let is = |key: &str, text: &str| model.get(key).and_then(Value::as_str) == Some(text);
    if !is("kind", "user") || !is("name", user.as_str()) {
        return Err(strange("it is not about this user"));
    }
    let state = match model.get("auth_state") {
        None => return Err(AuthStateError::Hidden),
        // Not kept by this hub (`enable_auth_state`), or not yet set.
        Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(state)) => state,
        Some(_) => return Err(strange("its auth_state is not an object")),
    };
    match state.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => texts(value).ok_or_else(|| AuthStateError::Field(printable(field, MAX_DETAIL))),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

impl fmt::Display for AuthStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |message: &str| match unstopped(message) {
            "" => String::new(),
            message => format!(" ({message})"),
        };
        match self {
            Self::Call(error) => write!(f, "{error}"),
            Self::NotAllowed(status, message) => write!(
                f,
                "the hub refused the service token with status {status}{}; it needs the scopes admin:auth_state and \
                 read:users:name",
                said(message)
            ),
            Self::Status(status @ 404, message) => {
                write!(f, "status {status}{}; is hub.url the address of a JupyterHub?", said(message))
            }
            Self::Status(status, message) => {
                write!(f, "the hub answered with status {status}{}", said(message))
            }
            Self::Hidden => {
                f.write_str("the hub shows no auth_state; the service needs the scope admin:auth_state")
            }
            Self::NotUnderstood(why) => write!(f, "the hub's answer was not understood: {why}"),
            Self::Field(field) => write!(f, "auth_state.{field} is neither a text nor a list of texts"),
        }
    }
}

impl std::error::Error for AuthStateError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::fake::{Fake, hub_error};
    use super::*;
    use proptest::prelude::*;

    fn alice() -> UserName {
        UserName::parse("alice").unwrap()
    }

    fn field(answer: &str) -> Result<Vec<String>, AuthStateError> {
        read(answer.as_bytes(), &alice(), "ssh_public_keys")
    }

    #[test]
    fn a_text_or_a_list_of_texts() {
        for (state, expected) in [
            (r#"{"ssh_public_keys":"a\nb"}"#, vec!["a\nb"]),
            (r#"{"ssh_public_keys":["a","b"],"access_token":"s3cret"}"#, vec!["a", "b"]),
            (r#"{"ssh_public_keys":[]}"#, vec![]),
            (r#"{"ssh_public_keys":null}"#, vec![]),
            (r#"{"keys":["a"]}"#, vec![]),
            ("{}", vec![]),
            ("null", vec![]),
        ] {
            let answer = format!(r#"{{"kind":"user","name":"alice","auth_state":{state}}}"#);
            assert_eq!(field(&answer).unwrap(), expected, "{state}");
        }
    }

    #[test]
    fn anything_else_is_an_error_without_a_piece_of_the_answer() {
        for (answer, expected) in [
            (r#"{"kind":"user","name":"alice"}"#, "needs the scope admin:auth_state"),
            (r#"{"kind":"user","name":"alice","auth_state":"s3cret"}"#, "its auth_state is not an object"),
            (
                r#"{"kind":"user","name":"alice","auth_state":{"ssh_public_keys":["a",5]}}"#,
                "auth_state.ssh_public_keys is neither",
            ),
            (
                r#"{"kind":"user","name":"alice","auth_state":{"ssh_public_keys":{"s3cret":"a"}}}"#,
                "auth_state.ssh_public_keys is neither",
            ),
            (r#"{"kind":"user","name":"bob","auth_state":{"ssh_public_keys":"a"}}"#, "not about this user"),
            (r#"{"kind":"user","name":"Alice","auth_state":null}"#, "not about this user"),
            (r#"{"kind":"service","name":"alice","auth_state":null}"#, "not about this user"),
            (r#"{"name":"alice","auth_state":null}"#, "not about this user"),
            (r#"["user","alice",{}]"#, "not a JSON object"),
            (r#"{"kind":"user","name":"alice","auth_state":"s3cret"#, "not a JSON object"),
            ("", "not a JSON object"),
        ] {
            let error = field(answer).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
        let long =
            format!(r#"{{"kind":"user","name":"alice","auth_state":null,"x":"{}"}}"#, "x".repeat(MAX_ANSWER));
        assert!(field(&long).unwrap_err().to_string().contains("longer than 262144 bytes"));
    }

    fn ask(answer: &str) -> Result<Vec<String>, String> {
        let answer = answer.to_owned();
        let fake = Fake::new(move |stream, _, _| super::super::fake::send(stream, answer.as_bytes()));
        let http = Http::new(&fake.base, None).unwrap();
        let token = Token::parse("s3cret").unwrap();
        let user = UserName::parse("a+b@example.org").unwrap();
        let found = auth_state_texts(&http, &token, &user, "keys", Duration::from_secs(5));
        assert_eq!(fake.lines(), ["GET /base/hub/api/users/a%2Bb@example.org"]);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_hub_itself_says_that_there_is_no_such_user() {
        assert_eq!(ask(&hub_error(404, "", "Not Found")), Ok(Vec::new()));
        let proxys = super::super::fake::answer(404, "", "<html>");
        assert_eq!(ask(&proxys).unwrap_err(), "status 404; is hub.url the address of a JupyterHub?");
        let error = ask(&hub_error(403, "", "Action is not authorized with current scopes.")).unwrap_err();
        assert!(error.contains("403 (Action is not authorized with current scopes); it needs"), "{error}");
        assert_eq!(ask(&hub_error(500, "", "boom")).unwrap_err(), "the hub answered with status 500 (boom)");
        assert!(ask("").unwrap_err().contains("the connection broke"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}|\\{\"kind\":\"user\",\"name\":\"alice\",\"auth_state\":\\{\"ssh_public_keys\":\\PC{0,20}\\}\\}") {
            let _ = field(&text).map_err(|error| error.to_string());
        }
    }
}
