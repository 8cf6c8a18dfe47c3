//! The bytes of a plain terminal: input and output between its WebSocket and the client, and the
//! control terminal beside it.
//!
//! Nothing here blocks. [`crate::channel::plain`] owns the channel around it, [`crate::serve`]
//! polls.

pub mod control;
pub mod input;
pub mod screen;

use crate::remote::RemoteTerminal;
use control::ControlTerminal;
use input::Input;
use screen::Screen;
use server::terminado::codec::{self, Incoming};
use server::terminado::control::Answer;
use server::terminado::shell::Nonce;
use server::terminado::socket::{Closed, Event, TerminalSocket};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wire::session::WindowSize;

/// Messages read in one turn of the loop, so that a flood does not keep the keyboard waiting.
const TURN: usize = 64;
/// After this much silence, a ping asks for a sign of life.
const SILENCE: Duration = Duration::from_secs(45);
/// After this much more silence, the connection counts as lost.
const LOST: Duration = Duration::from_secs(30);
/// Time for discarding unread input before the terminal is deleted.
const DRAIN: Duration = Duration::from_millis(1500);
/// Ctrl-C, as it is typed.
const INTERRUPT: u8 = 3;

/// Why a ping was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To learn that the server has all input up to this position.
    Position(u64),
    /// To learn that everything printed before Ctrl-C has arrived.
    Skip,
    /// To learn that the server has all input; the terminal is about to be deleted.
    Drain,
    /// To get a sign of life.
    Alive,
}

/// A terminal's state after a turn.
#[derive(Debug)]
pub enum Standing {
    /// It is alive.
    Live,
    /// Its shell has ended, with this status if known.
    Ended(u8),
    /// The WebSocket is gone, though the shell has not ended.
    Lost(Closed),
}

/// The bytes of one plain terminal, from when it was opened.
pub struct Terminal {
    socket: Option<TerminalSocket>,
    /// From the client to the server.
    pub input: Input,
    /// From the server to the client.
    pub screen: Screen,
    /// The second terminal that watches this one.
    pub control: ControlTerminal,
    pings: VecDeque<(u64, Purpose, Instant)>,
    last_ping: u64,
    heard: Instant,
    /// True if messages may be left in the buffers of TLS and WebSocket, of which poll(2) knows
    /// nothing.
    unfinished: bool,
    /// True if a ping has to follow a Ctrl-C.
    skip: bool,
    /// When draining is given up; `None` while the terminal is in use.
    drain_until: Option<Instant>,
    drained: bool,
    /// Control terminals that are no longer needed.
    orphans: Vec<RemoteTerminal>,
}

impl Terminal {
    /// The bytes of a terminal that has just been opened. `nonce` is that of the wrapper in it, if
    /// one was asked for.
    #[must_use]
    pub fn new(socket: TerminalSocket, nonce: Option<&Nonce>, now: Instant) -> Self {
        Self {
            socket: Some(socket),
            input: Input::default(),
            screen: Screen::new(nonce),
            control: ControlTerminal::default(),
            pings: VecDeque::new(),
            last_ping: 0,
            heard: now,
            unfinished: true,
            skip: false,
            drain_until: None,
            drained: false,
            orphans: Vec::new(),
        }
    }

    /// Its socket, for poll(2): the descriptor, whether to read, whether to write.
    #[must_use]
    pub fn socket(&self) -> Option<(BorrowedFd<'_>, bool, bool)> {
        self.socket.as_ref().map(|s| (s.as_fd(), self.screen.has_room(), s.wants_write()))
    }

