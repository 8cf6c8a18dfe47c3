//! One channel of the connection: what its session program asks for decides what becomes of it.

pub mod command;
pub mod files;
pub mod own_home;
pub mod peer;
pub mod plain;
pub mod transfer;

use crate::access::Access;
use crate::link::AgentLink;
use crate::remote::report::News;
use crate::remote::turn::Turn;
use command::{CommandChannel, Work};
use host::config::TerminalMode;
use host::log::{Event as Logged, Line};
use host::sys::socket;
use hub::progress::Progress;
use nix::poll::PollFlags;
use own_home::OwnHome;
use peer::{BROKEN, Heard, Peer};
use plain::{Interactive, TerminalChannel};
use server::mux::{Event, StreamId};
use server::terminado::shell::Environment;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;
use transfer::Transfer;
use wire::claim::HomeState;
use wire::session::{FileTool, MAX_COMMAND, SessionReply, SessionRequest, Tty};

/// A channel whose session program has not said everything yet.
pub struct Asking {
    peer: Peer,
    access: Access,
    home: Rc<HomeState>,
    /// A command that is still to come.
    exec: Option<Exec>,
}

struct Exec {
    length: usize,
    tty: Option<Tty>,
    environment: BTreeMap<String, String>,
    descriptors: Vec<OwnedFd>,
}

/// A channel, by what has become of it.
pub enum Channel {
    /// Its session program has not said everything yet.
    Asking(Asking),
    /// A shell in a plain terminal of the user's server.
    Terminal(Box<TerminalChannel>),
    /// A stream of the agent.
    Command(Box<CommandChannel>),
    /// The session program has become one that serves this host's files.
    Transfer(Transfer),
    /// Over.
    Done(u64),
}

impl Channel {
    /// For a session program that has just connected.
    #[must_use]
    pub fn new(peer: Peer, access: Access, home: Rc<HomeState>) -> Self {
        Self::Asking(Asking { peer, access, home, exec: None })
    }

