//! A channel whose shell runs in a plain terminal of the user's server: its phases, and how it
//! ends.

use super::peer::{self, BROKEN, Heard, Peer};
use crate::access::Access;
use crate::remote::calls::Lost;
use crate::remote::report::{Address, News};
use crate::remote::turn::Turn;
use crate::remote::{Change, Dropped, FAULT, Leaving, NO_THREAD, Order, RemoteTerminal, Role};
use crate::terminal::{Standing, Terminal};
use host::log::{Event as Logged, Line};
use hub::progress::Progress;
use nix::poll::PollFlags;
use server::terminado::control::{self, ControlLink};
use server::terminado::rest::create_body;
use server::terminado::shell::{self, Environment, Nonce};
use server::terminado::socket::Closed;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wire::session::{SessionReply, SessionRequest, WindowSize};

/// Most of the client's input taken at once, in bytes.
const INPUT: usize = 8 * 1024;
/// How long to wait for a client that takes none of the last output.
const LAST_OUTPUT: Duration = Duration::from_secs(30);

enum Phase {
    /// The terminal is being opened.
    Opening,
    /// It is there; the session program is switching the client's terminal to raw mode.
    Attaching,
    /// Bytes move, unless the WebSocket is being reconnected.
    Relaying,
    /// The shell has ended: its last output goes to the client.
    Ending { status: u8, until: Instant },
    /// The client has gone: the terminal is drained and deleted, or deleted as soon as it has been
    /// opened.
    Closing,
    /// Over.
    Done,
}

/// What a session program hands over for a shell.
pub struct Interactive {
    /// The session program that asks.
    pub peer: Peer,
    /// The client's terminal, for reading.
    pub stdin: File,
    /// The same, for writing.
    pub stdout: File,
    /// Its size.
    pub size: WindowSize,
    /// Its type and locale.
    pub environment: Environment,
}

/// A channel whose shell runs in a plain terminal of the user's server.
pub struct TerminalChannel {
    access: Access,
    peer: Peer,
    stdin: Option<File>,
    stdout: Option<File>,
    size: WindowSize,
    nonce: Option<Nonce>,
    phase: Phase,
    remote: RemoteTerminal,
    /// What moves through it, from when it was opened until the end.
    terminal: Option<Terminal>,
    /// Control terminals that are no longer needed.
    leaving: Leaving,
    /// How many terminals there were, control terminals among them.
    numbered: u64,
}

impl TerminalChannel {
    /// Opens a terminal for a session program that has asked for a shell.
    #[must_use]
    pub fn new(asked: Interactive, access: Access, turn: &mut Turn<'_>) -> Self {
        let Interactive { peer, stdin, stdout, size, environment } = asked;
        let wrap = access.config().terminal.exit_status;
        let nonce = if wrap { Nonce::random().ok() } else { None };
        let plain = create_body(None, &environment.for_own_shell());
        let body = match &nonce {
            Some(nonce) => create_body(Some(&shell::command(nonce, size.rows, size.cols, &environment)), &[]),
            None => plain.clone(),
        };
        let address = Address { channel: peer.id(), terminal: 0 };
        let order = Order { address, role: Role::Shell, body, plain: Some(plain) };
        let remote = RemoteTerminal::open(order, &access, turn);
        let mut channel = Self {
            access,
            peer,
            stdin: Some(stdin),
            stdout: Some(stdout),
            size,
            nonce,
            phase: Phase::Opening,
            remote,
            terminal: None,
            leaving: Leaving::default(),
            numbered: 1,
        };
        if channel.remote.is_over() {
            channel.end(BROKEN, Some(NO_THREAD.into()), turn);
        }
        channel
    }