    /// True if there is something to read that poll(2) does not announce.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.unfinished && self.socket.is_some() && self.screen.has_room()
    }

    /// True if more input may be read from the client.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.socket.is_some() && self.drain_until.is_none() && self.input.is_empty()
    }

    /// Tells the server the size of the window.
    pub fn resize(&mut self, size: WindowSize) {
        if let Some(socket) = &mut self.socket {
            // A failure shows at the next read.
            let _ = socket.send_text(codec::set_size(size.rows, size.cols));
        }
    }

    /// Takes what the client typed.
    pub fn type_in(&mut self, bytes: &[u8], now: Instant) {
        self.input.push(bytes, now);
        if bytes.contains(&INTERRUPT) && self.screen.interrupt(self.control.is_stopping()) {
            self.skip = true;
            self.control.go(now);
        }
    }

    /// Takes the new WebSocket after a reconnection.
    pub fn resume(&mut self, socket: TerminalSocket, size: WindowSize, now: Instant) {
        self.socket = Some(socket);
        self.unfinished = true;
        self.screen.resume();
        self.heard = now;
        self.resize(size);
    }

    /// Moves what can be moved between the server and the client.
    pub fn drive(&mut self, now: Instant) -> Standing {
        match self.read(now) {
            Ok(None) => match self.write(now) {
                Ok(()) => Standing::Live,
                Err(closed) => self.lost(closed),
            },
            Ok(Some(status)) => {
                self.socket = None;
                self.screen.flush_held();
                self.screen.end_skip();
                self.orphans.extend(self.control.close());
                Standing::Ended(status)
            }
            Err(closed) => self.lost(closed),
        }
    }

    /// Reads from the server; `Some(status)` if the shell has ended.
    fn read(&mut self, now: Instant) -> Result<Option<u8>, Closed> {
        self.unfinished = true;
        for _ in 0..TURN {
            let Some(socket) = &mut self.socket else { break };
            if !self.screen.has_room() {
                // We are not reading, so silence means nothing.
                self.heard = now;
                break;
            }
            let Some(event) = socket.read()? else {
                self.unfinished = false;
                break;
            };
            self.heard = now;
            match event {
                Event::Pong(number) => self.pong(number, now),
                Event::Text(message) => match codec::decode(&message) {
                    Ok(Incoming::Stdout(text)) => {
                        let new = self.screen.print(&text, now);
                        self.input.output(new, now);
                    }
                    Ok(Incoming::Setup | Incoming::Other) => {}
                    Ok(Incoming::Disconnect) => return Ok(Some(self.screen.status().unwrap_or(0))),
                    Err(_) => return Err(Closed::Protocol("a message was not understood".into())),
                },
            }
        }
        Ok(None)
    }

    /// Sends what may be sent.
    fn write(&mut self, now: Instant) -> Result<(), Closed> {
        self.hear_control(now);
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while let Some(piece) = self.input.piece(now) {
            let length = piece.len();
            if socket.send_text(codec::stdin(piece))?.is_err() {
                break;
            }
            self.input.sent(length, now);
        }
        if self.skip && self.input.is_empty() {
            self.skip = !self.ping(Purpose::Skip, now)?;
        }
        if self.control.is_ready()
            && self.input.ask(now)
            && !self.ping(Purpose::Position(self.input.position()), now)?
        {
            self.input.unanswered();
        }
        let blind = self.control.is_refused() || self.screen.tty().is_none();
        if let Some(bytes) = if blind { self.input.give_up(now) } else { None } {
            self.screen
                .notice(&format!("nothing shows that your program reads: {bytes} bytes of input not sent"));
        }
        if now >= self.heard + SILENCE {
            if now >= self.heard + SILENCE + LOST {
                return Err(Closed::Lost(std::io::ErrorKind::TimedOut.into()));
            }
            if self.pings.is_empty() {
                self.ping(Purpose::Alive, now)?;
            }
        }
        match &mut self.socket {
            Some(socket) => socket.flush(),
            None => Ok(()),
        }
    }

    fn lost(&mut self, closed: Closed) -> Standing {
        self.socket = None;
        self.pings.clear();
        self.input.unanswered();
        self.screen.flush_held();
        self.screen.end_skip();
        if let Some(control) = self.control.close() {
            self.lose_control(control);
        }
        self.drained = true;
        match self.screen.status() {
            // The wrapper has reported the shell's end; only the server has not.
            Some(status) => Standing::Ended(status),
            None => Standing::Lost(closed),
        }
    }

    /// Sends a ping. Returns false if the queue has no room for it, or there is no connection.
    fn ping(&mut self, purpose: Purpose, now: Instant) -> Result<bool, Closed> {
        let Some(socket) = &mut self.socket else { return Ok(false) };
        self.last_ping += 1;
        let sent = socket.send_ping(self.last_ping)?.is_ok();
        if sent {
            self.pings.push_back((self.last_ping, purpose, now));
        }
        Ok(sent)
    }

    /// Takes a pong, which answers every ping before it as well (RFC 6455, 5.5.3).
    fn pong(&mut self, number: u64, now: Instant) {
        while self.pings.front().is_some_and(|(sent, ..)| *sent <= number) {
            let Some((_, purpose, at)) = self.pings.pop_front() else { break };
            self.input.set_round_trip(now.saturating_duration_since(at));
            match purpose {
                Purpose::Position(position) => {
                    if !self.control.ask_unread(position, now) {
                        self.input.unanswered();
                    }
                }
                Purpose::Skip => self.screen.end_skip(),
                Purpose::Drain => self.drained = !(self.input.may_be_unread() && self.control.drain(now)),
                Purpose::Alive => {}
            }
        }
    }

    fn hear_control(&mut self, now: Instant) {
        let mut answers = Vec::new();
        if let Some(control) = self.control.drive(&mut answers, now) {
            self.lose_control(control);
        }
        for answer in answers {
            match answer {
                Answer::Unread { position, unread } => self.input.answered(position, unread, now),
                Answer::Drained => self.drained = true,
                Answer::Gone | Answer::Failed => {
                    self.input.unanswered();
                    self.drained = true;
                }
                Answer::Ready | Answer::Stopped | Answer::Running => {}
            }
        }
    }

    /// Notes that the control terminal is gone, and will not answer.
    fn lose_control(&mut self, control: RemoteTerminal) {
        self.orphans.push(control);
        self.input.unanswered();
        self.drained = true;
    }

    /// Suspends the program while the client is slow, and resumes it when the client has caught up.
    /// Call it after each write to the client.
    pub fn suspend(&mut self, now: Instant) {
        if self.screen.is_slow(now) || self.control.is_stopping() && !self.screen.has_caught_up() {
            self.control.stop(now);
        } else if self.control.is_stopping() {
            self.control.go(now);
        }
        if let (false, Some(control)) = (self.input.is_stuck(now), self.control.close_idle(now)) {
            self.lose_control(control);
        }
    }

    /// The terminal device to watch, if a control terminal is needed now and there is none. The
    /// caller opens one and passes it to [`ControlTerminal::opens`].
    pub fn needs_control(&mut self, now: Instant) -> Option<&server::terminado::marker::TtyPath> {
        let needed = self.drain_until.is_none() && (self.input.is_stuck(now) || self.screen.is_slow(now));
        let tty = self.screen.tty()?;
        (needed && self.control.need(now)).then_some(tty)
    }

    /// Takes the control terminals that are no longer needed.
    pub fn take_orphans(&mut self) -> Vec<RemoteTerminal> {
        std::mem::take(&mut self.orphans)
    }

    /// Prepares for deletion: shows and sends nothing more, and discards unread input if possible.
    pub fn drain(&mut self, now: Instant) {
        self.drain_until = Some(now + DRAIN);
        self.screen.discard();
        self.input.clear();
        self.control.go(now);
        self.drained = !self.ping(Purpose::Drain, now).is_ok_and(|sent| sent);
    }

    /// True if it may be deleted now.
    #[must_use]
    pub fn is_drained(&self, now: Instant) -> bool {
        self.drained || self.drain_until.is_some_and(|at| now >= at)
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let alive = self
            .socket
            .as_ref()
            .map(|_| if self.pings.is_empty() { self.heard + SILENCE } else { self.heard + SILENCE + LOST });
        let pong = self.socket.as_ref().and_then(TerminalSocket::due);
        let own = [alive, pong, self.drain_until].into_iter().flatten().filter(|at| *at > now);
        let parts = [self.input.deadline(now), self.screen.deadline(now), self.control.deadline(now)];
        own.chain(parts.into_iter().flatten()).min()
    }
}