    /// The channel's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Self::Asking(asking) => asking.peer.id(),
            Self::Terminal(terminal) => terminal.id(),
            Self::Command(command) => command.id(),
            Self::Transfer(transfer) => transfer.id(),
            Self::Done(id) => *id,
        }
    }

    /// Is it over, with nothing left to wait for?
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Asking(_) => false,
            Self::Terminal(terminal) => terminal.is_done(),
            Self::Command(command) => command.is_done(),
            Self::Transfer(transfer) => transfer.is_done(),
            Self::Done(_) => true,
        }
    }

    /// True if it needs the HTTP client now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Terminal(terminal) if terminal.is_busy())
    }

    /// True if this stream of the agent is its own.
    #[must_use]
    pub fn has(&self, stream: StreamId, link: &AgentLink) -> bool {
        matches!(self, Self::Command(command) if command.stream(link) == Some(stream))
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, link: &AgentLink, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        match self {
            Self::Asking(asking) => fds.extend(asking.peer.fd().map(|fd| (fd, PollFlags::POLLIN))),
            Self::Terminal(terminal) => terminal.interest(fds),
            Self::Command(command) => command.interest(link, fds),
            Self::Transfer(transfer) => transfer.interest(fds),
            Self::Done(_) => {}
        }
    }

    /// Is there something to do at once, which poll(2) does not announce?
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        matches!(self, Self::Terminal(terminal) if terminal.is_unfinished())
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, link: &AgentLink, now: Instant) -> Option<Instant> {
        match self {
            Self::Terminal(terminal) => terminal.deadline(now),
            Self::Command(command) => command.deadline(link, now),
            Self::Asking(_) | Self::Transfer(_) | Self::Done(_) => None,
        }
    }

    /// Does everything that can be done now.
    pub fn drive(&mut self, link: &mut AgentLink, turn: &mut Turn<'_>) {
        loop {
            let id = self.id();
            match self {
                Self::Asking(asking) => match asking.hear(turn) {
                    Some(next) => *self = next,
                    None => return,
                },
                Self::Terminal(terminal) => return terminal.drive(turn),
                Self::Command(command) => {
                    command.drive(link, turn);
                    if !command.is_plain() {
                        return;
                    }
                    let access = link.access().clone();
                    let Self::Command(command) = std::mem::replace(self, Self::Done(id)) else { return };
                    if let Some(asked) = command.into_interactive() {
                        *self = Self::Terminal(Box::new(TerminalChannel::new(asked, access, turn)));
                    }
                }
                Self::Transfer(transfer) => return transfer.look(turn.log, turn.now),
                Self::Done(_) => return,
            }
        }
    }

    /// The agent has said something about its stream.
    pub fn event(&mut self, event: Event, link: &mut AgentLink, turn: &mut Turn<'_>) {
        if let Self::Command(command) = self {
            command.event(event, link, turn);
        }
    }

    /// The server is being started for the agent.
    pub fn progress(&self, progress: &Progress) {
        if let Self::Command(command) = self {
            command.progress(progress);
        }
    }

    /// A job of the channel's terminal with this number has reported.
    pub fn news(&mut self, terminal: u64, news: News, turn: &mut Turn<'_>) {
        if let Self::Terminal(channel) = self {
            channel.news(terminal, news, turn);
        }
    }

    /// The connection has ended: closes what the channel has in the user's server.
    pub fn session_gone(&mut self, link: &mut AgentLink, turn: &mut Turn<'_>) {
        match self {
            Self::Asking(asking) => *self = Self::Done(asking.peer.id()),
            Self::Terminal(terminal) => terminal.session_gone(turn),
            Self::Command(command) => command.session_gone(link, turn.now),
            // It ends with the jail.
            Self::Transfer(transfer) => *self = Self::Done(transfer.id()),
            Self::Done(_) => {}
        }
    }

    /// Ends the channel for an administrator or a limit, with two lines for the user.
    pub fn end_for(&mut self, why: &str, link: &mut AgentLink, turn: &mut Turn<'_>) {
        match self {
            Self::Asking(asking) => {
                asking.peer.end(BROKEN, Some(why.to_owned()), turn);
                *self = Self::Done(asking.peer.id());
            }
            Self::Terminal(terminal) => terminal.end_for(why, turn),
            Self::Command(command) => command.end_for(why, link, turn),
            Self::Transfer(_) | Self::Done(_) => {}
        }
    }

    /// Shows a message on a line of its own, if there is a terminal.
    pub fn notice(&mut self, text: &str) {
        match self {
            Self::Terminal(terminal) => terminal.notice(text),
            Self::Command(command) => command.notice(text),
            Self::Asking(_) | Self::Transfer(_) | Self::Done(_) => {}
        }
    }

    /// Its session program, and what has passed through the channel.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Asking(asking) => Some(&asking.peer),
            Self::Terminal(terminal) => Some(terminal.peer()),
            Self::Command(command) => Some(command.peer()),
            Self::Transfer(transfer) => Some(transfer.peer()),
            Self::Done(_) => None,
        }
    }

    /// True if this host serves files to it, past the gateway.
    #[must_use]
    pub fn is_transfer(&self) -> bool {
        matches!(self, Self::Transfer(_))
    }
}

impl Asking {
    /// What becomes of the channel, once the session program has said that.
    fn hear(&mut self, turn: &mut Turn<'_>) -> Option<Channel> {
        let gone = Some(Channel::Done(self.peer.id()));
        if let Some(exec) = &self.exec {
            let command = match self.peer.hear_bytes(exec.length) {
                Ok(command) => command?,
                Err(_) => return gone,
            };
            return self.exec.take().map_or(gone, |exec| self.exec(exec, command, turn));
        }
        let (request, descriptors) = match self.peer.hear() {
            Heard::Request(request, descriptors) => (request, descriptors),
            Heard::Nothing => return None,
            Heard::Gone => return gone,
        };
        match request {
            SessionRequest::Shell { tty, environment } => {
                self.peer.set_kind("shell");
                turn.log.info(opened(self.peer.id(), "shell"));
                let plain = self.access.config().terminal.mode == TerminalMode::Plain;
                match tty {
                    Some(tty) if plain => self.plain(&tty, &environment, descriptors, turn),
                    tty => self.command(
                        Work::Process { command: None, tty },
                        descriptors,
                        &environment,
                        turn.now,
                    ),
                }
            }
            SessionRequest::Exec { length, tty, environment } => {
                let length = usize::try_from(length).ok().filter(|length| *length <= MAX_COMMAND);
                let Some(length) = length else { return gone };
                let exec = Exec { length, tty, environment, descriptors };
                if length == 0 {
                    return self.exec(exec, Vec::new(), turn);
                }
                self.exec = Some(exec);
                self.hear(turn)
            }
            SessionRequest::Sftp { environment } => {
                self.peer.set_kind(files::name(FileTool::Sftp));
                let umask = self.access.config().files.umask;
                let own_home = OwnHome::new(self.access.login().as_str());
                self.command(Work::Files { umask, own_home }, descriptors, &environment, turn.now)
            }
            SessionRequest::Files { tool, command } => self.serve_files(tool, &command, turn),
            SessionRequest::Ready { .. } | SessionRequest::Resize { .. } => gone,
            SessionRequest::Signal { .. } => gone,
        }
    }

