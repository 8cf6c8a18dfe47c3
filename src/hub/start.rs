//! Starts a user's server and waits until it is ready.

use super::error::HttpError;
use super::follow::{Background, Message};
use super::http::{Http, Reply};
use super::model::{self, Refusal, ServerState};
use super::progress::{Event, Progress};
use super::reply::{self, Answer};
use super::text::unstopped;
use host::secret::Token;
use reqwest::Method;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often cancellation and the deadline are checked.
const TICK: Duration = Duration::from_millis(200);
/// The hub keeps `POST …/server` open while the server starts, up to 10 s (`slow_spawn_timeout`).
/// After this time we show the server's progress meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time limit for asking for the server's state.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many consecutive failures of the hub, or of a proxy in front of it, are tolerated: with
/// waits of 1 + 2 + 4 + 8 + 8 s, enough for a restart of the hub.
const MAX_FAILURES: u32 = 5;
/// Wait between two checks whether a stopping server has stopped.
const STOPPING: Duration = Duration::from_secs(1);

/// Longest time limit for a start.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Which server to start, and how long to try.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The hub user.
    pub user: &'a str,
    /// The server's name; empty for the default server.
    pub server: &'a str,
    /// Time limit for everything, at most a day.
    pub timeout: Duration,
    /// Set it to give up; it is checked several times a second.
    pub cancel: &'a AtomicBool,
}

/// Why the server is not up. Texts of the hub are printable single lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// The cancel flag was set, or the progress callback returned `Break`.
    Cancelled,
    /// Not ready within this time; the last thing that the hub said about it.
    TimedOut(Duration, String),
    /// The token may not start the server, or has been revoked meanwhile.
    NotAllowed(String),
    /// The hub does not know this user or server, or shows neither to this token.
    NotFound(String),
    /// The hub is full or busy for longer than the time limit.
    Full(String),
    /// The hub has only default servers, and this is a named one.
    NoNamedServers(String),
    /// The hub refuses: limit of named servers, bad name, a hook of the administrator.
    Rejected(String),
    /// The server was started and failed.
    Failed(String),
    /// The hub cannot be reached or understood: two lines for the user, and one for the log.
    Unavailable(String, String),
}

impl StartError {
    /// Two lines for the user: what happened, what to do. `home_page` is where the hub shows the
    /// user's servers.
    #[must_use]
    pub fn for_user(&self, home_page: &str) -> String {
        let said = |text: &str| match unstopped(text) {
            "" => ".".to_owned(),
            text => format!(": {text}."),
        };
        match self {
            Self::Cancelled => "Starting your server was cancelled.\nLog in again to start it.".to_owned(),
            Self::TimedOut(after, last) => {
                let last =
                    if last.is_empty() { String::new() } else { format!(" (last: {})", unstopped(last)) };
                format!(
                    "The server was not ready after {} s{last}.\nIt may still come up: see {home_page}, and log in again.",
                    after.as_secs()
                )
            }
            Self::NotAllowed(text) => format!(
                "The hub does not allow this token to start the server{}\n\
                 Start it at {home_page}, or use a token that may (scope servers, or no scopes set).",
                said(text)
            ),
            Self::NotFound(text) => {
                format!("The hub does not find this server{}\nLook for it at {home_page}.", said(text))
            }
            Self::Full(text) => {
                format!("The hub cannot start the server now{}\nLog in again later.", said(text))
            }
            Self::NoNamedServers(server) => format!(
                "The hub has no server \"{server}\" for you: named servers are switched off there.\n\
                 Log in by your user name alone, which opens your default server."
            ),
            Self::Rejected(text) => {
                format!(
                    "The hub does not start this server{}\nSee {home_page}, or ask the hub's administrator.",
                    said(text)
                )
            }
            Self::Failed(text) => format!(
                "The server did not start{}\nTry it at {home_page}, where its options can be changed.",
                said(text)
            ),
            Self::Unavailable(for_user, _) => for_user.clone(),
        }
    }

