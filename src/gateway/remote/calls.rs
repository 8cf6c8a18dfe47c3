//! The slow calls to the user's server: open a terminal, reconnect to it, delete it. Each runs as a
//! job ([`crate::job`]).

use super::life::RECONNECT;
use super::own_server::{self, NoTerminal, server_path};
use crate::access::{Access, Foreign};
use crate::job::Cancel;
use hub::error::{Fault, HttpError};
use hub::http::{Call, Http};
use hub::locate::locate;
use hub::progress::Progress;
use hub::start::{Start, StartError, ensure_running};
use hub::text::printable;
use server::terminado::rest::{self, CreateError, Deleted, Kind, TerminalName};
use server::terminado::socket::{ConnectError, TerminalSocket, Tls};
use std::io;
use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time for one REST call to the user's server. Opening a terminal takes a tenth of a second; a
/// server that takes longer than this is as good as frozen.
const CALL: Duration = Duration::from_secs(15);
/// Time for the TCP connection, TLS and the WebSocket handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for the hub's proxy to learn the route to a server that the hub calls ready.
const SETTLE: Duration = Duration::from_secs(10);
/// The same while the answers may come from the server itself, which then is not a Jupyter server.
const SETTLE_ELSEWHERE: Duration = Duration::from_secs(2);
/// A terminal is given up when the server denies it for this long. A proxy that has just started
/// answers 404, too, until the hub has told it the route.
const DENIED: Duration = Duration::from_secs(8);
/// How long to retry deleting a terminal while the server cannot be reached.
const DELETE: Duration = Duration::from_secs(15);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// A terminal of the user's server, with a WebSocket to it.
pub struct Remote {
    /// Its name, for reconnecting and deleting.
    pub name: TerminalName,
    /// The connection.
    pub socket: TerminalSocket,
}

/// The bodies of the two requests for a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Bodies<'a> {
    /// Asks for our command.
    pub body: &'a str,
    /// Asks for the server's own shell, if the server fails at the other.
    pub plain: &'a str,
}

