//! The keeper: a second process for a login by key, and the only one that may use the hub service's
//! token.
//!
//! It runs as a system user of its own. It makes a token for the user, hands it to the gateway, and
//! revokes it when the gateway has ended, for whatever reason. Root tells it the user, before there
//! is a gateway. After that it listens to nobody: the only thing that a gateway can do to it is to
//! end.

use super::request::KeyLogin;
use crate::process::{Failed, PROGRAM, termination, trying};
use common::ConfigError;
use common::paths::KEYS_USER;
use host::config::{Config, HubUrl};
use host::log::{Event, Line, Log};
use host::rights::Rights;
use host::sandbox::{self, Reach};
use host::secret::Token;
use host::sys::wait::readable_before;
use host::sys::{process, socket};
use hub::http::Http;
use hub::http::new_http;
use hub::service_token;
use hub::text::printable;
use hub::tokens::{self, MintError, Minted, Revoked, Wanted};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::MAX_MESSAGE;
use wire::keeper::Denied;
use zeroize::Zeroizing;

/// Time for the hub to make a token. It is longer than a gateway waits, so that a token that comes
/// too late is known and can be revoked.
const MINT_TIME: Duration = Duration::from_secs(30);
/// Time for one attempt to revoke a token.
const REVOKE_TIME: Duration = Duration::from_secs(10);
/// The same after SIGTERM: SIGKILL may follow soon.
const LAST_TIME: Duration = Duration::from_secs(4);
/// When to look for a token whose making was not confirmed: at once, and then so long after each
/// look.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60)];
/// How long a keeper sleeps at most before it looks around.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Why a token that was made is not used.
const TOO_WIDE: &str =
    "what it made may do more than was asked, and was revoked: JupyterHub before 3.0 cannot narrow a token";

/// The gateway's end of a keeper. When it is dropped, or the process ends, the keeper revokes the
/// token.
pub struct Keeper(OwnedFd);

