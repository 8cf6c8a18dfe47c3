//! Checking one login and telling the PAM module.

use super::access::{Access, new_http};
use super::handle::Handle;
use super::{PROGRAM, answer, groups, request};
use crate::config::Config;
use crate::hub::model::Verified;
use crate::hub::verify::{DEADLINE, VerifyError, verify};
use crate::log::Log;
use accounts::LoginName;
use zeroize::Zeroizing;

/// A login that the hub has confirmed.
pub struct Granted {
    /// Every line of it names the session, the user and the client's address.
    pub log: Log,
    /// All that is needed to speak for the user.
    pub access: Access,
    /// Those of the user's groups that have shares.
    pub groups: Vec<String>,
}

/// What the PAM module is told instead of a grant.
enum Denied {
    /// The hub says no, or the request can't be right.
    Refused { for_user: String, for_log: String },
    /// Nobody could say yes or no.
    Unavailable { for_user: String, for_log: String },
}

/// Checks a request, answers the PAM module, and logs the outcome. `None`: not granted, all is done.
#[must_use]
pub fn check(text: Zeroizing<Vec<u8>>, handle: &Handle) -> Option<Granted> {
    let request = request::parse(&text);
    drop(text);
    let request = match request {
        Ok(request) => request,
        Err(bad) => {
            // The PAM module checks the same before it asks: this is no user's mistake.
            Log::open(PROGRAM, "gateway").error(&format!("request not understood: {bad}"));
            let _ = answer("refused This login was not understood.");
            return None;
        }
    };
    let context = format!("session={} user={} rhost={}", handle.session_id(), request.user, request.peer);
    let mut log = Log::open(PROGRAM, &context);
    match judge(request) {
        Ok((access, verified)) => {
            let id = verified.token_id.map(|id| format!(", token id {id}")).unwrap_or_default();
            log.info(&format!("token accepted{id}"));
            if let Err(e) = answer(&format!("granted {}", handle.as_str())) {
                log.warning(&format!("sshd did not wait for the answer: {e}"));
                return None;
            }
            let told = groups::for_shares(verified.groups.as_deref(), &access.config().shares);
            if let Some(problem) = told.problem {
                log.warning(problem);
            }
            Some(Granted { log, access, groups: told.groups })
        }
        Err(denied) => {
            let (word, for_user) = match denied {
                Denied::Refused { for_user, for_log } => {
                    // A warning, so that it is kept when a logger drops lines of lesser weight.
                    log.warning(&format!("login refused: {for_log}"));
                    ("refused", for_user)
                }
                Denied::Unavailable { for_user, for_log } => {
                    log.error(&format!("login not possible: {for_log}"));
                    ("unavailable", for_user)
                }
            };
            let _ = answer(&format!("{word} {}", for_user.replace('\n', "\x1f")));
            None
        }
    }
}

fn judge(request: request::LoginRequest) -> Result<(Access, Verified), Denied> {
    let unconfigured = |for_log: String| Denied::Unavailable {
        for_user: "This bastion is not set up yet.\nTell its administrator; its log names the reason."
            .to_owned(),
        for_log,
    };
    let config = Config::load().map_err(|e| unconfigured(e.one_line()))?;
    let hub = config.hub_url().map_err(|e| unconfigured(e.one_line()))?.clone();
    let login = LoginName::parse(&request.user).map_err(|e| Denied::Refused {
        for_user: "This is not a user name of the hub.\nCheck the name before the @.".to_owned(),
        for_log: format!("not a name of a hub user: {e}"),
    })?;
    let token_page = hub.token_page();
    let denied = |e: VerifyError| {
        let (for_user, for_log) = (e.for_user(&token_page), e.for_log());
        match e {
            VerifyError::Refused(_) => Denied::Refused { for_user, for_log },
            VerifyError::Unavailable { .. } => Denied::Unavailable { for_user, for_log },
        }
    };
    let http = new_http(&config, &hub).map_err(|e| denied(e.into()))?;
    let server = login.server().map_or("", |server| server.as_str());
    let verified = verify(&http, &request.token, login.user().as_str(), server, DEADLINE).map_err(denied)?;
    let access = Access::new(config, hub, login, request.token, http);
    Ok((access, verified))
}