    /// The channel's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.peer.id()
    }

    /// True if it is over, and no job has to report.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done) && !self.is_busy()
    }

    /// True if a job runs, which needs the HTTP client.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let opens_control = self.terminal.as_ref().is_some_and(|terminal| terminal.control.is_opening());
        self.remote.is_busy() || opens_control || !self.leaving.is_empty()
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        fds.extend(self.peer.fd().map(|fd| (fd, PollFlags::POLLIN)));
        let Some(terminal) = &self.terminal else { return };
        let reads_client = matches!(self.phase, Phase::Relaying) && terminal.wants_input();
        if let (true, Some(stdin)) = (reads_client, &self.stdin) {
            fds.push((stdin.as_fd(), PollFlags::POLLIN));
        }
        let writes_client = self.shows_output() && terminal.screen.is_waiting();
        if let (true, Some(stdout)) = (writes_client, &self.stdout) {
            fds.push((stdout.as_fd(), PollFlags::POLLOUT));
        }
        let flags = |read: bool, write: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, read);
            flags.set(PollFlags::POLLOUT, write);
            flags
        };
        match terminal.socket() {
            // Not polled for nothing: poll(2) would report a hang-up all the same, and the loop
            // would spin.
            Some((fd, read, write)) if (read || write) && self.moves_bytes() => {
                fds.push((fd, flags(read, write)))
            }
            _ => {}
        }
        match terminal.control.socket() {
            Some((fd, write)) if self.moves_bytes() => fds.push((fd, flags(true, write))),
            _ => {}
        }
    }

    /// Is there something to do at once, which poll(2) does not announce?
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.moves_bytes() && self.terminal.as_ref().is_some_and(Terminal::is_unfinished)
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Ending { until, .. } => Some(until).filter(|at| *at > now),
            _ => None,
        };
        self.terminal.as_ref().and_then(|t| t.deadline(now)).into_iter().chain(phase).min()
    }

    /// Does everything that can be done now.
    pub fn drive(&mut self, turn: &mut Turn<'_>) {
        self.hear_session(turn);
        if matches!(self.phase, Phase::Relaying) {
            self.read_client(turn);
        }
        if let (true, Some(terminal)) = (self.moves_bytes(), &mut self.terminal) {
            match (terminal.drive(turn.now), &self.phase) {
                (Standing::Live, _) => {}
                (Standing::Ended(status), Phase::Relaying) => {
                    self.remote.ended(turn.now);
                    self.phase = Phase::Ending { status, until: turn.now + LAST_OUTPUT };
                }
                (Standing::Lost(why), Phase::Relaying) => self.dropped(&why, turn),
                // It is being deleted, or has ended by itself meanwhile.
                (Standing::Ended(_) | Standing::Lost(_), _) => {}
            }
        }
        self.write_client(turn);
        if let (true, Some(terminal)) = (self.moves_bytes(), &mut self.terminal) {
            terminal.suspend(turn.now);
        }
        self.control(turn);
        match (&self.phase, &self.terminal) {
            (Phase::Closing, Some(terminal)) if terminal.is_drained(turn.now) => self.remote.let_go(turn),
            (&Phase::Ending { status, until }, Some(terminal))
                if !terminal.screen.is_waiting() || turn.now >= until =>
            {
                self.end(status, None, turn);
            }
            _ => {}
        }
        self.settle(turn);
    }

    /// Is the terminal's WebSocket read and written?
    fn moves_bytes(&self) -> bool {
        match self.phase {
            Phase::Relaying => self.remote.is_connected(),
            // To the end, so that no write in the server blocks while the terminal closes.
            Phase::Closing => true,
            Phase::Opening | Phase::Attaching | Phase::Ending { .. } | Phase::Done => false,
        }
    }

    fn shows_output(&self) -> bool {
        matches!(self.phase, Phase::Relaying | Phase::Ending { .. })
    }

    // --- the session program ---

    fn hear_session(&mut self, turn: &mut Turn<'_>) {
        loop {
            let request = match self.peer.hear() {
                Heard::Request(request, _) => request,
                Heard::Nothing => return,
                Heard::Gone => return self.session_gone(turn),
            };
            match (request, &self.phase) {
                (SessionRequest::Ready { size, typed }, Phase::Attaching) => {
                    let Some(typed) = peer::typed(&typed) else { return self.session_gone(turn) };
                    self.size = size;
                    self.phase = Phase::Relaying;
                    if let Some(terminal) = &mut self.terminal {
                        terminal.resize(size);
                        terminal.type_in(&typed, turn.now);
                    }
                }
                (SessionRequest::Resize { size }, Phase::Relaying) => {
                    self.size = size;
                    if let Some(terminal) = &mut self.terminal {
                        terminal.resize(size);
                    }
                }
                // A plain terminal knows no signals but those of its keys.
                (SessionRequest::Resize { .. } | SessionRequest::Signal { .. }, _) => {}
                _ => return self.session_gone(turn),
            }
        }
    }

    /// The session program has gone, or has to go: closes what the channel has in the user's
    /// server.
    pub fn session_gone(&mut self, turn: &mut Turn<'_>) {
        self.peer.leave();
        (self.stdin, self.stdout) = (None, None);
        match self.phase {
            Phase::Ending { .. } => self.phase = Phase::Done,
            Phase::Closing | Phase::Done => {}
            Phase::Opening | Phase::Attaching | Phase::Relaying => {
                match &mut self.terminal {
                    Some(terminal) if self.remote.is_connected() => terminal.drain(turn.now),
                    _ => self.remote.let_go(turn),
                }
                self.phase = Phase::Closing;
            }
        }
        self.settle(turn);
    }

    /// Follows the terminal to its end, and lets the control terminals go at the channel's.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Closing) && self.remote.is_over() {
            self.phase = Phase::Done;
        }
        if !matches!(self.phase, Phase::Done) {
            return;
        }
        if let Some(mut terminal) = self.terminal.take() {
            for control in terminal.take_orphans().into_iter().chain(terminal.control.abandon()) {
                self.leaving.take(control, turn);
            }
        }
    }

    /// Ends the channel for an administrator or a limit, and closes what it has in the user's
    /// server.
    pub fn end_for(&mut self, why: &str, turn: &mut Turn<'_>) {
        if self.peer.is_there() {
            self.peer.end(BROKEN, Some(why.to_owned()), turn);
            self.session_gone(turn);
        }
    }

    /// Shows a message on a line of its own.
    pub fn notice(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            terminal.screen.notice(text);
        }
    }

    /// Its session program.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Ends the channel: tells the session program its status, and what went wrong if anything did.
    fn end(&mut self, status: u8, message: Option<String>, turn: &mut Turn<'_>) {
        self.peer.end(status, message, turn);
        (self.stdin, self.stdout) = (None, None);
        self.phase = Phase::Done;
    }

    // --- the client's terminal ---

    fn read_client(&mut self, turn: &mut Turn<'_>) {
        let (Some(stdin), Some(terminal)) = (&mut self.stdin, &mut self.terminal) else { return };
        if !terminal.wants_input() {
            return;
        }
        let mut buffer = [0; INPUT];
        match stdin.read(&mut buffer) {
            Ok(n) if n > 0 => {
                self.peer.received(n, turn.now);
                terminal.type_in(buffer.get(..n).unwrap_or_default(), turn.now);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A terminal that was hung up (tty(4)): EOF or EIO.
            Ok(_) | Err(_) => self.session_gone(turn),
        }
    }

    fn write_client(&mut self, turn: &mut Turn<'_>) {
        if !self.shows_output() {
            return;
        }
        let written = match (&mut self.stdout, &mut self.terminal) {
            (Some(stdout), Some(terminal)) => terminal.screen.write_to(stdout, turn.now),
            _ => Ok(0),
        };
        self.peer.sent(*written.as_ref().unwrap_or(&0));
        match (written, &mut self.phase) {
            (Err(_), _) => self.session_gone(turn),
            (Ok(1..), Phase::Ending { until, .. }) => *until = turn.now + LAST_OUTPUT,
            (Ok(_), _) => {}
        }
    }

    // --- the terminal ---

    /// The WebSocket has dropped.
    fn dropped(&mut self, why: &Closed, turn: &mut Turn<'_>) {
        match self.remote.dropped(why, turn) {
            Dropped::Reconnecting => {
                let Some(terminal) = &mut self.terminal else { return };
                let in_flight = terminal.input.is_in_flight(turn.now);
                let lost = if in_flight { "; what you typed last may be lost" } else { "" };
                terminal
                    .screen
                    .notice(&format!("connection to your server lost{lost}; reconnecting for up to 60 s"));
            }
            Dropped::GivenUp => self.end(BROKEN, Some(NOT_RECONNECTED.into()), turn),
            Dropped::NoThread => self.session_gone(turn),
        }
    }

    /// Opens and closes the control terminal as the terminal needs it.
    fn control(&mut self, turn: &mut Turn<'_>) {
        let relays = matches!(self.phase, Phase::Relaying) && self.remote.is_connected();
        let Some(terminal) = &mut self.terminal else { return };
        for control in terminal.take_orphans() {
            self.leaving.take(control, turn);
        }
        let Some(tty) = relays.then(|| terminal.needs_control(turn.now)).flatten() else { return };
        let opening = Nonce::random().ok().map(|nonce| {
            let body = create_body(Some(&control::command(&nonce, tty)), &[]);
            let address = Address { channel: self.peer.id(), terminal: self.numbered };
            self.numbered += 1;
            // The server runs, as a terminal of it is open: nothing to start.
            let order = Order { address, role: Role::Control, body, plain: None };
            (RemoteTerminal::open(order, &self.access, turn), ControlLink::new(&nonce))
        });
        terminal.control.opens(opening, turn.now);
    }

    /// A job of the terminal with this number has reported.
    pub fn news(&mut self, terminal: u64, news: News, turn: &mut Turn<'_>) {
        if terminal == self.remote.number() {
            self.remote_news(news, turn);
            return self.settle(turn);
        }
        let left = match &mut self.terminal {
            Some(own) => own.control.news(terminal, news, turn),
            None => Some(news),
        };
        if let Some(news) = left {
            self.leaving.news(terminal, news, turn);
        }
    }

    fn remote_news(&mut self, news: News, turn: &mut Turn<'_>) {
        match self.remote.news(news, turn) {
            Change::Nothing => {}
            Change::Progress(Progress { percent, message, .. }) => {
                self.peer.tell(&SessionReply::Progress { percent, message });
            }
            Change::Opened(socket) => {
                self.terminal = Some(Terminal::new(socket, self.nonce.as_ref(), turn.now));
                if matches!(self.phase, Phase::Opening) {
                    self.phase = Phase::Attaching;
                    self.peer.tell(&SessionReply::Attach);
                }
            }
            Change::NotOpened(why) => self.end(BROKEN, Some(why.for_user), turn),
            Change::Reconnected(socket) => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.screen.notice("reconnected");
                    terminal.resume(socket, self.size, turn.now);
                }
            }
            Change::NotReconnected(lost) => {
                let (why, message) = match lost {
                    Lost::Gone => ("the terminal has ended with its server".to_owned(), TERMINAL_GONE),
                    Lost::TimedOut(why) => (format!("not reconnected within 60 s: {why}"), NOT_RECONNECTED),
                };
                let line = Line::new(Logged::Link).with("channel", self.peer.id());
                turn.log.warning(line.with("outcome", "given-up").with("reason", why));
                self.end(BROKEN, Some(message.into()), turn);
            }
            Change::Fault => self.end(BROKEN, Some(FAULT.into()), turn),
        }
    }
}

const TERMINAL_GONE: &str = "Your terminal has ended: your server was stopped or restarted.\n\
    Log in again to start a new one.";
const NOT_RECONNECTED: &str = "The connection to your server could not be restored within 60 s.\n\
    Log in again. Your terminal may still be listed under \"Running\" in Jupyter.";
