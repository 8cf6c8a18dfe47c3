//! The token that the user's server sees: made for this connection by the token that logged in, and
//! good for nothing but that server.
//!
//! Everybody who can run something in the server may read what is sent to it, and those may be
//! others than its user. So the token that was typed goes to the hub only. There it may make
//! another one, which may do what the server's own token may do.

use super::Access;
use host::log::{Event, Line, Log};
use host::secret::Token;
use hub::error::{Fault, HttpError};
use hub::text::printable;
use hub::tokens::{self, MintError, Minted, Revoked, Wanted};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lifetime of such a token: a gateway that is killed leaves it behind for so long. After half of
/// it a new one is made at the next use; an open WebSocket stays open.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Pause after a failure before a new token is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// Most tokens that are valid at a time: each is made half a lifetime after the one before.
const MOST_ALIVE: usize = 4;
/// Time for the hub to make a token.
const MINT_TIME: Duration = Duration::from_secs(9);
/// Time for the hub to revoke all of them.
const REVOKE_TIME: Duration = Duration::from_secs(5);
/// Most tokens to look for when the hub's answer to their making was lost.
const MAX_LOST: usize = 4;

/// The token that the user's server sees. One job has it made while the others wait for it.
pub struct ServerToken {
    wanted: Option<Wanted>,
    state: Mutex<State>,
    /// What jobs have to log. Locked only briefly, so that the loop can read it.
    notes: Mutex<Vec<Note>>,
}

struct State {
    current: Current,
    /// The ids of the tokens that were made and not revoked yet.
    made: Vec<String>,
    /// True if the hub may have made another one whose answer was lost.
    lost: bool,
    /// True if no more tokens may be made.
    over: bool,
}

enum Current {
    /// No token has been made yet.
    Due,
    /// The token that logged in is used.
    Own,
    /// A token was made; from this time on a new one is due.
    Made(Arc<Token>, Instant),
}

/// A line for the log.
enum Note {
    Info(Line),
    Warning(Line),
}

impl ServerToken {
    /// A token that is still to be made. The hub's token page shows users this host and their
    /// connection beside it.
    #[must_use]
    pub fn to_be_made(user: &str, server: &str, peer: &str, session: &str) -> Self {
        let host = nix::sys::utsname::uname();
        let host = host.as_ref().map_or_else(|_| "".into(), |host| host.nodename().to_string_lossy());
        let wanted = Wanted {
            // The connection's name makes it unlike any other token's note.
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

    /// Uses the token that logged in: it is as narrow, or may make no others.
    #[must_use]
    pub fn own() -> Self {
        Self::new(None, Current::Own)
    }

    /// The same, with the reason for the log.
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

    /// The token. Makes one if need be, which takes as long as the hub does.
    ///
    /// # Errors
    /// The hub could not be asked. This is not treated as a refusal: otherwise a busy hub would
    /// make the gateway send the wider token.
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

    /// Revokes all tokens that were made, once nothing is left to be closed in the server. No more
    /// are made afterwards.
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
        // The newest first, because it is valid for longest.
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

    /// Writes what jobs had to say to the log.
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
