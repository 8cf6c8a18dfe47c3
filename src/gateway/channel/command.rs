//! A channel that uses a stream of the agent: a command, a shell, or files in the user's server.

use super::own_home::OwnHome;
use super::peer::{self, BROKEN, Heard, Peer};
use super::plain::Interactive;
use crate::link::{AgentLink, Standing};
use crate::output::Output;
use crate::remote::turn::Turn;
use host::log::{Event as Logged, Line};
use host::sys::socket;
use hub::progress::Progress;
use hub::text::printable;
use nix::poll::PollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use server::agent;
use server::mux::protocol::MAX_PAYLOAD;
use server::mux::{Description, Event, Exit, Part, StreamId, TtyDescription};
use server::terminado::shell::Environment;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::session::{SessionReply, SessionRequest, Tty};

/// Credit of a part without a terminal, in bytes.
const WINDOW: usize = 256 * 1024;
/// Credit with a terminal, in bytes: so much output is still shown after Ctrl-C.
const TTY_WINDOW: usize = 64 * 1024;
/// After this long without a connection, a terminal shows a notice.
const NOTICE: Duration = Duration::from_secs(2);
/// Longest SSH_CLIENT and SSH_CONNECTION, in bytes: two addresses and two ports.
const MAX_ADDRESSES: usize = 256;

/// What to run.
pub enum Work {
    /// A command, or the login shell.
    Process {
        /// The command; `None` for the login shell.
        command: Option<Vec<u8>>,
        /// The client's terminal, if it has one.
        tty: Option<Tty>,
    },
    /// An SFTP server.
    Files {
        /// The umask for files that it creates.
        umask: u32,
        /// Changes the client's requests on their way.
        own_home: OwnHome,
    },
}

impl Work {
    /// How much of what was read is not sent yet, in bytes.
    fn held(&self) -> usize {
        match self {
            Self::Process { .. } => 0,
            Self::Files { own_home, .. } => own_home.held(),
        }
    }
}

enum Phase {
    /// Waits for an agent.
    Waiting,
    /// Waits until the session program has switched the client's terminal to raw mode.
    Attaching,
    /// Bytes move.
    Running { stream: StreamId, generation: u64 },
    /// The stream is over. Its last output goes to the client, who may take any time for it, as
    /// with sshd.
    Ending { exit: Option<Exit> },
    /// It should become a plain terminal.
    Plain,
    /// Over.
    Done,
}

/// One direction of output, to the client.
struct Sink {
    file: Option<File>,
    output: Output,
    /// How many of its bytes are our own, for which no credit is due.
    ours: usize,
    /// True if nothing more will come.
    complete: bool,
}

impl Sink {
    fn new(fd: OwnedFd) -> Self {
        Self { file: Some(fd.into()), output: Output::default(), ours: 0, complete: false }
    }

    fn is_waiting(&self) -> bool {
        self.file.is_some() && !self.output.is_empty()
    }

    /// Passes the end on, once everything before it is written. Returns true if that is done now.
    fn end(&mut self) -> bool {
        let done = self.complete && self.output.is_empty() && self.file.is_some();
        if let Some(file) = self.file.take_if(|_| done) {
            // sshd may have given the session program one socket for several purposes.
            let _ = shutdown(file.as_raw_fd(), Shutdown::Write);
        }
        done
    }

    /// Writes what the client takes. Returns the number of bytes, or the error of a client that is
    /// gone.
    fn write(&mut self) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let before = self.output.len();
        let outcome = self.output.write_to(file);
        let written = before - self.output.len();
        let ours = written.min(self.ours);
        self.ours -= ours;
        outcome.map(|()| written - ours)
    }
}

/// A channel that is a stream of the agent.
pub struct CommandChannel {
    peer: Peer,
    work: Work,
    environment: Environment,
    /// Environment of the stream's process.
    variables: BTreeMap<String, String>,
    phase: Phase,
    stdin: Option<File>,
    output: Sink,
    error: Sink,
    /// The end of standard error's other end is that of the client's channel.
    tells_end: bool,
    /// How the process ended, once the agent has said so.
    exit: Option<Exit>,
    /// The buffer for reading from the client. It is kept because every turn of the loop tries.
    buffer: Vec<u8>,
    /// True once it has asked for an agent.
    asked: bool,
    /// True once the user has been told that the connection is lost.
    noticed: bool,
}

