//! The control terminal beside a plain terminal: opened when it is first needed, and closed when it
//! has not been needed for a while. [`server::terminado::control`] says what runs in it.

use crate::remote::report::News;
use crate::remote::turn::Turn;
use crate::remote::{Change, RemoteTerminal};
use server::terminado::codec::{self, Incoming};
use server::terminado::control::{Answer, ControlLink};
use server::terminado::socket::{Closed, Event, TerminalSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Closed after this long without need, because it shows in the user's list of terminals. Its
/// program ends by itself after 12 s without a request.
const IDLE: Duration = Duration::from_secs(5);
/// Pause after a failure before it is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// A suspension lapses unless it is repeated this often.
const REPEAT_STOP: Duration = Duration::from_secs(5);

enum State {
    /// There is none, and none has failed.
    None,
    /// It is being opened.
    Opening(Box<Opening>),
    /// Open; its link knows whether the program in it has spoken.
    Open(Box<Open>),
    /// There was none to be had (no Python, an old server, one that was busy): go on without until
    /// then.
    NotBefore(Instant),
}

struct Opening {
    remote: RemoteTerminal,
    link: ControlLink,
}

struct Open {
    remote: RemoteTerminal,
    socket: TerminalSocket,
    link: ControlLink,
    /// Its program has said hello once.
    worked: bool,
    needed: Instant,
    stop_sent: Option<Instant>,
}

/// The control terminal of a plain one, while there is one.
pub struct ControlTerminal(State);

impl Default for ControlTerminal {
    /// None yet.
    fn default() -> Self {
        Self(State::None)
    }
}

impl ControlTerminal {
    /// It is needed now. True if the caller is to have one opened, and to call
    /// [`opens`](Self::opens).
    pub fn need(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            State::None => true,
            State::NotBefore(at) => now >= *at,
            State::Open(open) => {
                open.needed = now;
                false
            }
            State::Opening(_) => false,
        }
    }

    /// One is being opened. Without one, there will be none for a while.
    pub fn opens(&mut self, opening: Option<(RemoteTerminal, ControlLink)>, now: Instant) {
        self.0 = match opening {
            Some((remote, link)) if !remote.is_over() => State::Opening(Box::new(Opening { remote, link })),
            _ => State::NotBefore(now + RETRY),
        };
    }

    /// A job of the terminal with this number has reported; gives the report back if this is
    /// another.
    pub fn news(&mut self, terminal: u64, news: News, turn: &mut Turn<'_>) -> Option<News> {
        match std::mem::replace(&mut self.0, State::None) {
            State::Opening(opening) if opening.remote.number() == terminal => {
                let Opening { mut remote, link } = *opening;
                self.0 = match remote.news(news, turn) {
                    Change::Opened(socket) => State::Open(Box::new(Open {
                        remote,
                        socket,
                        link,
                        worked: false,
                        needed: turn.now,
                        stop_sent: None,
                    })),
                    _ => State::NotBefore(turn.now + RETRY),
                };
                None
            }
            other => {
                self.0 = other;
                Some(news)
            }
        }
    }

    /// True if it is being opened.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.0, State::Opening(_))
    }

    /// True if none could be had lately.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.0, State::NotBefore(_))
    }

    /// True if its program takes requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.link.is_ready())
    }

    /// True if the watched program's output is suspended, or about to be.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.stop_sent.is_some())
    }

    /// Suspends the watched program's output. Call it again as long as that is wanted.
    pub fn stop(&mut self, now: Instant) {
        let State::Open(open) = &mut self.0 else { return };
        if open.stop_sent.is_none_or(|at| now >= at + REPEAT_STOP) && open.request(now, ControlLink::stop) {
            open.stop_sent = Some(now);
        }
    }

    /// Resumes the watched program's output.
    pub fn go(&mut self, now: Instant) {
        let State::Open(open) = &mut self.0 else { return };
        if open.stop_sent.is_some() && open.request(now, ControlLink::go) {
            open.stop_sent = None;
        }
    }

    /// Asks what is unread ([`ControlLink::ask_unread`]). Returns false if it cannot be asked.
    pub fn ask_unread(&mut self, position: u64, now: Instant) -> bool {
        self.request(now, |link| link.ask_unread(position))
    }

    /// Discards unread input. Returns false if that cannot be done.
    pub fn drain(&mut self, now: Instant) -> bool {
        self.request(now, ControlLink::drain)
    }

    fn request(&mut self, now: Instant, make: impl FnOnce(&mut ControlLink) -> Option<String>) -> bool {
        match &mut self.0 {
            State::Open(open) => open.request(now, make),
            _ => false,
        }
    }

    /// Its socket for poll(2), and whether it has something to write.
    #[must_use]
    pub fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.0 {
            State::Open(open) => Some((open.socket.as_fd(), open.socket.wants_write())),
            _ => None,
        }
    }

    /// Reads and writes its socket, and appends the answers. Returns a terminal that has broken, to
    /// be let go; if it has ever worked, the next need opens another.
    pub fn drive(&mut self, answers: &mut Vec<Answer>, now: Instant) -> Option<RemoteTerminal> {
        let State::Open(open) = &mut self.0 else { return None };
        let first = answers.len();
        let alive = open.read(answers).is_ok_and(|alive| alive);
        let new = &answers[first..];
        open.worked |= new.contains(&Answer::Ready);
        if alive && !new.iter().any(|a| matches!(a, Answer::Failed | Answer::Gone)) {
            return None;
        }
        let next = if open.worked { State::None } else { State::NotBefore(now + RETRY) };
        self.take_open(next)
    }

    /// Returns it, to be let go, if it has not been needed for a while.
    pub fn close_idle(&mut self, now: Instant) -> Option<RemoteTerminal> {
        match &self.0 {
            State::Open(open) if open.stop_sent.is_none() && now >= open.needed + IDLE => self.close(),
            _ => None,
        }
    }

    /// Returns it, to be let go, if it is open.
    pub fn close(&mut self) -> Option<RemoteTerminal> {
        self.take_open(State::None)
    }

    /// Returns it, open or not, to be let go: the terminal that it watches is gone for good.
    pub fn abandon(&mut self) -> Option<RemoteTerminal> {
        match std::mem::replace(&mut self.0, State::None) {
            State::Opening(opening) => Some(opening.remote),
            State::Open(open) => Some(open.remote),
            State::None | State::NotBefore(_) => None,
        }
    }

    fn take_open(&mut self, next: State) -> Option<RemoteTerminal> {
        match std::mem::replace(&mut self.0, next) {
            State::Open(open) => Some(open.remote),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let State::Open(open) = &self.0 else { return None };
        let need = open.stop_sent.map_or(open.needed + IDLE, |at| at + REPEAT_STOP);
        open.socket.due().into_iter().chain([need]).filter(|at| *at > now).min()
    }
}

impl Open {
    fn request(&mut self, now: Instant, make: impl FnOnce(&mut ControlLink) -> Option<String>) -> bool {
        let Some(text) = make(&mut self.link) else { return false };
        self.needed = now;
        // If the connection has ended, the next read shows it.
        matches!(self.socket.send_text(codec::stdin(&text)), Ok(Ok(())))
    }

    /// Reads its socket. Returns false if its program has ended.
    fn read(&mut self, answers: &mut Vec<Answer>) -> Result<bool, Closed> {
        while let Some(event) = self.socket.read()? {
            let Event::Text(text) = event else { continue };
            match codec::decode(&text) {
                Ok(Incoming::Stdout(text)) => self.link.output(&text, answers),
                Ok(Incoming::Setup | Incoming::Other) => {}
                Ok(Incoming::Disconnect) | Err(_) => return Ok(false),
            }
        }
        self.socket.flush()?;
        Ok(true)
    }
}