    /// One line for the log.
    #[must_use]
    pub fn for_log(&self) -> String {
        let (what, text) = match self {
            Self::Cancelled => ("cancelled", ""),
            Self::TimedOut(after, last) if last.is_empty() => {
                return format!("not ready after {} s", after.as_secs());
            }
            Self::TimedOut(after, last) => {
                return format!("not ready after {} s, last message: {last}", after.as_secs());
            }
            Self::NotAllowed(text) => ("the token may not start the server", text.as_str()),
            Self::NotFound(text) => ("no such user or server, or not for this token", text.as_str()),
            Self::Full(text) => ("the hub is full or busy", text.as_str()),
            Self::NoNamedServers(server) => ("named servers are switched off on the hub", server.as_str()),
            Self::Rejected(text) => ("the hub refuses to start the server", text.as_str()),
            Self::Failed(text) => ("the spawn failed", text.as_str()),
            Self::Unavailable(_, text) => ("the hub cannot be talked to", text.as_str()),
        };
        if text.is_empty() { what.to_owned() } else { format!("{what}: {text}") }
    }
}

impl From<HttpError> for StartError {
    fn from(error: HttpError) -> Self {
        Self::Unavailable(error.for_user(), error.to_string())
    }
}

/// Starts the server unless it is running, and returns when the hub says that it is ready.
///
/// The server's saved options are used again, as the hub does for a start without any.
/// `on_progress` is called for each step, for the first time after half a second at the earliest;
/// `Break` gives up.
/// Giving up, either way, takes effect within half a second; the start itself continues in the hub.
///
/// # Errors
/// The server is not up, and why: [`StartError`].
pub fn ensure_running(
    http: &Http,
    token: &Token,
    start: Start<'_>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<(), StartError> {
    let mut path = vec!["hub", "api", "users", start.user];
    if start.server.is_empty() {
        path.push("server");
    } else {
        path.extend(["servers", start.server]);
    }
    let progress_path = [path.as_slice(), &["progress"]].concat();
    let deadline = Instant::now() + start.timeout.min(MAX_TIMEOUT);
    let background = Background::new(http, token);
    Run {
        start,
        path,
        progress_path,
        deadline,
        background,
        on_progress,
        last: String::new(),
        percent: None,
        failures: 0,
    }
    .run()
}

struct Run<'a> {
    start: Start<'a>,
    path: Vec<&'a str>,
    progress_path: Vec<&'a str>,
    deadline: Instant,
    background: Background<'a>,
    on_progress: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
    /// The last message shown, and its percentage.
    last: String,
    percent: Option<u8>,
    /// Consecutive failures of the hub.
    failures: u32,
}

/// How following a start ended.
enum Followed {
    Ready,
    /// The server is neither up nor starting.
    Stopped,
    Stopping,
    /// The token may not see the server.
    Blind,
}