    fn exec(&mut self, exec: Exec, command: Vec<u8>, turn: &mut Turn<'_>) -> Option<Channel> {
        let Exec { tty, environment, descriptors, .. } = exec;
        // A command may be private: sshd doesn't log it either.
        self.peer.set_kind("command");
        turn.log.info(opened(self.peer.id(), "command"));
        self.command(Work::Process { command: Some(command), tty }, descriptors, &environment, turn.now)
    }

    /// Takes the session program out: what comes next owns it.
    fn take_peer(&mut self, now: Instant) -> Peer {
        let id = self.peer.id();
        std::mem::replace(&mut self.peer, Peer::none(id, now))
    }

    fn command(
        &mut self,
        work: Work,
        descriptors: Vec<OwnedFd>,
        environment: &BTreeMap<String, String>,
        now: Instant,
    ) -> Option<Channel> {
        let gone = Channel::Done(self.peer.id());
        let channel = CommandChannel::new(self.take_peer(now), work, descriptors, environment);
        Some(channel.map_or(gone, |channel| Channel::Command(Box::new(channel))))
    }

    fn plain(
        &mut self,
        tty: &Tty,
        offered: &BTreeMap<String, String>,
        descriptors: Vec<OwnedFd>,
        turn: &mut Turn<'_>,
    ) -> Option<Channel> {
        let gone = Some(Channel::Done(self.peer.id()));
        let Ok([stdin, stdout, _]) = <[OwnedFd; 3]>::try_from(descriptors) else { return gone };
        if [&stdin, &stdout].iter().any(|fd| socket::set_nonblocking(fd).is_err()) {
            return gone;
        }
        let environment = Environment::of(offered);
        let (stdin, stdout, peer) = (stdin.into(), stdout.into(), self.take_peer(turn.now));
        let asked = Interactive { peer, stdin, stdout, size: tty.size, environment };
        Some(Channel::Terminal(Box::new(TerminalChannel::new(asked, self.access.clone(), turn))))
    }

    /// The session program becomes one that serves files, asks for them in the user's server, or
    /// ends.
    fn serve_files(&mut self, tool: FileTool, command: &str, turn: &mut Turn<'_>) -> Option<Channel> {
        let id = self.peer.id();
        let opened = opened(id, files::name(tool));
        // rsync and scp log nothing themselves: their command line says which way and which paths.
        turn.log.info(if tool == FileTool::Sftp { opened } else { opened.with("command", command) });
        match files::answer(tool, &self.home, &self.access.config().files) {
            SessionReply::Exit { status, message } => {
                let why = message.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
                turn.log.warning(Line::new(Logged::ChannelRefused).with("channel", id).with("reason", why));
                self.peer.end(status, message, turn);
                Some(Channel::Done(id))
            }
            SessionReply::Elsewhere => {
                self.peer.tell(&SessionReply::Elsewhere);
                None
            }
            reply => {
                self.peer.set_kind(files::name(tool));
                Some(match Transfer::start(self.take_peer(turn.now), &reply) {
                    Some(transfer) => Channel::Transfer(transfer),
                    None => Channel::Done(id),
                })
            }
        }
    }
}

/// The log line of a request.
fn opened(channel: u64, kind: &str) -> Line {
    Line::new(Logged::ChannelOpened).with("channel", channel).with("kind", kind)
}
