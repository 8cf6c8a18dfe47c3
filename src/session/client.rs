//! The conversation with the gateway.

use super::progress;
use crate::control::{MAX_MESSAGE, SessionReply, SessionRequest, Tty};
use crate::sys::{socket, tty};
use accounts::paths::GATEWAY_SOCKET;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the gateway may take to answer a question. It does not ask anybody else.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a session could not be served. Display is for the user: what happened, what to do.
#[derive(Debug)]
pub enum Broken {
    /// The gateway's socket is not there or refuses: no jail, or the gateway has gone.
    NoGateway(io::Error),
    /// The gateway went away in mid-session.
    GatewayLost,
    /// The gateway is there, and says nothing.
    NoAnswer,
    /// A system call failed that doesn't.
    System(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGateway(e) => write!(
                f,
                "This session has no gateway to your Jupyter server ({e}).\n\
                 Log in again; if it happens again, tell the administrator of this bastion."
            ),
            Self::GatewayLost => f.write_str(
                "The gateway to your Jupyter server has ended unexpectedly.\n\
                 Log in again. Your terminal may still be listed under \"Running\" in Jupyter.",
            ),
            Self::NoAnswer => write!(
                f,
                "The gateway of this session did not answer within {} s.\n\
                 Log in again; if it happens again, tell the administrator of this bastion.",
                ANSWER.as_secs()
            ),
            Self::System(e) => write!(
                f,
                "The session could not go on: {e}.\nLog in again; if it happens again, tell the administrator."
            ),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

impl From<Errno> for Broken {
    fn from(e: Errno) -> Self {
        Self::System(e.into())
    }
}

/// Asks the gateway one question.
///
/// # Errors
/// [`Broken`]
pub fn ask(request: &SessionRequest) -> Result<SessionReply, Broken> {
    let gateway = socket::connect_path(Path::new(GATEWAY_SOCKET)).map_err(Broken::NoGateway)?;
    say(&gateway, request, &[])?;
    let until = Instant::now() + ANSWER;
    loop {
        let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(gateway.as_fd(), PollFlags::POLLIN)], left.unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(Broken::NoAnswer),
            Ok(_) => return hear(&gateway),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Serves an interactive shell and returns its exit status.
///
/// # Errors
/// [`Broken`], after the terminal has been restored.
pub fn shell() -> Result<u8, Broken> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let gateway = socket::connect_path(Path::new(GATEWAY_SOCKET)).map_err(Broken::NoGateway)?;

    // Blocked and read from a descriptor, so that no resize falls between two looks at the size.
    let mut resizes = SigSet::empty();
    resizes.add(Signal::SIGWINCH);
    resizes.thread_block()?;
    let resized = SignalFd::with_flags(&resizes, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    say(
        &gateway,
        &SessionRequest::Shell {
            tty: Some(Tty { size: tty::window_size(stdin.as_fd()), modes: Vec::new() }),
            environment: wanted_environment(),
        },
        &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
    )?;

    let mut raw = None;
    let mut waiting = Waiting::new();
    let outcome = loop {
        let timeout = match (raw.is_some(), waiting.due()) {
            (false, Some(due)) => PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX),
            _ => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(gateway.as_fd(), PollFlags::POLLIN),
            PollFd::new(resized.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => break Err(e.into()),
        }
        let (gateway_speaks, resize) = (ready(&fds[0]), ready(&fds[1]));
        if resize {
            while let Ok(Some(_)) = resized.read_signal() {}
            if raw.is_some() {
                say(&gateway, &SessionRequest::Resize { size: tty::window_size(stdin.as_fd()) }, &[])?;
            }
        }
        if gateway_speaks {
            match hear(&gateway) {
                Ok(SessionReply::Progress { percent, message }) => waiting.heard(percent, message),
                Ok(SessionReply::Attach) => {
                    waiting.erase();
                    raw = Some(tty::RawMode::enter(stdin.as_fd())?);
                    say(&gateway, &SessionRequest::Ready { size: tty::window_size(stdin.as_fd()) }, &[])?;
                }
                Ok(SessionReply::Exit { status, message }) => break Ok((status, message)),
                Ok(SessionReply::Serve { .. } | SessionReply::Elsewhere | SessionReply::Killed { .. }) => break Err(Broken::GatewayLost),
                Err(broken) => break Err(broken),
            }
        }
        if raw.is_none() {
            waiting.show(tty::window_size(stdin.as_fd()).cols);
        }
    };
    drop(raw);
    waiting.erase();
    let (status, message) = outcome?;
    if let Some(message) = message {
        super::complain(&message);
    }
    Ok(status)
}

fn ready(fd: &PollFd<'_>) -> bool {
    fd.revents().is_some_and(|r| !r.is_empty())
}

/// The client's variables that mean something in a remote terminal. sshd has let them through `AcceptEnv`;
/// the gateway checks each value again.
fn wanted_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| {
            value.len() <= 64
                && (matches!(name.as_str(), "TERM" | "LANG" | "LANGUAGE" | "COLORTERM")
                    || name.starts_with("LC_"))
        })
        .take(32)
        .collect()
}

fn say(
    gateway: &OwnedFd,
    request: &SessionRequest,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), Broken> {
    let message = serde_json::to_vec(request).map_err(|e| Broken::System(e.into()))?;
    match socket::send(gateway.as_fd(), &message, descriptors) {
        // The gateway's last word may still be waiting to be read.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn hear(gateway: &OwnedFd) -> Result<SessionReply, Broken> {
    let mut buffer = [0; MAX_MESSAGE];
    match socket::recv(gateway.as_fd(), &mut buffer, 0) {
        Ok((0, _)) => Err(Broken::GatewayLost),
        Ok((n, _)) => serde_json::from_slice(&buffer[..n]).map_err(|e| Broken::System(e.into())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Err(Broken::GatewayLost),
        Err(e) => Err(e.into()),
    }
}

/// What is shown while the server starts: nothing in the first second, then a line that rewrites itself.
struct Waiting {
    since: Instant,
    latest: Option<(Option<u8>, String)>,
    changed: bool,
    shown: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { since: Instant::now(), latest: None, changed: false, shown: false }
    }

    fn heard(&mut self, percent: Option<u8>, message: String) {
        self.latest = Some((percent, message));
        self.changed = true;
    }

    /// How long until there is something to show; `None` when nothing is waiting to be shown.
    fn due(&self) -> Option<Duration> {
        // A millisecond more than the quiet time, so that poll(2)'s rounding doesn't wake us early.
        self.changed
            .then(|| (progress::QUIET + Duration::from_millis(1)).saturating_sub(self.since.elapsed()))
    }

    fn show(&mut self, cols: u16) {
        let loud = self.changed && self.since.elapsed() >= progress::QUIET;
        if let (true, Some((percent, message))) = (loud, &self.latest) {
            // A failed write means that the client has gone; the gateway will notice as well.
            let _ = io::stderr().write_all(progress::line(*percent, message, cols).as_bytes());
            self.changed = false;
            self.shown = true;
        }
    }

    fn erase(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = io::stderr().write_all(progress::ERASE.as_bytes());
        }
    }
}
