//! What the hub says about a token, and the rule that lets its user log in. Pure.
//!
//! `GET /hub/api/user` succeeds for *every* valid token, even for a service's and for one without
//! any scope. So a successful answer alone grants nothing: see [`verify`].

use super::json;
use super::scopes::Target;
use super::text::{printable, unstopped};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest name or id repeated in a log line, in characters.
const MAX_NAME: usize = 128;

/// The part of the hub's user model that we use. Unknown keys are ignored: every release adds some.
#[derive(Debug, Deserialize)]
struct User {
    kind: String,
    name: String,
    /// Absent before JupyterHub 2.0.
    scopes: Option<Vec<String>>,
    /// Absent if the token may not read them (scope `read:users:groups`).
    groups: Option<Vec<String>>,
    /// Absent if there are no servers that the token may read.
    servers: Option<BTreeMap<String, Server>>,
    /// Absent before JupyterHub 5.0.
    token_id: Option<String>,
    /// The browser session of a token that the hub issued by OAuth; `null` for all others.
    session_id: Option<String>,
}

/// A server in the user model. Without `include_stopped_servers` the hub lists only active ones.
#[derive(Debug, Deserialize)]
struct Server {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    pending: Option<Pending>,
    /// A path, or a full URL where each user has a host of their own (`subdomain_host`).
    #[serde(default)]
    url: Option<String>,
}

/// What is in progress: its name, `null`, or `false` (some releases).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Pending {
    Flag(bool),
    Action(String),
}

/// What a token may do that may open the server it was presented for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The hub's id of the token (not the token itself), for the log. Absent before JupyterHub 5.0.
    pub token_id: Option<String>,
    /// Whether the token may start the server.
    pub may_start: bool,
    /// What the server was doing when the hub answered.
    pub state: ServerState,
    /// Where the user's servers are, in the hub's words: see [`common::HubUrl::at_host_of`]. `None`
    /// if none of them is active or the token may not read them.
    pub address: Option<String>,
    /// The groups that the user is a member of; `None` if the token may not read them.
    pub groups: Option<Vec<String>>,
    /// Who has the token.
    pub holder: Holder,
    /// Whether the token may make other tokens for its user.
    pub may_make_tokens: bool,
}

/// Whom the hub has given a token to. All three are tokens of the user and may open the user's
/// server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The user, or somebody who made it for the user.
    User,
    /// The user's server, or a token made to be shown to it: every program running there can read
    /// it.
    Server,
    /// A server or service that the user has signed in to in the browser (OAuth).
    Program,
}

/// The state of a server, as the hub believes. A crashed server can still be `Ready` for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// Running, as far as the hub knows.
    Ready,
    /// Starting.
    Starting,
    /// Stopping: it must have stopped before it can be started again.
    Stopping,
    /// Not running.
    Stopped,
    /// Something else is in progress (`check`, `rename`): ask again soon.
    Busy,
    /// The token may not read the state.
    Unknown,
}

/// Why a token does not let its user log in. Never contains the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The hub does not accept the token: wrong, expired or revoked. Status 401 or 403, and its
    /// message.
    WrongToken { status: u16, message: String },
    /// The token belongs to a service, or to a kind of holder that we don't know.
    NotAUser { kind: String, name: String },
    /// The token belongs to another user, who may well be an administrator.
    OtherUser { name: String, token_id: Option<String> },
    /// The token belongs to a user whose name differs only in case, which is significant on this
    /// hub.
    Capitals { name: String, token_id: Option<String> },
    /// The token belongs to the right user, but cannot open the server.
    NoAccessScope { server: String, token_id: Option<String> },
    /// The token belongs to the right user, but the hub has given it to a server or a program.
    NotTheUsersOwn { holder: Holder, token_id: Option<String> },
    /// Not an answer of JupyterHub 2.0 or later. An outage, not a verdict on the token.
    NotUnderstood(String),
}

