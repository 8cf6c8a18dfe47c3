//! Finds out whether the user's server runs, and whether it is a Jupyter. What answers at its
//! address cannot always tell; the hub can.

use crate::access::Access;
use hub::error::{Fault, HttpError};
use hub::http::{Call, Http};
use hub::model::{ServerState, Verified};
use hub::verify::{VerifyError, verify};
use server::terminado::rest::{self, CreateError, Kind};
use std::time::Duration;

/// Time for the hub to say whether the server runs.
const ASK: Duration = Duration::from_secs(9);
/// Time for the server to say what it is.
const KIND: Duration = Duration::from_secs(5);

/// Why there is no terminal: two lines for the user, one for the log.
#[derive(Debug)]
pub struct NoTerminal {
    /// For the user: what happened, and what to do.
    pub for_user: String,
    /// For the log, with all that is known.
    pub for_log: String,
}

impl NoTerminal {
    /// Creates it from the text for the user and the one for the log.
    pub fn new(for_user: impl Into<String>, for_log: impl Into<String>) -> Self {
        Self { for_user: for_user.into(), for_log: for_log.into() }
    }
}

/// True if the server has to be started, after it has refused to create a terminal.
///
/// If a server is not running, the hub's proxy passes its requests to the hub or, for a named
/// server, to the user's default server; then Jupyter's 404 says nothing about it. So the hub is
/// asked, unless the answer is clear.
///
/// # Errors
/// The hub no longer accepts the token.
pub fn is_down(http: &Http, access: &Access, refusal: CreateError) -> Result<bool, NoTerminal> {
    if let CreateError::NotRunning(_) = refusal {
        return Ok(true);
    }
    match verify(http, access.hub_token(), access.user(), access.server(), ASK) {
        Ok(Verified { state: ServerState::Ready, .. }) => Ok(false),
        // A token that may neither see nor start it: where no Jupyter answers, the hub's refusal
        // says what to do.
        Ok(Verified { state: ServerState::Unknown, may_start, .. }) => {
            Ok(may_start || kind(http, access) != Kind::Jupyter)
        }
        Ok(_) => Ok(true),
        // To start it is to sit this out, and the hub then says whether it runs.
        Err(VerifyError::Unavailable { .. }) => Ok(true),
        Err(VerifyError::Refused(why)) => Err(NoTerminal::new(
            "The hub does not accept your login any more.\nLog in again.",
            format!("no terminal: {refusal}; {}", why.for_log()),
        )),
    }
}

/// What the server is, by its answer at the address where Jupyter tells its version.
pub fn kind(http: &Http, access: &Access) -> Kind {
    let place = access.server_hub().ok().and_then(|hub| http.at(&hub).ok());
    let Some(http) = place else { return Kind::Unknown };
    let path = server_path(access, &[rest::VERSION]);
    match access.server_token().and_then(|token| http.call(&token, Call::get(&path, KIND))) {
        Ok(reply) => rest::interpret_version(reply.status, &reply.body),
        Err(HttpError { fault: Fault::Redirect { status, .. }, .. }) => Kind::Other(status),
        Err(HttpError { fault: Fault::TooLarge(_), .. }) => Kind::Other(200),
        Err(_) => Kind::Unknown,
    }
}

/// The error for the user of a server that is not a Jupyter server.
pub fn no_jupyter(access: &Access) -> String {
    let what = "What runs as your server is not Jupyter, or wants a login of its own: no terminal or command can run in it.";
    if access.config().serves_homes() {
        format!("{what}\nUse it in your browser; sftp and scp to this host reach your files all the same.")
    } else {
        format!(
            "{what}\nUse it in your browser, or start a Jupyter server in its place at {}.",
            access.home_page()
        )
    }
}

/// Path segments below the hub's base URL: `user/NAME[/SERVER]/…`.
pub fn server_path<'a>(access: &'a Access, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["user", access.user()];
    if !access.server().is_empty() {
        path.push(access.server());
    }
    path.extend(rest);
    path
}
