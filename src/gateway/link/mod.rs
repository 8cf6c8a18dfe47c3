//! The link to the agent in the user's server (docs/mux.md).
//!
//! A connection has one, made when the first channel needs it. It owns the agent's terminal;
//! channels use streams of [`AgentLink::mux`].

pub mod boot;

use crate::access::Access;
use crate::remote::calls::Lost;
use crate::remote::report::{Address, LINK, News};
use crate::remote::turn::Turn;
use crate::remote::{Change, Dropped, FAULT, Leaving, NO_THREAD, Order, RemoteTerminal, Role};
use boot::{Boot, Due, Step};
use host::log::{Event as Logged, Line};
use hub::text::printable;
use nix::poll::PollFlags;
use server::agent;
use server::mux::{self, Hello, Mux, frame};
use server::terminado::codec::{self, Incoming};
use server::terminado::rest::create_body;
use server::terminado::shell::Nonce;
use server::terminado::socket::{Closed, Event, TerminalSocket};
use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tungstenite::Utf8Bytes;

/// Messages read, and written, in one turn of the loop.
const TURN: usize = 64;
/// Longest message of an agent's terminal, in bytes: it repeats 4.2 MB at most, of letters and line
/// ends.
const MAX_MESSAGE: usize = 8 << 20;
/// Silence of the agent after which the WebSocket is taken for lost.
const SILENCE: Duration = Duration::from_secs(25);
/// Time for the agent to end by itself, before its terminal is deleted.
const GOODBYE: Duration = Duration::from_secs(3);
/// An agent without a stream is ended after this time: an open WebSocket would keep the user's
/// server from being culled.
const IDLE: Duration = Duration::from_secs(60);
/// A carriage return is sent after so much text: Terminado before 0.13 collects what is typed until
/// it sees one, and copies all of it with each message.
const RETURN_AFTER: usize = 256 * 1024;
/// Most pieces of noise that are logged of one agent.
const LOGGED_NOISE: u32 = 5;

/// Why there is no agent.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Two lines: what happened, what to do.
    pub for_user: String,
    /// True if a plain terminal may work all the same.
    pub plain: bool,
}

enum Phase {
    /// There is no agent.
    Idle,
    /// Its terminal is being opened.
    Opening,
    /// Its terminal is there.
    Booting(Box<Boot>),
    /// Its source has been sent, to a terminal that was opened then.
    Greeting { since: Instant },
    /// It has greeted. Its WebSocket may be away, and being reconnected.
    Live,
    /// It has been told to end.
    Ending { until: Instant },
}

/// The link's state as a channel sees it.
pub enum Standing {
    /// Streams can be opened.
    Ready,
    /// It is being made.
    Making,
    /// It could not be made, or was lost.
    Failed(Failure),
}

/// What is known of one agent.
struct Agent {
    nonce: Option<Nonce>,
    socket: Option<TerminalSocket>,
    mux: Mux,
    hello: Option<Hello>,
    /// A message that didn't fit into the socket's buffer.
    pending: Option<Utf8Bytes>,
    /// Text typed since the last return.
    typed: usize,
    /// Text that has come, and how many bytes of it have been handled.
    backlog: (String, usize),
    unfinished: bool,
    noises: u32,
}

impl Agent {
    /// One that has said nothing yet. Without a nonce it stands for no agent.
    fn new(nonce: Option<Nonce>, now: Instant) -> Self {
        Self {
            socket: None,
            mux: Mux::new(nonce.as_ref().map_or(0, |nonce| frame::salt(nonce.as_str())), now),
            nonce,
            hello: None,
            pending: None,
            typed: 0,
            backlog: (String::new(), 0),
            unfinished: false,
            noises: 0,
        }
    }
}

/// The link of one connection to the agent in the user's server.
pub struct AgentLink {
    access: Access,
    phase: Phase,
    agent: Agent,
    /// The agent's terminal, from when it is asked for.
    remote: Option<RemoteTerminal>,
    /// Terminals of earlier agents.
    leaving: Leaving,
    /// Counts agents. Streams of an earlier one are over.
    generation: u64,
    failure: Option<Failure>,
    /// The server had no Python.
    hopeless: bool,
    idle: Instant,
}