/// Opens a terminal, and starts the server first if it does not run. If the server fails at our
/// command, it is asked once more for its own shell.
///
/// # Errors
/// [`NoTerminal`]: why. A terminal that was created but could not be connected has been deleted
/// again.
pub fn open(
    access: &Access,
    bodies: Bodies<'_>,
    cancel: &Cancel,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<Remote, NoTerminal> {
    let http = access.http().map_err(|e| NoTerminal::new(e.for_user(), e.to_string()))?;
    let name = make(&http, access, bodies, cancel, on_progress)?;
    attach(access, name)
}

/// Makes a terminal: see [`open`].
fn make(
    http: &Http,
    access: &Access,
    Bodies { body, plain }: Bodies<'_>,
    cancel: &Cancel,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<TerminalName, NoTerminal> {
    find(http, access);
    let mut created = create(http, access, body);
    if let Err(Creation::Refused(refusal)) = &created {
        if own_server::is_down(http, access, *refusal)? {
            start(http, access, cancel, on_progress)?;
            find(http, access);
            created = create_when_settled(http, access, body, cancel);
        } else if refusal.may_be_anothers() {
            // It may have started meanwhile.
            created = create(http, access, body);
        }
    }
    if let (Err(Creation::Refused(CreateError::Failed(_))), true) = (&created, body != plain) {
        created = create(http, access, plain);
    }
    created.map_err(|e| e.explain(http, access))
}

/// Opens a terminal of a server that runs. Starts nothing.
///
/// # Errors
/// As for [`open`].
pub fn open_only(access: &Access, body: &str) -> Result<Remote, NoTerminal> {
    let http = access.http().map_err(|e| NoTerminal::new(e.for_user(), e.to_string()))?;
    let name = create(&http, access, body).map_err(|e| e.explain(&http, access))?;
    attach(access, name)
}

fn attach(access: &Access, name: TerminalName) -> Result<Remote, NoTerminal> {
    match connect(access, &name) {
        Ok(socket) => Ok(Remote { name, socket }),
        Err(e) => {
            let _ = delete(access, &name);
            Err(NoTerminal::new(
                "Your server opened a terminal, but the connection to it failed.\n\
                 Try again; if that does not help, tell the administrator: its proxy may not pass WebSockets on.",
                format!("WebSocket to terminal {name}: {e}"),
            ))
        }
    }
}

/// Asks the hub where the server is, unless the hub has said so. A server that is not active has no
/// address yet.
fn find(http: &Http, access: &Access) {
    if !access.is_located() {
        access.heed(locate(http, access.hub_token(), access.user(), access.server(), CALL).as_deref());
    }
}

fn start(
    http: &Http,
    access: &Access,
    cancel: &Cancel,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<(), NoTerminal> {
    let start = Start {
        user: access.user(),
        server: access.server(),
        timeout: access.config().settings.hub.start_timeout,
        cancel: cancel.flag(),
    };
    // Shown if the start takes longer than a second, until the hub says something itself.
    on_progress(&Progress { percent: None, message: "waiting for the hub".to_owned() });
    let mut report = |progress: &Progress| {
        on_progress(progress);
        ControlFlow::Continue(())
    };
    let began = Instant::now();
    let outcome = ensure_running(http, access.hub_token(), start, &mut report);
    if !cancel.is_cancelled() {
        access.meter().server_start(outcome.is_ok().then(|| began.elapsed()));
    }
    outcome.map_err(|e: StartError| {
        NoTerminal::new(e.for_user(&access.home_page()), format!("server not started: {}", e.for_log()))
    })
}

/// Why a POST created no terminal.
enum Creation {
    Refused(CreateError),
    Failed(HttpError),
    /// The server is at an address to which no token may go.
    Foreign(Foreign),
    /// The server has a host name of its own, which cannot be reached.
    Apart(HttpError),
}

impl Creation {
    /// How long after the start of a server this may still turn into a success. Its proxy may not
    /// know the route yet; what the server itself answers is final.
    fn patience(&self) -> Duration {
        match self {
            Self::Refused(CreateError::NotRunning(_)) => SETTLE,
            Self::Refused(refusal) if refusal.may_be_anothers() => SETTLE_ELSEWHERE,
            Self::Failed(e) | Self::Apart(e) if e.is_passing() => SETTLE,
            Self::Refused(_) | Self::Failed(_) | Self::Apart(_) | Self::Foreign(_) => Duration::ZERO,
        }
    }

    fn explain(&self, http: &Http, access: &Access) -> NoTerminal {
        let refusal = match self {
            Self::Failed(e) => return NoTerminal::new(e.for_user(), format!("no terminal: {e}")),
            Self::Foreign(foreign) => {
                return NoTerminal::new(foreign.for_user(), format!("no terminal: {foreign}"));
            }
            Self::Apart(e) => {
                let for_user = "This host reaches the hub, but not your server, which has a host name of its own.\n\
                                Tell the administrator of this host; its log names the reason.";
                return NoTerminal::new(
                    for_user,
                    format!("no terminal: {e}; jupyterhub-openssh check --user helps"),
                );
            }
            Self::Refused(refusal) => *refusal,
        };
        let kind = match refusal {
            CreateError::NotRunning(_) => Kind::Unknown,
            _ => own_server::kind(http, access),
        };
        let for_user = match (refusal, kind) {
            (CreateError::NotRunning(_), _) => {
                "Your server cannot be reached, although the hub says that it is running.\n\
                 Try again in a minute, or stop and start it on the hub's home page."
            }
            (_, Kind::Other(_)) | (CreateError::Unexpected(_) | CreateError::BadAnswer, Kind::Unknown) => {
                return NoTerminal::new(
                    own_server::no_jupyter(access),
                    format!("no terminal: {refusal}; {kind}"),
                );
            }
            (CreateError::Forbidden, _) => {
                "Your server does not accept this token.\n\
                 Make a new one on the hub's token page; if that does not help, restart your server."
            }
            (CreateError::NoTerminals, _) => {
                "Your server offers no terminals.\nAsk the hub's administrator to switch them on."
            }
            (CreateError::Failed(_) | CreateError::BadAnswer | CreateError::Unexpected(_), _) => {
                "Your server could not open a terminal.\n\
                 Try it in the browser; if that fails too, restart your server on the hub's home page."
            }
        };
        NoTerminal::new(for_user, format!("no terminal: {refusal}"))
    }
}

fn create(http: &Http, access: &Access, body: &str) -> Result<TerminalName, Creation> {
    let path = server_path(access, &["api", "terminals"]);
    let hub = access.server_hub().map_err(Creation::Foreign)?;
    let http = &http.at(&hub).map_err(Creation::Failed)?;
    let mut call = Call::post(&path, CALL);
    call.body = Some(body.as_bytes().to_vec());
    let token = access.server_token().map_err(Creation::Failed)?;
    match http.call(&token, call) {
        Ok(reply) => rest::interpret_created(reply.status, &reply.body).map_err(Creation::Refused),
        Err(HttpError { fault: Fault::Redirect { status, target }, .. }) => {
            Err(Creation::Refused(rest::interpret_redirect(status, http.base().as_str(), &target)))
        }
        // Nobody describes a terminal at such length.
        Err(HttpError { fault: Fault::TooLarge(_), .. }) => Err(Creation::Refused(CreateError::BadAnswer)),
        Err(e) if hub.host() != access.hub().host() && e.is_about_the_host() => Err(Creation::Apart(e)),
        Err(e) => Err(Creation::Failed(e)),
    }
}

fn create_when_settled(
    http: &Http,
    access: &Access,
    body: &str,
    cancel: &Cancel,
) -> Result<TerminalName, Creation> {
    let began = Instant::now();
    loop {
        let result = create(http, access, body);
        let Err(failure) = &result else { return result };
        if began.elapsed() >= failure.patience() || cancel.is_cancelled() {
            return result;
        }
        // What Jupyter says about itself is final.
        let own = matches!(failure, Creation::Refused(refusal) if refusal.may_be_anothers());
        if own && own_server::kind(http, access) == Kind::Jupyter {
            return result;
        }
        sleep(PAUSE);
    }
}

/// Why a terminal cannot be reconnected.
#[derive(Debug)]
pub enum Lost {
    /// The terminal no longer exists: the server was stopped or has ended it.
    Gone,
    /// It could not be reconnected within [`RECONNECT`]; the last error.
    TimedOut(String),
}

/// Reconnects to a terminal whose WebSocket has dropped, for up to [`RECONNECT`].
///
/// # Errors
/// [`Lost`]: why it cannot be had back.
pub fn reconnect(access: &Access, name: &TerminalName, cancel: &Cancel) -> Result<TerminalSocket, Lost> {
    let until = Instant::now() + RECONNECT;
    let mut denied_since = None;
    loop {
        // First the server has to notice that the old connection is gone: attaching while it closes
        // can lose output.
        sleep(PAUSE);
        let (denied, why) = match connect(access, name) {
            Ok(socket) => return Ok(socket),
            Err(e) => {
                (matches!(e, ConnectError::Status(s) if s != 502 && s != 503 && s != 504), e.to_string())
            }
        };
        let now = Instant::now();
        if !denied {
            denied_since = None;
        } else if now >= *denied_since.get_or_insert(now) + DENIED {
            return Err(Lost::Gone);
        }
        if now >= until || cancel.is_cancelled() {
            return Err(Lost::TimedOut(why));
        }
    }
}

/// Deletes a terminal: the server hangs up on what runs in it.
///
/// # Errors
/// It may still be there: a line for the log.
pub fn delete(access: &Access, name: &TerminalName) -> Result<(), String> {
    let until = Instant::now() + DELETE;
    let path = server_path(access, &["api", "terminals", name.as_str()]);
    loop {
        let hub = access.server_hub().map_err(|e| e.to_string())?;
        let http = access.http().and_then(|http| http.at(&hub)).map_err(|e| e.to_string())?;
        let mut call = Call::get(&path, CALL);
        call.method = reqwest::Method::DELETE;
        let why = match access.server_token().and_then(|token| http.call(&token, call)) {
            Ok(reply) => match rest::interpret_deleted(reply.status, &reply.body) {
                Deleted::Done | Deleted::WasGone => return Ok(()),
                Deleted::Unknown(status) => format!("status {status}"),
            },
            Err(HttpError { fault: Fault::Redirect { .. }, .. }) => return Ok(()),
            Err(e) => e.to_string(),
        };
        if Instant::now() >= until {
            return Err(printable(&why, 300));
        }
        sleep(PAUSE);
    }
}

fn connect(access: &Access, name: &TerminalName) -> Result<TerminalSocket, ConnectError> {
    let hub = access.server_hub().map_err(|_| ConnectError::BadUrl)?;
    let tls =
        hub.is_https().then(|| Tls::new(access.config().settings.hub.ca_file.as_deref())).transpose()?;
    let url = format!("{}/{}", hub.user_server(access.login()), name.websocket());
    let token = access.server_token().map_err(|e| ConnectError::Unreachable(io::Error::other(e)))?;
    TerminalSocket::connect(&url, &token, tls.as_ref(), CONNECT)
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