impl Refusal {
    /// Two lines for the user at the prompt: what happened, what to do.
    ///
    /// They reveal neither whose token it was nor anything else about accounts. `user` is the login
    /// name, `token_page` the address of the hub's token page.
    #[must_use]
    pub fn for_user(&self, user: &str, token_page: &str) -> String {
        match self {
            Self::WrongToken { .. } => format!(
                "The hub does not accept this token: it is mistyped, expired or revoked.\n\
                 Make a new one at {token_page} and paste it whole."
            ),
            Self::NotAUser { .. } | Self::OtherUser { .. } => format!(
                "This token does not belong to {user}.\n\
                 Check the user name, or make a token at {token_page} while you are signed in there as {user}."
            ),
            Self::Capitals { name, .. } => format!(
                "This token belongs to {name}, and on this host you are {user}.\n\
                 Log in as {name}; if you did, tell the administrator of this host: its log names the key to set."
            ),
            Self::NoAccessScope { .. } => format!(
                "This token is not allowed to open the server.\n\
                 Make one at {token_page} that has no scopes set, or has access:servers for this server."
            ),
            Self::NotTheUsersOwn { .. } => format!(
                "This token belongs to a server or a program, not to you.\n\
                 Make one of your own at {token_page}, with no scopes set, and paste it whole."
            ),
            Self::NotUnderstood(_) => "The hub's answer was not understood.\n\
                 Try again in a minute; if that does not help, tell the administrator of this host."
                .to_owned(),
        }
    }

    /// One line for the administrator, with the owner and the id of the token if known.
    #[must_use]
    pub fn for_log(&self) -> String {
        let id = |token_id: &Option<String>| match token_id {
            Some(id) => format!(" (token id {id})"),
            None => String::new(),
        };
        match self {
            Self::WrongToken { status, message } if message.is_empty() => {
                format!("the hub refused the token with status {status}")
            }
            Self::WrongToken { status, message } => {
                format!("the hub refused the token with status {status}: {}", unstopped(message))
            }
            Self::NotAUser { kind, name } => {
                format!("the token belongs to the {kind} \"{name}\", not to a user")
            }
            Self::OtherUser { name, token_id } => {
                format!("the token belongs to another user, \"{name}\"{}", id(token_id))
            }
            Self::Capitals { name, token_id } => format!(
                "the token belongs to \"{name}\", which is this login's user only with accounts.lower_case = {}{}",
                !name.contains(|c: char| c.is_ascii_uppercase()),
                id(token_id)
            ),
            Self::NoAccessScope { server, token_id } if server.is_empty() => {
                format!("the token's scopes do not cover access to the default server{}", id(token_id))
            }
            Self::NoAccessScope { server, token_id } => {
                format!("the token's scopes do not cover access to the server \"{server}\"{}", id(token_id))
            }
            Self::NotTheUsersOwn { holder, token_id } => {
                let why = match holder {
                    Holder::Program => {
                        "the hub has given it to a server or service in the browser (session_id; login.server_tokens lets it in)"
                    }
                    Holder::Server | Holder::User => {
                        "it looks like the user's server's (scope users:activity, but not tokens; login.server_tokens lets it in)"
                    }
                };
                format!("the token is not the user's own: {why}{}", id(token_id))
            }
            Self::NotUnderstood(why) => format!("the hub's answer was not understood: {why}"),
        }
    }
}

impl Verified {
    /// Refuses a token that the hub has given to a server or a program: others who can run
    /// something there could use it.
    ///
    /// # Errors
    /// The token is not the user's own: [`Refusal::NotTheUsersOwn`].
    pub fn only_the_users_own(&self) -> Result<(), Refusal> {
        match self.holder {
            Holder::User => Ok(()),
            holder => Err(Refusal::NotTheUsersOwn { holder, token_id: self.token_id.clone() }),
        }
    }
}