impl CommandChannel {
    /// Takes a session program that has handed over its descriptors. `None` if these cannot be
    /// used.
    #[must_use]
    pub fn new(
        peer: Peer,
        work: Work,
        descriptors: Vec<OwnedFd>,
        offered: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
        if [&stdin, &stdout, &stderr].iter().any(|fd| socket::set_nonblocking(fd).is_err()) {
            return None;
        }
        let environment = Environment::of(offered);
        let mut variables: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        variables.extend(addresses(offered));
        // sshd closes the other end of this one with the channel, and only then: of the others when
        // the client ends its input, or wants no more output. A terminal is hung up instead.
        let process = matches!(work, Work::Process { tty: None, .. });
        let tells_end = process && !socket::is_closed_there(stderr.as_fd());
        Some(Self {
            peer,
            work,
            environment,
            variables,
            phase: Phase::Waiting,
            stdin: Some(stdin.into()),
            output: Sink::new(stdout),
            error: Sink::new(stderr),
            tells_end,
            exit: None,
            buffer: Vec::new(),
            asked: false,
            noticed: false,
        })
    }

    /// The channel's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.peer.id()
    }

    /// True if it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Its stream of this agent.
    #[must_use]
    pub fn stream(&self, link: &AgentLink) -> Option<StreamId> {
        match self.phase {
            Phase::Running { stream, generation } if generation == link.generation() => Some(stream),
            _ => None,
        }
    }

    fn tty(&self) -> Option<&Tty> {
        match &self.work {
            Work::Process { tty, .. } => tty.as_ref(),
            Work::Files { .. } => None,
        }
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, link: &AgentLink, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        fds.extend(self.peer.fd().map(|fd| (fd, PollFlags::POLLIN)));
        let reads = self.stream(link).is_some_and(|stream| link.streams().room(stream) > self.work.held());
        if let (true, Some(stdin)) = (reads, &self.stdin) {
            fds.push((stdin.as_fd(), PollFlags::POLLIN));
        }
        for sink in [&self.output, &self.error] {
            if let (true, Some(file)) = (sink.is_waiting(), &sink.file) {
                fds.push((file.as_fd(), PollFlags::POLLOUT));
            }
        }
        if let (true, Some(file)) = (self.tells_end, &self.error.file) {
            // Its closing alone, which is always told.
            fds.push((file.as_fd(), PollFlags::empty()));
        }
    }

    /// True if the client has closed its channel. A command that neither reads nor writes would
    /// never notice.
    fn is_left(&self) -> bool {
        let error = self.error.file.as_ref().filter(|_| self.tells_end);
        error.is_some_and(|file| socket::is_closed_there(file.as_fd()))
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, link: &AgentLink, now: Instant) -> Option<Instant> {
        let at = match self.phase {
            Phase::Running { .. } if self.tty().is_some() && !self.noticed => {
                link.lost_since().map(|at| at + NOTICE)
            }
            _ => None,
        };
        at.filter(|at| *at > now)
    }

    /// Tells the user how the start of the server goes.
    pub fn progress(&self, progress: &Progress) {
        if matches!(self.phase, Phase::Waiting) {
            let Progress { percent, message, .. } = progress.clone();
            self.peer.tell(&SessionReply::Progress { percent, message });
        }
    }

    /// True if it should become a plain terminal.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.phase, Phase::Plain)
    }

    /// What a plain terminal needs from it. `None` if it cannot become one.
    #[must_use]
    pub fn into_interactive(self) -> Option<Interactive> {
        let size = self.tty()?.size;
        let (stdin, stdout) = (self.stdin?, self.output.file?);
        Some(Interactive { peer: self.peer, stdin, stdout, size, environment: self.environment })
    }

    /// Does everything that can be done now.
    pub fn drive(&mut self, link: &mut AgentLink, turn: &mut Turn<'_>) {
        self.hear_session(link, turn);
        if self.is_left() {
            return self.session_gone(link, turn.now);
        }
        if matches!(self.phase, Phase::Waiting) {
            self.wait(link, turn);
        }
        self.check_link(link, turn);
        self.read_client(link, turn.now);
        self.write_client(link, turn.now);
        let drained = !self.output.is_waiting() && !self.error.is_waiting();
        if let (Phase::Ending { exit }, true) = (&mut self.phase, drained) {
            let exit = exit.take();
            self.finish(exit, turn);
        }
    }

    /// Takes an event of its stream.
    pub fn event(&mut self, event: Event, link: &mut AgentLink, turn: &mut Turn<'_>) {
        match event {
            Event::Data(stream, part, bytes) => {
                let sink = self.sink(part);
                if sink.file.is_some() {
                    sink.output.push(&bytes);
                    self.write_client(link, turn.now);
                } else {
                    link.mux().consumed(stream, part, bytes.len(), turn.now);
                }
            }
            Event::Stop(_) => self.stdin = None,
            Event::Exit(_, exit) => self.exit = Some(exit),
            Event::Closed(_) => {
                self.phase = Phase::Ending { exit: self.exit.take() };
            }
            Event::Refused(_, why) => {
                let why = printable(&why, 200);
                turn.log.warning(
                    Line::new(Logged::ChannelRefused).with("channel", self.id()).with("reason", &why),
                );
                let text =
                    format!("Your server could not run this: {why}.\nTry again, or restart your server.");
                self.end(BROKEN, Some(text), turn);
            }
            Event::Eof(_, part) if self.tty().is_none() => {
                self.sink(part).complete = true;
                self.pass_end_on(part);
            }
            Event::Opened(_) | Event::Eof(..) | Event::Hello(_) | Event::Bye(_) | Event::Noise(_) => {}
        }
    }

    /// Tells the client that a part has ended. The session program has a descriptor of standard
    /// error, too, and must close it.
    fn pass_end_on(&mut self, part: Part) {
        if self.sink(part).end() && part == Part::Error {
            self.peer.tell(&SessionReply::ErrorEnded);
        }
    }

    fn sink(&mut self, part: Part) -> &mut Sink {
        match part {
            Part::Output => &mut self.output,
            Part::Error => &mut self.error,
        }
    }

    // --- the session program ---

    fn hear_session(&mut self, link: &mut AgentLink, turn: &mut Turn<'_>) {
        loop {
            let request = match self.peer.hear() {
                Heard::Request(request, _) => request,
                Heard::Nothing => return,
                Heard::Gone => return self.session_gone(link, turn.now),
            };
            let stream = self.stream(link);
            match request {
                SessionRequest::Ready { size, typed } if matches!(self.phase, Phase::Attaching) => {
                    let Some(typed) = peer::typed(&typed) else { return self.session_gone(link, turn.now) };
                    self.set_size(size);
                    self.open(&typed, link, turn.now);
                }
                SessionRequest::Resize { size } => {
                    self.set_size(size);
                    if let Some(stream) = stream {
                        link.mux().resize(stream, size.rows, size.cols, turn.now);
                    }
                }
                SessionRequest::Signal { name } => {
                    let known = name.len() <= 16 && name.bytes().all(|b| b.is_ascii_alphanumeric());
                    match (stream, known) {
                        (Some(stream), true) => link.mux().signal(stream, &name, turn.now),
                        // There is no process yet, so end the channel.
                        (None, true) if matches!(self.phase, Phase::Waiting | Phase::Attaching) => {
                            self.peer.end_by_signal(name, turn);
                            return self.done();
                        }
                        _ => {}
                    }
                }
                // Too late: the agent was lost meanwhile.
                SessionRequest::Ready { .. } => {}
                // Only our own program speaks here, so a wrong message gets no second chance.
                _ => return self.session_gone(link, turn.now),
            }
        }
    }

    fn set_size(&mut self, size: wire::session::WindowSize) {
        if let Work::Process { tty: Some(tty), .. } = &mut self.work {
            tty.size = size;
        }
    }

    /// The session program is gone, or has to go.
    pub fn session_gone(&mut self, link: &mut AgentLink, now: Instant) {
        if let Some(stream) = self.stream(link) {
            link.mux().close(stream, now);
        }
        self.peer.leave();
        self.done();
    }

    /// Ends the channel for an administrator or a limit: tells the user, and hangs up its process.
    pub fn end_for(&mut self, why: &str, link: &mut AgentLink, turn: &mut Turn<'_>) {
        if self.peer.is_there() {
            self.peer.end(BROKEN, Some(why.to_owned()), turn);
            self.session_gone(link, turn.now);
        }
    }

    /// Its session program.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn end(&mut self, status: u8, message: Option<String>, turn: &mut Turn<'_>) {
        self.peer.end(status, message, turn);
        self.done();
    }

    fn done(&mut self) {
        self.phase = Phase::Done;
        (self.stdin, self.output.file, self.error.file) = (None, None, None);
    }

    fn finish(&mut self, exit: Option<Exit>, turn: &mut Turn<'_>) {
        match exit {
            Some(Exit::Status(status)) => self.end(status, None, turn),
            Some(Exit::Signal(signal)) => {
                self.peer.end_by_signal(signal, turn);
                self.done();
            }
            None => self.end(BROKEN, Some(NO_EXIT.to_owned()), turn),
        }
    }

    // --- the agent ---

    fn wait(&mut self, link: &mut AgentLink, turn: &mut Turn<'_>) {
        let first = !std::mem::replace(&mut self.asked, true);
        let shell = matches!(self.work, Work::Process { command: None, tty: Some(_) });
        link.want(first && !(shell && link.is_hopeless()), turn);
        match link.standing() {
            Standing::Making => {}
            Standing::Ready if self.tty().is_some() => {
                self.phase = Phase::Attaching;
                self.peer.tell(&SessionReply::Attach);
            }
            Standing::Ready => {
                // The progress of a start is no longer shown.
                self.peer.tell(&SessionReply::Attach);
                self.open(&[], link, turn.now);
            }
            Standing::Failed(failure) => {
                if shell && failure.plain {
                    self.phase = Phase::Plain;
                } else {
                    self.end(BROKEN, Some(failure.for_user), turn);
                }
            }
        }
    }

    /// `typed`: what the client's terminal has echoed already.
    fn open(&mut self, typed: &[u8], link: &mut AgentLink, now: Instant) {
        let source = (!link.has_sftp_server()).then_some(agent::FILES);
        let (description, window) = match &self.work {
            Work::Process { command, tty } => {
                let window = if tty.is_some() { TTY_WINDOW } else { WINDOW };
                let tty = tty.as_ref().map(|tty| TtyDescription::new(tty, typed));
                (Description::process(command.as_deref(), tty, &self.variables), window)
            }
            Work::Files { umask, .. } => (Description::Files { source, umask: *umask }, WINDOW),
        };
        let generation = link.generation();
        // This cannot fail: there are more streams than channels, and the description is short
        // enough.
        self.phase = match link.mux().open(&description, window, now) {
            Some(stream) => Phase::Running { stream, generation },
            None => Phase::Ending { exit: None },
        };
    }

    /// Ends if the agent is lost; tells a user at a terminal if the connection is lost.
    fn check_link(&mut self, link: &AgentLink, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Running { generation, .. } if generation != link.generation() => {
                self.lose(link, turn);
            }
            Phase::Attaching if !matches!(link.standing(), Standing::Ready) => self.lose(link, turn),
            Phase::Running { .. } if self.tty().is_some() => {
                let lost = link.lost_since();
                if !self.noticed && lost.is_some_and(|at| turn.now >= at + NOTICE) {
                    self.noticed = true;
                    self.notice("connection to your server lost; reconnecting for up to 60 s");
                } else if self.noticed && lost.is_none() {
                    self.noticed = false;
                    self.notice("reconnected");
                }
            }
            _ => {}
        }
    }

    fn lose(&mut self, link: &AgentLink, turn: &mut Turn<'_>) {
        let message = link.failure().map(|failure| failure.for_user.clone());
        self.end(BROKEN, Some(message.unwrap_or_else(|| NO_EXIT.to_owned())), turn);
    }

    /// Shows a message on a line of its own, if there is a terminal.
    pub fn notice(&mut self, text: &str) {
        if self.tty().is_none() || !matches!(self.phase, Phase::Running { .. }) {
            return;
        }
        let text = format!("\r\n[jupyterhub-openssh: {text}]\r\n");
        self.output.ours += text.len();
        self.output.output.push(text.as_bytes());
    }

    // --- the client ---

    fn read_client(&mut self, link: &mut AgentLink, now: Instant) {
        let Some(stream) = self.stream(link) else { return };
        if self.stdin.is_none() || link.streams().room(stream) <= self.work.held() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(MAX_PAYLOAD, 0);
        self.read_into(&mut buffer, stream, link, now);
        self.buffer = buffer;
    }

    fn read_into(&mut self, buffer: &mut [u8], stream: StreamId, link: &mut AgentLink, now: Instant) {
        // A few turns only, so that a flood does not make others wait.
        for _ in 0..4 {
            let room = link.mux().room(stream).saturating_sub(self.work.held());
            let (Some(stdin), Some(part), true) = (&mut self.stdin, buffer.get_mut(..room), room > 0) else {
                return;
            };
            match stdin.read(part) {
                Ok(0) if self.tty().is_some() => return self.session_gone(link, now),
                Ok(0) => {
                    if let Work::Files { own_home, .. } = &mut self.work {
                        link.mux().send(stream, &own_home.end(), now);
                    }
                    link.mux().eof(stream, now);
                    self.stdin = None;
                }
                Ok(n) => {
                    self.peer.received(n, now);
                    let bytes = buffer.get(..n).unwrap_or_default();
                    match &mut self.work {
                        Work::Process { .. } => link.mux().send(stream, bytes, now),
                        Work::Files { own_home, .. } => link.mux().send(stream, &own_home.push(bytes), now),
                    };
                    if n < room {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A terminal that was hung up (tty(4)), or a socket that was reset.
                Err(_) => return self.session_gone(link, now),
            }
        }
    }

    fn write_client(&mut self, link: &mut AgentLink, now: Instant) {
        let stream = self.stream(link);
        for part in [Part::Output, Part::Error] {
            let sink = self.sink(part);
            if !sink.is_waiting() {
                continue;
            }
            let written = sink.write();
            self.pass_end_on(part);
            let written_bytes = *written.as_ref().unwrap_or(&0);
            self.peer.sent(written_bytes);
            if written_bytes > 0 && self.tty().is_none() {
                // A command has no other way to show that it is in use.
                self.peer.is_active(now);
            }
            let sink = self.sink(part);
            if written.is_err() {
                // Its reader is gone: tell the program.
                sink.output.clear();
                sink.file = None;
            }
            let Some(stream) = stream else { continue };
            match written {
                Ok(0) => {}
                Ok(bytes) => link.mux().consumed(stream, part, bytes, now),
                Err(_) => link.mux().stop(stream, part, now),
            }
        }
    }
}

/// SSH_CLIENT and SSH_CONNECTION, as sshd sets them: addresses and ports.
fn addresses(offered: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> + '_ {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'%' | b' ' | b'-' | b'_');
    ["SSH_CLIENT", "SSH_CONNECTION"].into_iter().filter_map(move |name| {
        let value = offered.get(name)?;
        let good = value.len() <= MAX_ADDRESSES && value.bytes().all(harmless);
        good.then(|| (name.to_owned(), value.clone()))
    })
}

const NO_EXIT: &str =
    "Your server ended this without saying how.\nTry again; if that does not help, restart your server.";
