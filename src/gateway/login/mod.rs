//! Checks one login and answers the PAM module.

pub mod groups;
pub mod keeper;
pub mod request;

use crate::access::Access;
use crate::access::server_token::ServerToken;
use crate::connections::{Connections, NoRoom};
use crate::process::{PROGRAM, context};
use common::paths::CONNECTIONS;
use common::{ConfigError, LoginName};
use host::config::Config;
use host::counters::{Meter, Outcome};
use host::log::{Event, Line, Log};
use host::secret::Token;
use host::sys::process;
use hub::http::new_http;
use hub::model::Verified;
use hub::verify::{DEADLINE, VerifyError, verify};
use keeper::Keeper;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wire::By;
use wire::handle::Handle;
use wire::keeper::Denied;
use wire::login::Verdict;

/// Least time that the hub gets to verify a token, however long it took to make it. [`DEADLINE`]
/// and this together are shorter than the PAM module waits.
const LEAST: Duration = Duration::from_secs(2);

/// A login that the hub has confirmed.
pub struct Granted {
    /// The log; each line names the connection, the user and the client's address.
    pub log: Log,
    /// Everything that speaks for the user.
    pub access: Access,
    /// The client's address.
    pub peer: String,
    /// Those of the user's groups that shares are for.
    pub groups: Vec<String>,
    /// After a login by key: keep it as long as the token is needed.
    pub keeper: Option<Keeper>,
}

/// What proves who the user is.
pub enum Proof {
    /// A token, as the user typed it.
    Token(Token),
    /// A key, which sshd has checked: the keeper gets the token.
    Key(Keeper),
}

/// Checks a login, answers the PAM module, and logs the outcome. `None`: the login is not granted,
/// and nothing is left to do.
#[must_use]
pub fn check(
    (user, peer, proof): (String, String, Proof),
    config: Result<Config, ConfigError>,
    handle: &Handle,
    meter: Meter,
    connections: &Connections,
) -> Option<Granted> {
    let mut log = Log::open(PROGRAM, &context(handle.connection_id(), &user, &peer));
    let by = match &proof {
        Proof::Token(_) => By::Token,
        Proof::Key(_) => By::Key,
    };
    let line = |outcome: &str| Line::new(Event::Token).with("outcome", outcome).with("by", by.as_str());
    let count = |outcome| {
        meter.login(outcome, by);
        meter.flush();
    };
    match judge((&user, &peer, handle.connection_id()), proof, config, &meter) {
        Ok((access, verified, keeper)) => {
            if let Err((line, message)) = room(connections, &access) {
                log.warning(line);
                count(Outcome::Unavailable);
                let _ = answer(&Verdict::Unavailable(message));
                return None;
            }
            count(Outcome::Granted);
            log.info(line("accepted").with_some("token_id", verified.token_id));
            if let Err(e) = answer(&Verdict::Granted(handle.clone())) {
                log.warning(
                    Line::new(Event::SessionFailed).with("reason", format_args!("sshd did not wait: {e}")),
                );
                return None;
            }
            let told = groups::for_shares(verified.groups.as_deref(), &access.config().shares);
            if let Some(problem) = told.problem {
                log.warning(Line::of(Event::Home, problem));
            }
            if let Err(foreign) = access.server_hub() {
                log.warning(Line::of(Event::Terminal, foreign));
            }
            Some(Granted { log, access, peer, groups: told.groups, keeper })
        }
        Err(denied) => {
            let verdict = match denied {
                Denied::Refused { for_user, for_log } => {
                    // A warning, so that a logger that drops less important lines keeps it.
                    log.warning(line("refused").with("reason", for_log));
                    count(Outcome::Refused);
                    Verdict::Refused(for_user)
                }
                Denied::Unavailable { for_user, for_log } => {
                    log.error(line("unavailable").with("reason", for_log));
                    count(Outcome::Unavailable);
                    Verdict::Unavailable(for_user)
                }
            };
            let _ = answer(&verdict);
            None
        }
    }
}

