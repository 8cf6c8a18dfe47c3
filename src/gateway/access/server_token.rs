//! The token that the user's server sees: made for it by the one that logged in, for this
//! connection, and good for nothing but that server.
//!
//! What is sent to the server is in the hands of whoever runs something there, which may be others
//! than its user. So the token that was typed goes to the hub only, where it may make another; that
//! one may do what the server's own may.

use super::Access;
use host::log::{Event, Line, Log};
use host::secret::Token;
use hub::error::{Fault, HttpError};
use hub::text::printable;
use hub::tokens::{self, MintError, Minted, Revoked, Wanted};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long such a token is good for: what is left of a gateway that is killed. It is made anew
/// when half of that is over and one is needed; a WebSocket that is open stays open.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long after a failure the next attempt to make it anew is.
const RETRY: Duration = Duration::from_secs(60);
/// Most that may be good at the same time, as each is made half a lifetime after the last.
const MOST_ALIVE: usize = 4;
/// Time for the hub to make one.
const MINT_TIME: Duration = Duration::from_secs(9);
/// Time for the hub to take all of them back.
const REVOKE_TIME: Duration = Duration::from_secs(5);
/// Most tokens that are looked for whose making was not heard of.
const MAX_LOST: usize = 4;

/// The token that the user's server sees. One job has it made while others wait for it.
pub struct ServerToken {
    wanted: Option<Wanted>,
    state: Mutex<State>,
    /// For the log, which jobs don't have. Never held for long, so that the loop may look.
    notes: Mutex<Vec<Note>>,
}

struct State {
    current: Current,
    /// The ids of those made, and not taken back yet.
    made: Vec<String>,
    /// The hub may have made another, which nobody has heard of.
    lost: bool,
    /// None is made any more.
    over: bool,
}

enum Current {
    /// There is none yet.
    Due,
    /// It is the one that logged in.
    Own,
    /// One was made, and is made anew from then on.
    Made(Arc<Token>, Instant),
}

/// A line for the log.
enum Note {
    Info(Line),
    Warning(Line),
}

impl ServerToken {
    /// One is to be made: what users read beside it on the hub's token page names this host and
    /// their connection.
    #[must_use]
    pub fn to_be_made(user: &str, server: &str, peer: &str, session: &str) -> Self {
        let host = nix::sys::utsname::uname();
        let host = host.as_ref().map_or_else(|_| "".into(), |host| host.nodename().to_string_lossy());
        let wanted = Wanted {
            // With the session it is like no other token's.
            note: printable(
                &format!(
                    "jupyterhub-openssh: for your server, of ssh to {host} from {peer}, session {session}"
                ),
                200,
            ),
            expires_in: LIFETIME.as_secs(),
            scopes: tokens::server_scopes(user, server),
        };
        Self::new(Some(wanted), Current::Due)
    }

    /// The one that logged in is as narrow, or may make no others.
    #[must_use]
    pub fn own() -> Self {
        Self::new(None, Current::Own)
    }

    /// The same, and why, for the log.
    #[must_use]
    pub fn own_because(why: &str) -> Self {
        let token = Self::own();
        token.note(Note::Info(not_narrowed(why)));
        token
    }

    fn new(wanted: Option<Wanted>, current: Current) -> Self {
        let state = State { current, made: Vec::new(), lost: false, over: false };
        Self { wanted, state: Mutex::new(state), notes: Mutex::default() }
    }

    /// The token, made if need be: takes as long as the hub does.
    ///
    /// # Errors
    /// The hub could not be asked. That is not taken for a no: whoever can keep a hub busy would
    /// get the other token.
    pub(super) fn get(&self, access: &Access) -> Result<Arc<Token>, HttpError> {
        let mut state = self.lock();
        match (&state.current, &self.wanted) {
            (Current::Made(token, renew), _) if Instant::now() < *renew => Ok(token.clone()),
            (Current::Due | Current::Made(..), Some(wanted)) if !state.over => {
                self.make(&mut state, access, wanted)
            }
            (Current::Made(token, _), _) => Ok(token.clone()),
            (Current::Own, _) => Ok(access.hub_token().clone()),
            (Current::Due, _) => Err(trouble("the connection has ended".to_owned())),
        }
    }