/// Starts the keeper of a login, with the rights of sshd and from a single thread. `context` starts
/// each line of its log.
///
/// # Errors
/// The system user is missing, or no socket or process can be made.
pub fn start(login: &KeyLogin, rights: Rights, context: &[(&'static str, &str)]) -> Result<Keeper, Failed> {
    let user = trying("look up the user _jupyterhub-openssh-keys", rights.system_user(KEYS_USER))?;
    let (gateways, own) = trying("make the keeper's socket", socket::pair())?;
    if trying("start the keeper", process::fork_single_threaded())?.is_some() {
        return Ok(Keeper(gateways));
    }
    // Destructors of the parent do not run here, so no descriptor is closed behind its owner's
    // back.
    let outcome = keep(own, || rights.give_up(user), login, context);
    if let Err(failed) = &outcome {
        Log::open(PROGRAM, context).error(Line::of(Event::Fault, failed));
    }
    process::exit_now(i32::from(outcome.is_err()))
}

/// Runs the keeper from start to end.
fn keep(
    gateway: OwnedFd,
    give_up_root: impl FnOnce() -> io::Result<()>,
    login: &KeyLogin,
    context: &[(&'static str, &str)],
) -> Result<(), Failed> {
    // The PAM module waits until nobody holds its pipe any more.
    trying("let go of standard output", process::discard_stdio())?;
    trying("close inherited descriptors", process::close_all_but(&[gateway.as_raw_fd()]))?;
    // If this fails, it fails for the gateway, too, which logs it.
    let _ = process::lock_memory();
    trying("drop root", give_up_root())?;
    trying("take a name", process::set_name(c"openssh-keeper"))?;
    let config = Config::load();
    let reach = config.as_ref().map_or_else(|_| Reach::nothing(), |c| Reach::of(c).with_service_token(c));
    // The gateway logs what this kernel doesn't support.
    trying("confine the keeper", sandbox::confine(&reach))?;
    let terminated = trying("watch for SIGTERM", termination())?;
    let mut log = Log::open(PROGRAM, context);

    // An error of poll(2) must not delay anything.
    let pause = |time| !matches!(readable_before(&[terminated.as_fd()], Instant::now() + time), Ok(None));
    let refuse = |denied: &Denied| {
        trying("answer", socket::send(gateway.as_fd(), &wire::keeper::refusal(denied), &[]))
    };
    let errand = match Errand::new(login, config) {
        Ok(errand) => errand,
        Err(denied) => return refuse(&denied),
    };
    let Minted { token, id, expires_at, .. } = match errand.mint() {
        Ok(minted) => minted,
        Err(NoToken { denied, perhaps_made }) => {
            let answered = refuse(&denied);
            if perhaps_made {
                process::release_memory();
                revoke_lost(|time| errand.revoke_lost(time), pause, &mut log);
            }
            return answered;
        }
    };
    let line = |outcome: &str| Line::new(Event::Keeper).with("outcome", outcome).with("token_id", &id);
    log.info(line("made").with("expires_at", &expires_at));
    let sent = socket::send(gateway.as_fd(), &wire::keeper::token(token.expose()), &[]);
    drop(token);
    process::release_memory();
    // Nobody takes it: the gateway was killed, or waits no longer.
    let hurried = sent.is_ok() && asked_to_end(gateway.as_fd(), terminated.as_fd());

    let mut told = false;
    let attempt = |time| {
        let result = errand.revoke(&id, time);
        if let (Err(why), false, false) = (&result, told, hurried) {
            log.warning(line("not-revoked").with("reason", why).message("tried again for ten minutes"));
            told = true;
        }
        result
    };
    match persist(hurried, attempt, pause) {
        Ok(Revoked::Now) => log.info(line("revoked")),
        Ok(Revoked::Gone) => log.info(line("gone")),
        Ok(Revoked::Another) => {
            log.warning(line("gone").message("what has its id now has another note"));
        }
        Err(why) => log.warning(line("not-revoked").with("expires_at", &expires_at).with("reason", why)),
    }
    Ok(())
}

/// Waits for the gateway's end. Returns true if this process was asked to end first.
fn asked_to_end(gateway: BorrowedFd<'_>, terminated: BorrowedFd<'_>) -> bool {
    loop {
        match readable_before(&[gateway, terminated], Instant::now() + IDLE) {
            Ok(None) => {}
            Ok(Some(which)) => return which == 1,
            Err(_) => return false,
        }
    }
}

/// Tries until it succeeds, for ten minutes. `attempt` gets its time limit; `pause` waits, and
/// returns true if there is no time left: one more attempt is then the last.
fn persist<T>(
    mut hurried: bool,
    mut attempt: impl FnMut(Duration) -> Result<T, String>,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<T, String> {
    let mut pauses = [1, 2, 4, 8, 15, 30].into_iter().chain(std::iter::repeat_n(60, 9));
    loop {
        let why = match attempt(if hurried { LAST_TIME } else { REVOKE_TIME }) {
            Ok(done) => return Ok(done),
            Err(why) => why,
        };
        match pauses.next() {
            Some(seconds) if !hurried => hurried = pause(Duration::from_secs(seconds)),
            _ => return Err(why),
        }
    }
}

/// Finds and revokes a token for which the hub's answer was lost.
///
/// The request may still be on its way to the hub, so this looks more than once, [`LOOKS`] apart.
/// `attempt` gets its time limit and returns the id of the token that it found; `pause` waits, and
/// returns true if there is no time left.
fn revoke_lost(
    mut attempt: impl FnMut(Duration) -> Result<Option<String>, String>,
    mut pause: impl FnMut(Duration) -> bool,
    log: &mut Log,
) {
    let mut last = Ok(None);
    for wait in LOOKS {
        let hurried = pause(wait);
        last = attempt(if hurried { LAST_TIME } else { REVOKE_TIME });
        if hurried || matches!(last, Ok(Some(_))) {
            break;
        }
    }
    match last {
        Ok(Some(id)) => log.info(
            Line::new(Event::Keeper)
                .with("outcome", "revoked")
                .with("token_id", id)
                .message("it was made, but the hub's answer was lost"),
        ),
        Ok(None) => {}
        Err(why) => log.warning(
            Line::new(Event::Keeper)
                .with("outcome", "not-revoked")
                .with("reason", why)
                .message("the hub may have made a token for this login, which nobody has"),
        ),
    }
}

/// Why there is no token for a login.
struct NoToken {
    denied: Denied,
    /// True if the hub may have made one, as its answer is not known.
    perhaps_made: bool,
}

/// What a keeper does for its login.
struct Errand {
    config: Config,
    hub: HubUrl,
    user: String,
    wanted: Wanted,
}

impl Errand {
    fn new(login: &KeyLogin, config: Result<Config, ConfigError>) -> Result<Self, Denied> {
        let config = config.map_err(|e| Denied::unconfigured(&e))?;
        let hub = config.hub_url().map_err(|e| Denied::unconfigured(&e))?.clone();
        let user = login.user.user().as_str();
        let server = login.user.server().map_or("", |server| server.as_str());
        let needs_groups = !config.login.allow_groups.is_empty()
            || config.shares.iter().any(|share| !share.groups.is_empty());
        let wanted = Wanted {
            // The connection's name makes it unlike any other token's note.
            note: printable(
                &format!("jupyterhub-openssh: ssh from {} by key, session {}", login.peer, login.session),
                200,
            ),
            expires_in: config.keys.token_lifetime.as_secs(),
            scopes: tokens::scopes(user, server, needs_groups),
        };
        Ok(Self { user: user.to_owned(), config, hub, wanted })
    }

    fn mint(&self) -> Result<Minted, NoToken> {
        let (http, service) = self.service().map_err(|denied| NoToken { denied, perhaps_made: false })?;
        let made = tokens::mint(&http, &service, &self.user, &self.wanted, MINT_TIME);
        if let Ok(Minted { id, narrow: false, .. }) = &made {
            // Do not use it: the user's server would see it.
            let which = (id.as_str(), self.wanted.note.as_str());
            let left = tokens::revoke(&http, &service, &self.user, which, REVOKE_TIME).is_err();
            let error = MintError::Rejected(TOO_WIDE.to_owned());
            let denied = Denied::Unavailable { for_user: error.for_user(), for_log: error.for_log() };
            return Err(NoToken { denied, perhaps_made: left });
        }
        made.map_err(|error| {
            let (for_user, for_log) = (error.for_user(), error.for_log());
            let denied = if error.is_refusal() {
                Denied::Refused { for_user, for_log }
            } else {
                Denied::Unavailable { for_user, for_log }
            };
            NoToken { denied, perhaps_made: error.may_have_made_one() }
        })
    }

    fn revoke(&self, id: &str, time: Duration) -> Result<Revoked, String> {
        let (http, service) = self.service().map_err(|denied| denied.for_log().to_owned())?;
        tokens::revoke(&http, &service, &self.user, (id, &self.wanted.note), time)
    }

    /// Revokes a token whose making was not confirmed, and returns its id.
    fn revoke_lost(&self, time: Duration) -> Result<Option<String>, String> {
        let until = Instant::now() + time;
        let (http, service) = self.service().map_err(|denied| denied.for_log().to_owned())?;
        let note = &self.wanted.note;
        let Some(id) = tokens::find(&http, &service, &self.user, note, time)? else { return Ok(None) };
        let left = until.saturating_duration_since(Instant::now());
        tokens::revoke(&http, &service, &self.user, (&id, note), left)?;
        Ok(Some(id))
    }

    /// The service's token, and a client to use it with. Both are read and created for each use and
    /// then dropped, so that the token can be changed while connections are open.
    fn service(&self) -> Result<(Http, Token), Denied> {
        let unavailable =
            |for_user: &str, for_log: String| Denied::Unavailable { for_user: for_user.to_owned(), for_log };
        let Some(file) = &self.config.keys.service_token_file else {
            return Err(unavailable(
                "Key login is off on this host.\nLog in with a token: ssh -o PubkeyAuthentication=no …",
                "keys.service_token_file is not set: nobody can log in by key".to_owned(),
            ));
        };
        let token = service_token::read(file).map_err(|e| {
            let for_user = "This host cannot ask its hub about you.\n\
                 Log in with a token (ssh -o PubkeyAuthentication=no …), and tell this host's administrator, whose log says why.";
            unavailable(for_user, printable(&e.to_string(), 1000))
        })?;
        let http =
            new_http(&self.config, &self.hub).map_err(|e| unavailable(&e.for_user(), e.to_string()))?;
        Ok((http, token))
    }
}

impl Keeper {
    /// Waits for the token.
    ///
    /// # Errors
    /// There is no token: why.
    pub fn token(&self, until: Instant) -> Result<Token, Denied> {
        let failed = |for_log: String| Denied::Unavailable {
            for_user: "This host could not get you a token of the hub.\n\
                 Try again; if that does not help, tell its administrator: its log names the reason."
                .to_owned(),
            for_log,
        };
        match readable_before(&[self.0.as_fd()], until) {
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(Denied::Unavailable {
                    for_user: "The hub did not answer in time.\n\
                         Try again in a minute; if that does not help, tell the administrator of this host."
                        .to_owned(),
                    for_log: "the hub made no token in time".to_owned(),
                });
            }
            Err(e) => return Err(failed(format!("cannot wait for the keeper: {e}"))),
        }
        let mut buffer = Zeroizing::new(vec![0; MAX_MESSAGE]);
        let length = match socket::recv(self.0.as_fd(), &mut buffer, 0) {
            Ok((0, _)) => return Err(failed("the keeper ended without an answer".to_owned())),
            Ok((length, _)) => length,
            Err(e) => return Err(failed(format!("no answer from the keeper: {e}"))),
        };
        let message = buffer.get(..length).unwrap_or_default();
        match wire::keeper::parse(message) {
            Some(Ok(token)) => Token::parse(token).map_err(|_| failed("the keeper sent no token".to_owned())),
            Some(Err(denied)) => Err(denied),
            None => Err(failed("the keeper's answer was not understood".to_owned())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    fn heard(message: Option<&[u8]>) -> Result<Token, Denied> {
        let (ours, keepers) = socket::pair().unwrap();
        if let Some(message) = message {
            socket::send(keepers.as_fd(), message, &[]).unwrap();
        }
        drop(keepers);
        Keeper(ours).token(soon())
    }

    fn log_of(result: Result<Token, Denied>) -> String {
        result.unwrap_err().for_log().to_owned()
    }

    #[test]
    fn a_token_or_the_reason_why_not() {
        let token = Token::parse("m1nted").unwrap();
        assert_eq!(heard(Some(&wire::keeper::token(token.expose()))).unwrap().expose(), "m1nted");
        let denied =
            Denied::Refused { for_user: "No.\nDo \"this\".".to_owned(), for_log: "a reason".to_owned() };
        assert_eq!(heard(Some(&wire::keeper::refusal(&denied))).unwrap_err(), denied);
        assert!(log_of(heard(None)).contains("ended without an answer"));
        for bad in [&b"{}"[..], b"token ", b"token a b", b"token \xff", b"tokenabc", b"\0"] {
            assert!(matches!(heard(Some(bad)), Err(Denied::Unavailable { .. })), "{bad:?}");
        }
        let long = Denied::Refused { for_user: String::new(), for_log: "x".repeat(2 * MAX_MESSAGE) };
        assert!(log_of(heard(Some(&wire::keeper::refusal(&long)))).contains("not understood"));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (ours, _keepers) = socket::pair().unwrap();
        assert!(log_of(Keeper(ours).token(soon())).contains("in time"));
    }

    #[test]
    fn the_end_of_the_gateway_is_seen_and_so_is_a_request_to_end() {
        let (ours, keepers) = socket::pair().unwrap();
        let (quiet, end) = nix::unistd::pipe().unwrap();
        drop(ours);
        assert!(!asked_to_end(keepers.as_fd(), quiet.as_fd()));
        let (_ours, keepers) = socket::pair().unwrap();
        drop(end);
        assert!(asked_to_end(keepers.as_fd(), quiet.as_fd()));
    }

    #[test]
    fn revoking_is_tried_for_ten_minutes() {
        let (mut attempts, mut waited) = (0, Duration::ZERO);
        let result = persist(
            false,
            |time| {
                assert_eq!(time, REVOKE_TIME);
                attempts += 1;
                Err::<(), _>(format!("no {attempts}"))
            },
            |pause| {
                waited += pause;
                false
            },
        );
        assert_eq!((result, waited), (Err("no 16".to_owned()), Duration::from_secs(600)));
        let mut failures = 3;
        let second = |_| {
            failures -= 1;
            if failures == 0 { Ok(()) } else { Err(String::new()) }
        };
        assert_eq!(persist(false, second, |_| false), Ok(()));
    }

    #[test]
    fn a_lost_token_is_looked_for_more_than_once() {
        let looks = |answers: &[Result<Option<String>, String>], hurry_at: usize| {
            let (mut asked, mut waited) = (0, 0);
            let attempt = |_| {
                asked += 1;
                answers.get(asked - 1).cloned().unwrap_or(Ok(None))
            };
            let pause = |_| {
                waited += 1;
                waited == hurry_at
            };
            revoke_lost(attempt, pause, &mut Log::discarding());
            asked
        };
        assert_eq!(looks(&[], 0), LOOKS.len());
        assert_eq!(looks(&[Ok(Some("a1".to_owned()))], 0), 1);
        assert_eq!(looks(&[Err("down".to_owned()), Ok(None), Ok(Some("a1".to_owned()))], 0), 3);
        assert_eq!(looks(&[Ok(None), Ok(None)], 2), 2, "asked to end, it looks once more");
    }

    #[test]
    fn who_is_asked_to_end_tries_once_more() {
        let mut times = Vec::new();
        let fails = |time| {
            times.push(time);
            Err::<(), _>("down".to_owned())
        };
        assert!(persist(true, fails, |_| unreachable!("who is in a hurry does not wait")).is_err());
        assert_eq!(times, [LAST_TIME]);
        let mut times = Vec::new();
        let fails = |time| {
            times.push(time);
            Err::<(), _>("down".to_owned())
        };
        assert!(persist(false, fails, |_| true).is_err());
        assert_eq!(times, [REVOKE_TIME, LAST_TIME]);
    }
}
