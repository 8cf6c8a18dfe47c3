//! Answers the question of every login: may this token open this user's server?

use super::error::HttpError;
use super::http::{Call, Http};
use super::model::{self, Refusal, Verified};
use super::reply::hub_message;
use host::secret::Token;
use std::time::Duration;

/// Time limit for the hub's answer. The user at sshd waits, and the PAM module gives up a few
/// seconds later.
pub const DEADLINE: Duration = Duration::from_secs(9);

/// Why a login is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyError {
    /// The hub rejects this token.
    Refused(Refusal),
    /// There is no verdict: the hub is down, slow or broken, or this host is misconfigured. Both
    /// texts are final; the one for the user has two lines.
    Unavailable {
        /// What happened and what to do, for the user at the prompt.
        for_user: String,
        /// The same for the administrator, with all that is known.
        for_log: String,
    },
}

impl VerifyError {
    /// Two lines for the user: what happened, what to do. See [`Refusal::for_user`].
    #[must_use]
    pub fn for_user(&self, user: &str, token_page: &str) -> String {
        match self {
            Self::Refused(refusal) => refusal.for_user(user, token_page),
            Self::Unavailable { for_user, .. } => for_user.clone(),
        }
    }

    /// One line for the log.
    #[must_use]
    pub fn for_log(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.for_log(),
            Self::Unavailable { for_log, .. } => for_log.clone(),
        }
    }
}

impl From<Refusal> for VerifyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<HttpError> for VerifyError {
    fn from(error: HttpError) -> Self {
        Self::Unavailable { for_user: error.for_user(), for_log: error.to_string() }
    }
}

/// Asks the hub whose token this is, and judges the answer for a login of `user` to `server` ("" =
/// default). Returns within `deadline` (usually [`DEADLINE`]), even if the hub sends its answer a
/// byte at a time.
///
/// # Errors
/// The login is rejected, and why. Anything but a clear yes is an error: [`VerifyError`].
pub fn verify(
    http: &Http,
    token: &Token,
    user: &str,
    server: &str,
    deadline: Duration,
) -> Result<Verified, VerifyError> {
    let reply = http.call(token, Call::get(&["hub", "api", "user"], deadline))?;
    match reply.status {
        200 => model::verify(&reply.body, user, server).map_err(|refusal| match refusal {
            // Whoever sent this answer, it is not a verdict on the token.
            Refusal::NotUnderstood(_) => VerifyError::Unavailable {
                for_user: refusal.for_user(user, &http.token_page()),
                for_log: refusal.for_log(),
            },
            refusal => VerifyError::Refused(refusal),
        }),
        status @ (401 | 403) => {
            let message = hub_message(&reply).unwrap_or_default();
            Err(VerifyError::Refused(Refusal::WrongToken { status, message }))
        }
        status => {
            let said = hub_message(&reply).map(|message| format!(": {message}")).unwrap_or_default();
            let hint = if status == 404 { "; is hub.url the address of a JupyterHub?" } else { "" };
            Err(VerifyError::Unavailable {
                for_user: "The hub has a problem and cannot check the token.\n\
                     Try again in a minute; if that does not help, tell the administrator of this host."
                    .to_owned(),
                for_log: format!("GET /hub/api/user: status {status}{said}{hint}"),
            })
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
