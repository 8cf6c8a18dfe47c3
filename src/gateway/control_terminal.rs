//! The control terminal of one terminal, as far as the gateway has one: opened when it is first needed, closed
//! when it has not been needed for a while. See [`server::terminado::control`].

use super::remote::Remote;
use server::terminado::codec::{self, Incoming};
use server::terminado::control::{Answer, ControlLink};
use server::terminado::rest::TerminalName;
use server::terminado::socket::{Closed, Event, TerminalSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Closed after this long without need: it shows in the user's list of terminals. Its program ends by itself after
/// 12 s without a request.
const IDLE: Duration = Duration::from_secs(5);
/// After a failure, it is not tried again for this long.
const RETRY: Duration = Duration::from_secs(30);
/// A suspension is repeated this often, or it would lapse.
const REPEAT_STOP: Duration = Duration::from_secs(5);

enum State {
    /// Not needed so far.
    None,
    /// A job is opening it.
    Opening,
    /// Open; its link knows whether the program in it has spoken.
    Open(Box<Open>),
    /// There was none to be had (no Python, an old server, one that was busy): go on without until then.
    NotBefore(Instant),
}

struct Open {
    name: TerminalName,
    socket: TerminalSocket,
    link: ControlLink,
    /// Its program has said hello once.
    worked: bool,
    needed: Instant,
    stop_sent: Option<Instant>,
}

/// See the module.
pub struct ControlTerminal(State);

impl Default for ControlTerminal {
    /// None yet.
    fn default() -> Self {
        Self(State::None)
    }
}

impl ControlTerminal {
    /// It is needed now. True when the caller is to start the job that opens it.
    pub fn need(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            State::None => {
                self.0 = State::Opening;
                true
            }
            State::NotBefore(at) if now >= *at => {
                self.0 = State::Opening;
                true
            }
            State::Open(open) => {
                open.needed = now;
                false
            }
            State::Opening | State::NotBefore(_) => false,
        }
    }

    /// The job's result. Without one, there will be none for a while.
    pub fn opened(&mut self, opened: Option<(Remote, ControlLink)>, now: Instant) {
        self.0 = match opened {
            Some((Remote { name, socket }, link)) => State::Open(Box::new(Open {
                name,
                socket,
                link,
                worked: false,
                needed: now,
                stop_sent: None,
            })),
            None => State::NotBefore(now + RETRY),
        };
    }

    /// Was there none to be had?
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.0, State::NotBefore(_))
    }

    /// Does its program take requests?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.link.is_ready())
    }

    /// Is the program's output suspended, or about to be?
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        matches!(&self.0, State::Open(open) if open.stop_sent.is_some())
    }

    /// Suspends the program's output and keeps it so: to be called as long as it is wanted.
    pub fn stop(&mut self, now: Instant) {
        let State::Open(open) = &mut self.0 else { return };
        if open.stop_sent.is_none_or(|at| now >= at + REPEAT_STOP) && open.request(now, ControlLink::stop) {
            open.stop_sent = Some(now);
        }
    }

    /// Resumes it.
    pub fn go(&mut self, now: Instant) {
        let State::Open(open) = &mut self.0 else { return };
        if open.stop_sent.is_some() && open.request(now, ControlLink::go) {
            open.stop_sent = None;
        }
    }

    /// Asks what is unread; see [`ControlLink::ask_unread`]. False when it can't be asked.
    pub fn ask_unread(&mut self, position: u64, now: Instant) -> bool {
        self.request(now, |link| link.ask_unread(position))
    }

    /// Throws unread input away. False when that can't be done.
    pub fn drain(&mut self, now: Instant) -> bool {
        self.request(now, ControlLink::drain)
    }

    fn request(&mut self, now: Instant, make: impl FnOnce(&mut ControlLink) -> Option<String>) -> bool {
        match &mut self.0 {
            State::Open(open) => open.request(now, make),
            _ => false,
        }
    }

    /// Its socket, for poll(2), and whether it has something to write.
    #[must_use]
    pub fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.0 {
            State::Open(open) => Some((open.socket.as_fd(), open.socket.wants_write())),
            _ => None,
        }
    }

    /// Reads and writes its socket, and appends the answers. One that has broken is taken away; its name is
    /// returned, to be deleted. If it has ever worked, it is opened again at the next need.
    pub fn drive(&mut self, answers: &mut Vec<Answer>, now: Instant) -> Option<TerminalName> {
        let State::Open(open) = &mut self.0 else { return None };
        let first = answers.len();
        let alive = open.read(answers).is_ok_and(|alive| alive);
        let new = &answers[first..];
        open.worked |= new.contains(&Answer::Ready);
        if alive && !new.iter().any(|a| matches!(a, Answer::Failed | Answer::Gone)) {
            return None;
        }
        let name = open.name.clone();
        self.0 = if open.worked { State::None } else { State::NotBefore(now + RETRY) };
        Some(name)
    }

    /// Takes it away when it has not been needed for a while. Its name, to be deleted.
    pub fn close_idle(&mut self, now: Instant) -> Option<TerminalName> {
        match &self.0 {
            State::Open(open) if open.stop_sent.is_none() && now >= open.needed + IDLE => self.close(),
            _ => None,
        }
    }

    /// Takes it away. Its name, to be deleted.
    pub fn close(&mut self) -> Option<TerminalName> {
        let State::Open(open) = &self.0 else { return None };
        let name = open.name.clone();
        self.0 = State::None;
        Some(name)
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
        // A connection that has ended shows when it is read next.
        matches!(self.socket.send_text(codec::stdin(&text)), Ok(Ok(())))
    }

    /// False when its program has ended.
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