    fn make(&self, state: &mut State, access: &Access, wanted: &Wanted) -> Result<Arc<Token>, HttpError> {
        let began = Instant::now();
        let http = access.http()?;
        let error = match tokens::mint(&http, access.hub_token(), access.user(), wanted, MINT_TIME) {
            Ok(Minted { token, id, expires_at, narrow: true, marked }) => {
                let token = Arc::new(token);
                state.current = Current::Made(token.clone(), began + LIFETIME / 2);
                let narrowed = line("narrowed").with("token_id", &id).with("expires_at", expires_at);
                self.note(match marked {
                    true => Note::Info(narrowed),
                    false => Note::Warning(narrowed.message(
                        "it looks like the user's own: who can run something in the server can log in with it meanwhile; \
                         let the hub's role \"user\" have users:activity",
                    )),
                });
                state.made.push(id);
                return Ok(token);
            }
            Ok(Minted { id, .. }) => {
                let why = "the hub made a token that may do more than was asked (JupyterHub before 3.0 does)";
                let which = (id.as_str(), wanted.note.as_str());
                if tokens::revoke(&http, access.hub_token(), access.user(), which, REVOKE_TIME).is_err() {
                    state.made.push(id);
                }
                MintError::Blocked(why.to_owned())
            }
            Err(error) => {
                state.lost |= error.may_have_made_one();
                error
            }
        };
        match (&state.current, error.is_final()) {
            (Current::Made(token, _), _) => {
                let token = token.clone();
                self.note(Note::Warning(line("not-renewed").with("reason", error.for_log())));
                state.current = Current::Made(token.clone(), Instant::now() + RETRY);
                Ok(token)
            }
            (_, true) => {
                self.note(Note::Warning(not_narrowed(&error.for_log())));
                state.current = Current::Own;
                Ok(access.hub_token().clone())
            }
            (_, false) => Err(match error {
                MintError::NoAnswer(error) => error,
                error => trouble(error.for_log()),
            }),
        }
    }

    /// Has the hub forget what was made, once nothing is left to be closed in the server. None is
    /// made afterwards.
    pub(super) fn give_back(&self, access: &Access, log: &mut Log) {
        let mut state = self.lock();
        state.over = true;
        self.tell(log);
        let (Some(wanted), false) = (&self.wanted, state.made.is_empty() && !state.lost) else { return };
        let until = Instant::now() + REVOKE_TIME;
        let left = || until.saturating_duration_since(Instant::now());
        let http = match access.http() {
            Ok(http) => http,
            Err(error) => return log.warning(line("not-revoked").with("reason", error)),
        };
        let (token, user, note) = (access.hub_token(), access.user(), wanted.note.as_str());
        // The newest first: it is the one that is good for longest.
        for id in std::mem::take(&mut state.made).into_iter().rev().take(MOST_ALIVE) {
            let line = |outcome| line(outcome).with("token_id", &id);
            match tokens::revoke(&http, token, user, (&id, note), left()) {
                Ok(Revoked::Now) => log.info(line("revoked")),
                Ok(Revoked::Gone | Revoked::Another) => log.info(line("gone")),
                Err(why) => {
                    let line = line("not-revoked").with("reason", why);
                    log.warning(line.message("it is good for a quarter of an hour at most"));
                }
            }
        }
        for _ in 0..if state.lost { MAX_LOST } else { 0 } {
            let Ok(Some(id)) = tokens::find(&http, token, user, note, left()) else { break };
            if tokens::revoke(&http, token, user, (&id, note), left()).is_ok() {
                let line = line("revoked").with("token_id", id);
                log.info(line.message("it was made, but the hub's answer was lost"));
            }
        }
    }

    /// Brings what jobs have to say into the log.
    pub(super) fn tell(&self, log: &mut Log) {
        for note in std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner)) {
            match note {
                Note::Info(line) => log.info(line),
                Note::Warning(line) => log.warning(line),
            }
        }
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(outcome: &str) -> Line {
    Line::new(Event::Token).with("outcome", outcome)
}

fn not_narrowed(why: &str) -> Line {
    line("not-narrowed").with("reason", why).message("the user's server sees the token that was typed")
}

fn trouble(why: String) -> HttpError {
    HttpError { tried: "a token for the server".to_owned(), fault: Fault::Trouble(why) }
}

#[cfg(test)]
#[path = "server_token_tests.rs"]
mod tests;