/// Counts the connection, if there is a limit. Otherwise returns a line for the log and a message
/// for the user.
fn room(connections: &Connections, access: &Access) -> Result<(), (Line, String)> {
    let Some(most) = access.config().session.max_connections else { return Ok(()) };
    let line = Line::new(Event::Limit).with("limit", "max_connections").with("outcome", "refused");
    match connections.count(access.login().user(), most) {
        Ok(()) => Ok(()),
        Err(NoRoom::Full) => {
            let s = if most == 1 { "" } else { "s" };
            let message = format!(
                "You have {most} connection{s} open on this host, as many as its administrator allows.\n\
                 Close one of them, and try again."
            );
            Err((line, message))
        }
        Err(NoRoom::Unknown(e)) => Err((
            line.with("reason", format_args!("{CONNECTIONS}: {e}")),
            "This host could not count your connections.\nTell its administrator; its log names the reason."
                .to_owned(),
        )),
    }
}

/// Refuses a request that is malformed. The PAM module checks the same before it asks, so this is
/// no mistake of the user's.
pub fn not_understood(bad: &request::BadRequest, session: &str) {
    let line = Line::of(Event::Fault, format_args!("request not understood: {bad}"));
    Log::open(PROGRAM, &[("session", session)]).error(line);
    let _ = answer(&Verdict::Refused("This login was not understood.".to_owned()));
}

/// Gets a token from the keeper if need be, and asks the hub whose it is. If the keeper is not
/// returned, it revokes the token.
fn judge(
    (user, peer, session): (&str, &str, &str),
    proof: Proof,
    config: Result<Config, ConfigError>,
    meter: &Meter,
) -> Result<(Access, Verified, Option<Keeper>), Denied> {
    let until = Instant::now() + DEADLINE;
    let config = config.map_err(|e| Denied::unconfigured(&e))?;
    let hub = config.hub_url().map_err(|e| Denied::unconfigured(&e))?.clone();
    let login = LoginName::parse(user).map_err(|e| Denied::Refused {
        for_user: "This is not a user name of the hub.\nCheck the name before the @.".to_owned(),
        for_log: format!("not a name of a hub user: {e}"),
    })?;
    let token_page = hub.token_page();
    let by_key = matches!(proof, Proof::Key(_));
    let denied = |e: VerifyError| {
        let (for_user, for_log) = (e.for_user(login.user().as_str(), &token_page), e.for_log());
        match e {
            // The user has typed no token that could be wrong.
            VerifyError::Refused(_) if by_key => Denied::Refused {
                for_user: "The hub does not let you open this server.\n\
                     Check the user name, or ask the administrator of the hub."
                    .to_owned(),
                for_log: format!("of the token that was made for this login: {for_log}"),
            },
            VerifyError::Refused(_) => Denied::Refused { for_user, for_log },
            VerifyError::Unavailable { .. } => Denied::Unavailable { for_user, for_log },
        }
    };
    // Create it before waiting for a keeper, which takes longer.
    let http = new_http(&config, &hub).map_err(|e| denied(e.into()))?;
    let (token, keeper) = match proof {
        Proof::Token(token) => (token, None),
        Proof::Key(keeper) => (keeper.token(until)?, Some(keeper)),
    };
    let server = login.server().map_or("", |server| server.as_str());
    let left = until.saturating_duration_since(Instant::now()).max(LEAST);
    let verified = verify(&http, &token, login.user().as_str(), server, left).map_err(denied)?;
    // Our keeper made the token of a login by key, as narrow as a server's.
    if !by_key && !config.login.server_tokens {
        verified.only_the_users_own().map_err(|refusal| denied(refusal.into()))?;
    }
    config.login.judge(login.user().as_str(), verified.groups.as_deref()).map_err(|no| Denied::Refused {
        for_user: no.for_user().to_owned(),
        for_log: no.for_log().to_owned(),
    })?;
    let for_server = if by_key {
        ServerToken::own()
    } else if verified.may_make_tokens {
        ServerToken::to_be_made(login.user().as_str(), server, peer, session)
    } else {
        ServerToken::own_because("the token may make no others (scope tokens)")
    };
    let access = Access::new(config, hub, login, (token, for_server), http, meter.clone());
    access.heed(verified.address.as_deref());
    Ok((access, verified, keeper))
}

/// Writes the one line that answers the PAM module.
fn answer(verdict: &Verdict) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(verdict.line().as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    process::discard_stdout()
}