impl AgentLink {
    /// None yet.
    #[must_use]
    pub fn new(access: Access, now: Instant) -> Self {
        Self {
            access,
            phase: Phase::Idle,
            agent: Agent::new(None, now),
            remote: None,
            leaving: Leaving::default(),
            generation: 0,
            failure: None,
            hopeless: false,
            idle: now,
        }
    }

    // --- for channels ---

    /// What is needed to speak for the user.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The number of this agent. A channel that knows another number has lost its agent.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes the link for a channel, unless there is one. After a failure only if `again`, which a
    /// channel says when it asks for the first time.
    pub fn want(&mut self, again: bool, turn: &mut Turn<'_>) {
        let again = again || self.failure.is_none();
        if matches!(self.phase, Phase::Idle) && again {
            self.failure = None;
            self.make(turn);
        }
        // Not idle: it is about to be used.
        self.idle = turn.now;
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (&self.phase, &self.failure) {
            (Phase::Live, _) if self.agent.hello.is_some() => Standing::Ready,
            (Phase::Idle, Some(failure)) => Standing::Failed(failure.clone()),
            _ => Standing::Making,
        }
    }

    /// True if this server has no Python: whatever works without an agent should.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// Why the last agent was lost.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Since when the WebSocket has been away, while it is.
    #[must_use]
    pub fn lost_since(&self) -> Option<Instant> {
        self.remote.as_ref()?.lost_since()
    }

    /// The streams.
    pub fn mux(&mut self) -> &mut Mux {
        &mut self.agent.mux
    }

    /// The streams, to look at.
    #[must_use]
    pub fn streams(&self) -> &Mux {
        &self.agent.mux
    }

    /// Does the image have an SFTP server of its own?
    #[must_use]
    pub fn has_sftp_server(&self) -> bool {
        self.agent.hello.as_ref().is_some_and(|hello| hello.sftp_server.is_some())
    }

    // --- for the loop ---