impl Run<'_> {
    fn run(&mut self) -> Result<(), StartError> {
        let mut stopped = 0;
        loop {
            let answer = self.post()?;
            match answer {
                Answer::Running => return Ok(()),
                Answer::Started | Answer::Starting => match self.follow()? {
                    Followed::Ready => return Ok(()),
                    // The hub's answer is all we have. After "starting" we ask again: the hub then
                    // answers at once.
                    Followed::Blind if answer == Answer::Started => return Ok(()),
                    Followed::Blind | Followed::Stopping => self.pause(STOPPING)?,
                    // The hub may have restarted meanwhile, so the first time is not a failure of
                    // the server.
                    Followed::Stopped if stopped == 0 => stopped += 1,
                    Followed::Stopped => {
                        return Err(StartError::Failed("it stopped again right after its start".to_owned()));
                    }
                },
                Answer::Pending(what) => {
                    let what = if what == "stop" { "stopping" } else { "busy" };
                    let message = format!("The server is still {what}; it is started after that");
                    self.show(Progress { percent: None, message })?;
                    self.pause(STOPPING)?;
                }
                Answer::Later(after, text) => {
                    if Instant::now() + after >= self.deadline {
                        return Err(StartError::Full(text));
                    }
                    // The hub's own text names a rounded time that differs from the one it asks
                    // for.
                    let message = format!(
                        "The hub is starting too many servers; next attempt in {} s",
                        after.as_secs()
                    );
                    self.show(Progress { percent: None, message })?;
                    self.pause(after)?;
                }
                Answer::Full(text) => return Err(StartError::Full(text)),
                Answer::NotAllowed(text) => return Err(StartError::NotAllowed(text)),
                Answer::NotFound(text) => return Err(StartError::NotFound(text)),
                Answer::Rejected(text) if text == NO_NAMED_SERVERS => {
                    return Err(StartError::NoNamedServers(self.start.server.to_owned()));
                }
                Answer::Rejected(text) => return Err(StartError::Rejected(text)),
                // A server that exits at once: the hub answers 500 without a reason while the spawn
                // is still pending, and knows the reason later.
                Answer::Failed(text) if text.is_empty() || text == "Internal Server Error" => {
                    return match self.follow()? {
                        Followed::Ready => Ok(()),
                        _ => Err(StartError::Failed(text)),
                    };
                }
                Answer::Failed(text) => return Err(StartError::Failed(text)),
                // `back_off` has already waited.
                Answer::Unsteady(_) => {}
            }
        }
    }

    /// Asks the hub to start the server, and shows the progress if the answer takes long. The
    /// stream's verdict decides nothing here: until the hub has received the request, it may be
    /// about an earlier attempt.
    fn post(&mut self) -> Result<Answer, StartError> {
        self.background.close_stream();
        self.background.request(Method::POST, &self.path, self.left()?)?;
        let asked = Instant::now();
        let mut opened = false;
        loop {
            if !opened && asked.elapsed() >= PATIENCE {
                self.open_stream()?;
                opened = true;
            }
            match self.next()? {
                Some(Message::Answer(answer)) => return self.posted(answer),
                Some(Message::Event(Event::Progress(progress))) => self.show(progress)?,
                Some(Message::Event(Event::Ready | Event::Failed(_))) => self.background.close_stream(),
                Some(Message::StreamEnd) | None => {}
            }
        }
    }

    fn posted(&mut self, answer: Result<Reply, HttpError>) -> Result<Answer, StartError> {
        match answer.map(|reply| reply::read(&reply)) {
            Ok(Answer::Unsteady(why)) => {
                self.back_off(unsteady(why.clone()))?;
                Ok(Answer::Unsteady(why))
            }
            Ok(answer) => {
                self.failures = 0;
                Ok(answer)
            }
            Err(error) if error.is_passing() => {
                let why = error.to_string();
                self.back_off(error.into())?;
                Ok(Answer::Unsteady(why))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the end of a start that the hub has confirmed.
    fn follow(&mut self) -> Result<Followed, StartError> {
        // A stream that has stayed open since before the hub's answer is about this start: only a
        // pending start keeps it open. After a start has ended, the hub repeats its verdict in
        // every new stream.
        if !self.background.is_streaming() {
            self.open_stream()?;
        }
        loop {
            match self.next()? {
                Some(Message::Event(Event::Progress(progress))) => self.show(progress)?,
                Some(Message::Event(Event::Ready)) => return Ok(Followed::Ready),
                Some(Message::Event(Event::Failed(text))) => {
                    let text = text.strip_prefix("Spawn failed:").map_or(text.as_str(), str::trim);
                    return Err(StartError::Failed(text.to_owned()));
                }
                // No stream (not starting, not visible), or the stream broke (a proxy restarted):
                // ask for the state.
                Some(Message::StreamEnd) => match self.poll()? {
                    Some(ServerState::Ready) => return Ok(Followed::Ready),
                    Some(ServerState::Stopped) => return Ok(Followed::Stopped),
                    Some(ServerState::Stopping) => return Ok(Followed::Stopping),
                    Some(ServerState::Unknown) => return Ok(Followed::Blind),
                    Some(ServerState::Starting | ServerState::Busy) => {
                        self.pause(STOPPING)?;
                        self.open_stream()?;
                    }
                    None => self.open_stream()?,
                },
                Some(Message::Answer(_)) | None => {}
            }
        }
    }

    /// Asks for the server's state; `None` after a failure that has been waited out.
    fn poll(&mut self) -> Result<Option<ServerState>, StartError> {
        self.background.request(Method::GET, &["hub", "api", "user"], self.left()?.min(POLL_TIMEOUT))?;
        let answer = loop {
            if let Some(Message::Answer(answer)) = self.next()? {
                break answer;
            }
        };
        let trouble = match answer {
            Ok(Reply { status: 200, body, .. }) => {
                match model::verify(&body, self.start.user, self.start.server) {
                    Ok(verified) => {
                        self.failures = 0;
                        return Ok(Some(verified.state));
                    }
                    Err(refusal @ Refusal::NotUnderstood(_)) => unsteady(refusal.for_log()),
                    Err(_) => return Err(StartError::NotAllowed(REVOKED.to_owned())),
                }
            }
            Ok(Reply { status: 401 | 403, .. }) => return Err(StartError::NotAllowed(REVOKED.to_owned())),
            Ok(reply) => unsteady(format!("GET /hub/api/user: status {}", reply.status)),
            Err(error) if error.is_passing() => error.into(),
            Err(error) => return Err(error.into()),
        };
        self.back_off(trouble)?;
        Ok(None)
    }

    fn open_stream(&mut self) -> Result<(), StartError> {
        let left = self.left()?;
        Ok(self.background.open_stream(&self.progress_path, left)?)
    }

    /// Waits after a failure of the hub, longer each time; too many consecutive failures are an
    /// error.
    fn back_off(&mut self, trouble: StartError) -> Result<(), StartError> {
        self.failures += 1;
        if self.failures > MAX_FAILURES {
            return Err(trouble);
        }
        let wait = Duration::from_secs(1 << (self.failures - 1).min(3));
        self.pause(wait)
    }

    /// Returns the next message, if one arrives soon.
    fn next(&mut self) -> Result<Option<Message>, StartError> {
        let left = self.left()?;
        Ok(self.background.next(left.min(TICK)))
    }

    fn pause(&self, time: Duration) -> Result<(), StartError> {
        let until = Instant::now() + time;
        loop {
            let left = self.left()?.min(until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// Returns the remaining time.
    fn left(&self) -> Result<Duration, StartError> {
        if self.start.cancel.load(Ordering::Relaxed) {
            return Err(StartError::Cancelled);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(StartError::TimedOut(self.start.timeout, self.last.clone()))
        } else {
            Ok(left)
        }
    }

    fn show(&mut self, progress: Progress) -> Result<(), StartError> {
        // Spawners tend to repeat the hub's first message, and "still stopping" would come every
        // second.
        if progress.message == self.last && progress.percent <= self.percent {
            return Ok(());
        }
        match (self.on_progress)(&progress) {
            ControlFlow::Continue(()) => {
                self.last = progress.message;
                self.percent = progress.percent;
                Ok(())
            }
            ControlFlow::Break(()) => Err(StartError::Cancelled),
        }
    }
}

/// What every JupyterHub up to 6.1 says (`allow_named_servers`).
const NO_NAMED_SERVERS: &str = "Named servers are not enabled.";
const REVOKED: &str = "the hub does not accept it any more";

fn unsteady(why: String) -> StartError {
    StartError::Unavailable(
        "The hub has a problem and cannot start the server.\n\
         Try again in a minute; if that does not help, tell the administrator of this host."
            .to_owned(),
        why,
    )
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