/// Judges the hub's answer to `GET /hub/api/user` for a login of `user` to the server `server` (""
/// = default).
///
/// A token is good if the answer is a user (not a service), its name is exactly `user`, and its
/// scopes cover access to exactly that server.
///
/// # Errors
/// The token is refused, and why. An answer that we don't understand is [`Refusal::NotUnderstood`],
/// never a grant.
pub(crate) fn verify(answer: &[u8], user: &str, server: &str) -> Result<Verified, Refusal> {
    let model = parse(answer)?;
    let token_id = model.token_id.as_deref().map(|id| printable(id, MAX_NAME));
    if model.kind != "user" {
        let (kind, name) = (printable(&model.kind, MAX_NAME), printable(&model.name, MAX_NAME));
        return Err(Refusal::NotAUser { kind, name });
    }
    // An empty login name never gets here; if it did, it must not match anything.
    if user.is_empty() || model.name != user {
        let name = printable(&model.name, MAX_NAME);
        return Err(if !user.is_empty() && model.name.eq_ignore_ascii_case(user) {
            Refusal::Capitals { name, token_id }
        } else {
            Refusal::OtherUser { name, token_id }
        });
    }
    let Some(scopes) = &model.scopes else {
        return Err(Refusal::NotUnderstood(
            "it holds no scopes (JupyterHub 2.0 or newer is needed)".to_owned(),
        ));
    };
    let target = Target { user, server, groups: model.groups.as_deref().unwrap_or_default() };
    if !target.has_any(scopes, &["access:servers"]) {
        return Err(Refusal::NoAccessScope { server: printable(server, MAX_NAME), token_id });
    }
    Ok(Verified {
        token_id,
        may_start: target.has_any(scopes, &["start:servers", "servers", "admin:servers"]),
        state: state(&model, scopes, &target),
        address: address(&model, server),
        groups: model.groups.clone(),
        holder: holder(model.session_id.as_deref(), scopes, &target),
        may_make_tokens: target.has_any(scopes, &["tokens"]),
    })
}

/// Tells who has this token. All hubs from 2.0 on show it the same way: a token issued by OAuth has
/// a session, and a server's own token may report that the server is in use (`users:activity`).
/// The user's own token may report that too, but it may also make tokens; a server's token that may
/// make tokens could make one that looks like the user's own.
fn holder(session: Option<&str>, scopes: &[String], target: &Target<'_>) -> Holder {
    let activity =
        |scope: &String| scope.split_once('!').map_or(scope.as_str(), |(name, _)| name) == "users:activity";
    if session.is_some() {
        Holder::Program
    } else if scopes.iter().any(activity) && !target.has_any(scopes, &["tokens"]) {
        Holder::Server
    } else {
        Holder::User
    }
}

/// Returns the address of the user's servers, preferably of this one. All of them are on one host.
fn address(model: &User, server: &str) -> Option<String> {
    let servers = model.servers.as_ref()?;
    servers.get(server).into_iter().chain(servers.values()).find_map(|server| server.url.clone())
}

fn parse(answer: &[u8]) -> Result<User, Refusal> {
    // serde's message names the line and the kind of error; it may repeat a piece of the answer.
    json::object(answer).map_err(|fault| Refusal::NotUnderstood(printable(&fault.to_string(), 200)))
}

fn state(model: &User, scopes: &[String], target: &Target<'_>) -> ServerState {
    match model.servers.as_ref().and_then(|servers| servers.get(target.server)) {
        Some(Server { pending: Some(Pending::Action(what)), .. }) => match what.as_str() {
            "spawn" => ServerState::Starting,
            "stop" => ServerState::Stopping,
            _ => ServerState::Busy,
        },
        Some(Server { pending: Some(Pending::Flag(true)), .. }) => ServerState::Busy,
        Some(Server { ready: true, .. }) => ServerState::Ready,
        Some(_) => ServerState::Stopped,
        // A server that is not listed is stopped only if the token could have seen it. The whole
        // list is absent for a token that may read just one server which is not running.
        None if target.has_any(scopes, &["read:servers", "servers", "admin:servers"]) => ServerState::Stopped,
        None => ServerState::Unknown,
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