    /// True if there is no agent, and no terminal left to close.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.is_busy()
    }

    /// Does it need the HTTP client?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.remote.as_ref().is_some_and(RemoteTerminal::is_busy) || !self.leaving.is_empty()
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        if let Some(socket) = &self.agent.socket {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, socket.wants_write());
            fds.push((socket.as_fd(), flags));
        }
    }

    /// Is there something to do at once, which poll(2) does not announce?
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.agent.socket.is_some() && (self.agent.unfinished || !self.agent.backlog.0.is_empty())
    }

    /// When the agent has been silent for too long.
    fn silent_at(&self) -> Instant {
        self.resumed().map_or(self.agent.mux.heard(), |at| at.max(self.agent.mux.heard())) + SILENCE
    }

    fn resumed(&self) -> Option<Instant> {
        self.remote.as_ref()?.resumed()
    }

    /// Is the agent there, and the WebSocket to it?
    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live) && self.remote.as_ref().is_some_and(RemoteTerminal::is_connected)
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let own = match &self.phase {
            Phase::Booting(boot) => [Some(boot.deadline()), None, None, None],
            Phase::Greeting { since } => [Some(*since + boot::TIME), None, None, None],
            Phase::Ending { until } => [Some(*until), None, None, None],
            Phase::Live if self.is_live() => {
                let idle = (!self.agent.mux.has_streams()).then(|| self.idle + IDLE);
                let lost = self.remote.as_ref().and_then(RemoteTerminal::deadline);
                [Some(self.silent_at()), lost, idle, self.agent.mux.deadline(now)]
            }
            Phase::Idle | Phase::Opening | Phase::Live => [None; 4],
        };
        let pong = self.agent.socket.as_ref().and_then(TerminalSocket::due);
        // Filter each: one that is overdue waits for room in the socket, and must not hide the
        // others.
        own.into_iter().chain([pong]).flatten().filter(|at| *at > now).min()
    }

    /// Moves what has come from the agent into [`AgentLink::event`].
    pub fn read(&mut self, turn: &mut Turn<'_>) {
        self.agent.unfinished = true;
        self.work_off(turn);
        for _ in 0..TURN {
            // Handle what was read before reading more, so that nothing piles up here.
            if self.agent.mux.has_events() || !self.agent.backlog.0.is_empty() {
                break;
            }
            let Some(socket) = &mut self.agent.socket else { return };
            let text = match socket.read() {
                Ok(Some(Event::Text(text))) => text,
                Ok(Some(Event::Pong(_))) => continue,
                Ok(None) => {
                    self.agent.unfinished = false;
                    break;
                }
                Err(closed) => return self.dropped(&closed, turn),
            };
            match codec::decode(&text) {
                Ok(Incoming::Stdout(text)) => self.hear(text, turn),
                Ok(Incoming::Setup | Incoming::Other) => {}
                Ok(Incoming::Disconnect) => return self.ended(turn),
                Err(_) => {
                    let closed = Closed::Protocol("a message was not understood".into());
                    return self.dropped(&closed, turn);
                }
            }
        }
        self.check_time(turn);
    }

    /// Does what is due because time has passed.
    fn check_time(&mut self, turn: &mut Turn<'_>) {
        self.tell_answer(turn.now);
        let given_up = matches!(self.phase, Phase::Live)
            && self.remote.as_mut().is_some_and(|remote| remote.waited(turn.now));
        let due = match &mut self.phase {
            Phase::Booting(boot) => boot.due(turn.now),
            Phase::Greeting { since } if turn.now >= *since + boot::TIME => Some(Due::TooLate),
            _ => None,
        };
        match due {
            Some(Due::Type(line)) => {
                turn.log.info(Line::of(
                    Logged::Agent,
                    "the server did not take our command for its terminal: it is typed",
                ));
                self.say(&line);
            }
            Some(Due::TooLate) => {
                let why = format!("the agent did not greet within {} s", boot::TIME.as_secs());
                self.fail(NOT_STARTED, true, &why, turn);
            }
            None => {}
        }
        match self.phase {
            Phase::Live if given_up => {
                self.fail(NOT_RECONNECTED, false, "the agent does not answer", turn);
            }
            Phase::Live if self.is_live() && turn.now >= self.silent_at() => {
                let why = Closed::Lost(std::io::ErrorKind::TimedOut.into());
                self.dropped(&why, turn);
            }
            Phase::Live
                if self.is_live() && !self.agent.mux.has_streams() && turn.now >= self.idle + IDLE =>
            {
                turn.log.info(Line::of(Logged::Agent, "unused: ended"));
                self.end(turn);
            }
            Phase::Ending { until } if turn.now >= until => self.let_go(turn),
            _ => {}
        }
        if self.agent.mux.has_streams() {
            self.idle = turn.now;
        }
    }

    /// Tells the terminal if the agent has answered since the WebSocket was reconnected.
    fn tell_answer(&mut self, now: Instant) {
        let heard = self.resumed().is_some_and(|at| self.agent.mux.heard() > at);
        if let (true, true, Some(remote)) = (heard, self.is_live(), &mut self.remote) {
            remote.answered(now);
        }
    }

    /// The next event of a stream.
    pub fn event(&mut self, turn: &mut Turn<'_>) -> Option<mux::Event> {
        loop {
            match self.agent.mux.event()? {
                mux::Event::Hello(hello) => {
                    self.hopeless = false;
                    turn.log.info(
                        Line::of(Logged::Agent, "greeted").with("python", printable(&hello.python, 60)),
                    );
                    self.agent.hello = Some(hello);
                    if matches!(self.phase, Phase::Greeting { .. }) {
                        self.phase = Phase::Live;
                    }
                    self.idle = turn.now;
                }
                mux::Event::Bye(why) => {
                    if !matches!(self.phase, Phase::Ending { .. }) {
                        let why = format!("the agent has ended: {}", printable(&why, 200));
                        self.fail(AGENT_ENDED, false, &why, turn);
                    }
                }
                mux::Event::Noise(noise) => self.noise(&noise, turn),
                event => return Some(event),
            }
        }
    }

    fn noise(&mut self, noise: &[u8], turn: &mut Turn<'_>) {
        let text = String::from_utf8_lossy(noise);
        let Some(nonce) = self.agent.nonce.clone() else { return };
        self.hear_last_words(&nonce, &text, turn);
        if agent::is_marker(&nonce, &text) {
            return;
        }
        self.agent.noises += 1;
        if self.agent.noises <= LOGGED_NOISE {
            turn.log
                .info(Line::of(Logged::Agent, format_args!("its terminal shows: {}", printable(&text, 100))));
        }
    }

    /// Looks for the word of the guardian or the loader that there is no agent.
    fn hear_last_words(&mut self, nonce: &Nonce, text: &str, turn: &mut Turn<'_>) {
        let greeting = matches!(self.phase, Phase::Greeting { .. });
        if agent::is_gone(nonce, text) {
            if greeting || self.is_live() {
                self.fail(AGENT_ENDED, false, "the agent was killed or has crashed", turn);
            }
        } else if greeting && agent::is_bad_source(nonce, text) {
            self.fail(NOT_STARTED, true, NO_SOURCE, turn);
        }
    }

    /// Sends what the channels have queued.
    pub fn write(&mut self, turn: &mut Turn<'_>) {
        if let Err(violation) = self.agent.mux.check() {
            return self.fail(BROKE_PROTOCOL, false, &violation.to_string(), turn);
        }
        if let Err(closed) = self.try_write(turn.now) {
            self.dropped(&closed, turn);
        }
    }

    fn try_write(&mut self, now: Instant) -> Result<(), Closed> {
        let speaks = matches!(self.phase, Phase::Live | Phase::Ending { .. });
        let Some(socket) = &mut self.agent.socket else { return Ok(()) };
        socket.flush()?;
        for _ in 0..TURN {
            // Keep what the network doesn't take yet in the mux, where it can still be put in
            // order.
            if socket.wants_write() {
                break;
            }
            let message = match self.agent.pending.take() {
                Some(message) => message,
                None if self.agent.typed >= RETURN_AFTER => {
                    self.agent.typed = 0;
                    codec::stdin("\r").into()
                }
                None if speaks => match self.agent.mux.transmit(now) {
                    Some(text) => codec::stdin_lines(&text).into(),
                    None => break,
                },
                None => break,
            };
            if socket.send_text(message.clone())?.is_err() {
                self.agent.pending = Some(message);
                break;
            }
            self.agent.typed += message.len();
            socket.flush()?;
        }
        Ok(())
    }

    /// Ends the agent: the connection is over, or nobody uses it.
    pub fn end(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Idle | Phase::Ending { .. } => {}
            // If the terminal comes all the same, it is deleted.
            Phase::Opening => {
                if let Some(remote) = &mut self.remote {
                    remote.let_go(turn);
                }
            }
            Phase::Live if self.is_live() => {
                self.agent.mux.bye("the SSH connection has ended");
                self.phase = Phase::Ending { until: turn.now + GOODBYE };
                self.write(turn);
            }
            Phase::Booting(_) | Phase::Greeting { .. } | Phase::Live => self.let_go(turn),
        }
    }

    /// A job of the terminal with this number has reported.
    pub fn news(&mut self, terminal: u64, news: News, turn: &mut Turn<'_>) {
        let change = match &mut self.remote {
            Some(remote) if remote.number() == terminal => remote.news(news, turn),
            _ => return self.leaving.news(terminal, news, turn),
        };
        match change {
            Change::Nothing | Change::Progress(_) => {}
            Change::Opened(socket) => self.opened(socket, turn),
            Change::NotOpened(why) => {
                self.remote = None;
                self.phase = Phase::Idle;
                self.failure = Some(Failure { for_user: why.for_user, plain: false });
                self.generation += 1;
            }
            Change::Reconnected(mut socket) => {
                socket.set_longest_message(MAX_MESSAGE);
                self.agent.socket = Some(socket);
                self.agent.pending = None;
                self.agent.unfinished = true;
                self.agent.mux.reconnected(turn.now);
            }
            Change::NotReconnected(lost) => {
                let (text, why) = match lost {
                    Lost::Gone => (SERVER_GONE, "the agent's terminal has ended with its server".to_owned()),
                    Lost::TimedOut(why) => {
                        (NOT_RECONNECTED, format!("agent not reconnected within 60 s: {why}"))
                    }
                };
                self.fail(text, false, &why, turn);
            }
            Change::Fault => self.fail(FAULT, false, "a job failed", turn),
        }
    }

    // --- making and losing it ---

    fn make(&mut self, turn: &mut Turn<'_>) {
        let Ok(nonce) = Nonce::random() else {
            return self.fail(NO_THREAD, false, "no random numbers", turn);
        };
        let order = Order {
            address: Address { channel: LINK, terminal: self.generation },
            role: Role::Agent,
            body: create_body(Some(&agent::command(&nonce)), &[]),
            plain: Some(create_body(None, &[])),
        };
        self.agent = Agent::new(Some(nonce), turn.now);
        self.phase = Phase::Opening;
        let remote = RemoteTerminal::open(order, &self.access, turn);
        let started = !remote.is_over();
        self.remote = Some(remote);
        if !started {
            self.fail(NO_THREAD, false, "no thread for a job", turn);
        }
    }

    fn opened(&mut self, mut socket: TerminalSocket, turn: &mut Turn<'_>) {
        socket.set_longest_message(MAX_MESSAGE);
        self.agent.socket = Some(socket);
        self.agent.unfinished = true;
        let wanted = self.remote.as_ref().is_some_and(RemoteTerminal::is_connected);
        match (self.agent.nonce.clone(), wanted) {
            (Some(nonce), true) => {
                self.phase = Phase::Booting(Box::new(Boot::new(nonce, turn.now)));
                self.read(turn);
            }
            _ => self.let_go(turn),
        }
    }

    /// Takes what the terminal has printed.
    fn hear(&mut self, text: Cow<'_, str>, turn: &mut Turn<'_>) {
        if let Phase::Booting(boot) = &mut self.phase {
            boot.print(&text, turn.now);
            return self.boot(turn);
        }
        if let Some(piece) = text.as_bytes().get(..mux::PIECE) {
            self.receive(piece, turn);
            if self.agent.socket.is_some() {
                self.agent.backlog = (text.into_owned(), mux::PIECE);
            }
        } else {
            self.receive(text.as_bytes(), turn);
        }
    }

    /// Does what the agent's start needs next.
    fn boot(&mut self, turn: &mut Turn<'_>) {
        while let Phase::Booting(boot) = &mut self.phase {
            let since = boot.since();
            match boot.step() {
                None => return,
                Some(Step::Say(text)) => self.say(&text),
                Some(Step::Load { source, rest }) => {
                    self.phase = Phase::Greeting { since };
                    self.say(&source);
                    self.agent.backlog = (rest, 0);
                    self.work_off(turn);
                }
                Some(Step::NoPython) => {
                    self.hopeless = true;
                    self.fail(NO_PYTHON, true, "no Python 3.6 or newer in the server", turn);
                }
                Some(Step::BadSource) => self.fail(NOT_STARTED, true, NO_SOURCE, turn),
            }
        }
    }

    /// Handles the backlog until there is an event to act on.
    fn work_off(&mut self, turn: &mut Turn<'_>) {
        while !self.agent.mux.has_events() && !self.agent.backlog.0.is_empty() {
            let (text, done) = std::mem::take(&mut self.agent.backlog);
            let end = text.len().min(done + mux::PIECE);
            self.receive(text.as_bytes().get(done..end).unwrap_or_default(), turn);
            if end < text.len() && self.agent.socket.is_some() {
                self.agent.backlog = (text, end);
            }
        }
    }

    fn receive(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        if let Err(violation) = self.agent.mux.receive(bytes, turn.now) {
            return self.fail(BROKE_PROTOCOL, false, &violation.to_string(), turn);
        }
        let unfinished = self.agent.mux.unfinished_line();
        let last_words = (unfinished.contains(&0x1b) && unfinished.len() < 512)
            .then(|| String::from_utf8_lossy(unfinished).into_owned());
        if let (Some(words), Some(nonce)) = (last_words, self.agent.nonce.clone()) {
            self.hear_last_words(&nonce, &words, turn);
        }
    }

    /// Types a text of our own, in messages of a size that every server takes.
    fn say(&mut self, text: &str) {
        let Some(socket) = &mut self.agent.socket else { return };
        for piece in text.as_bytes().chunks(8 * 1024) {
            let piece = std::str::from_utf8(piece).unwrap_or_default();
            // A failure shows at the next read. All of it fits: the buffer holds 256 KiB.
            let _ = socket.send_text(codec::stdin(piece));
        }
    }

    /// The WebSocket has dropped.
    fn dropped(&mut self, why: &Closed, turn: &mut Turn<'_>) {
        self.agent.socket = None;
        self.agent.backlog = (String::new(), 0);
        self.tell_answer(turn.now);
        match self.phase {
            Phase::Live => {}
            // Perhaps the agent has just ended. Delete the terminal to make sure.
            Phase::Ending { .. } => return self.let_go(turn),
            _ => {
                let why = format!("connection to the server lost while the agent was started: {why}");
                return self.fail(NOT_STARTED, false, &why, turn);
            }
        }
        let Some(remote) = &mut self.remote else { return };
        match remote.dropped(why, turn) {
            Dropped::Reconnecting => {}
            Dropped::GivenUp => {
                self.fail(NOT_RECONNECTED, false, "the agent was lost again and again", turn);
            }
            Dropped::NoThread => self.fail(NO_THREAD, false, "no thread for a job", turn),
        }
    }

    /// The terminal has ended, and the server says so.
    fn ended(&mut self, turn: &mut Turn<'_>) {
        self.agent.socket = None;
        // There is nothing left to be deleted.
        if let Some(remote) = &mut self.remote {
            remote.ended(turn.now);
        }
        if matches!(self.phase, Phase::Ending { .. }) {
            turn.log.info(Line::of(Logged::Agent, "ended"));
            self.let_go(turn);
        } else {
            let text = if matches!(self.phase, Phase::Live) { AGENT_ENDED } else { NOT_STARTED };
            let plain = !matches!(self.phase, Phase::Live);
            self.fail(text, plain, "the agent's terminal has ended", turn);
        }
    }

    /// Gives the agent up: all streams are over.
    fn fail(&mut self, for_user: &str, plain: bool, for_log: &str, turn: &mut Turn<'_>) {
        turn.log.warning(Line::of(Logged::Agent, for_log));
        self.failure = Some(Failure { for_user: for_user.to_owned(), plain });
        // Tell it to end, in case it still listens.
        if let Some(text) = self.goodbye(for_log, turn.now) {
            self.say(&text);
            let _ = self.agent.socket.as_mut().map(TerminalSocket::flush);
        }
        self.let_go(turn);
    }

    fn goodbye(&mut self, why: &str, now: Instant) -> Option<String> {
        self.agent.hello.as_ref()?;
        let mut last = Mux::new(frame::salt(self.agent.nonce.as_ref()?.as_str()), now);
        last.bye(why);
        last.transmit(now)
    }

    /// Forgets the agent, and deletes its terminal if that may still be there.
    fn let_go(&mut self, turn: &mut Turn<'_>) {
        let Agent { socket, .. } = std::mem::replace(&mut self.agent, Agent::new(None, turn.now));
        if let Some(socket) = socket {
            socket.close();
        }
        self.generation += 1;
        self.phase = Phase::Idle;
        if let Some(remote) = self.remote.take() {
            self.leaving.take(remote, turn);
        }
    }
}

/// For the log.
const NO_SOURCE: &str = "the agent's source did not arrive";

const NO_PYTHON: &str = "Your server has no Python 3.6 or newer, which commands and files need here.\n\
    Log in without a command for a terminal, or use an image with Python.";
const NOT_STARTED: &str = "Your server opened a terminal, but our agent did not start in it.\n\
    Look for start-up files in your home that don't end, such as .bashrc; then try again.";
const AGENT_ENDED: &str = "The agent in your server has ended, and with it what it ran for this connection.\n\
    Try again; if it was killed, your server may be short of memory.";
const BROKE_PROTOCOL: &str = "The agent in your server sent what no agent sends; the connection to it was ended.\n\
    Try again; if that does not help, restart your server on the hub's home page.";
const SERVER_GONE: &str = "Your server was stopped or restarted, and with it what it ran for this connection.\n\
    Try again to start it anew.";
const NOT_RECONNECTED: &str = "The connection to your server could not be restored within 60 s.\n\
    What it ran for this connection ends. Try again later.";
