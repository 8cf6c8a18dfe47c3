//! An interactive shell in a plain terminal of the user's server: its phases, its jobs, and how it ends.

use super::access::Access;
use super::job::Cancel;
use super::news::{self, News};
use super::peer::{self, BROKEN, Heard, Peer};
use super::remote::{self, Lost};
use super::terminal::{Standing, Terminal};
use super::turn::Turn;
use host::log::{Event as Logged, Line};
use hub::progress::Progress;
use nix::poll::PollFlags;
use server::terminado::control::{self, ControlLink};
use server::terminado::rest::{TerminalName, create_body};
use server::terminado::shell::{self, Environment, Nonce};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wire::control::{SessionReply, SessionRequest, WindowSize};

/// Most of the client's input taken at once, in bytes.
const INPUT: usize = 8 * 1024;
/// A reconnected WebSocket that drops within this time does not count as one.
const SHORT_LIVED: Duration = Duration::from_secs(10);
/// So many of those in a row end the session.
const MAX_DROPS: u32 = 8;
/// A client that takes none of the last output for this long will not be waited for.
const LAST_OUTPUT: Duration = Duration::from_secs(30);

enum Phase {
    /// A job opens a terminal.
    Opening,
    /// There is one; the session is switching to raw mode.
    Attaching,
    /// Bytes move.
    Relaying,
    /// A job reconnects the WebSocket.
    Reconnecting,
    /// The shell has ended: its last output goes to the client.
    Ending { status: u8, until: Instant },
    /// The session has gone or is over, the terminal is drained before it is deleted.
    Draining,
    /// A job deletes the terminal.
    Deleting,
    /// Over.
    Done,
}

/// What an interactive session has asked for.
pub struct Interactive {
    /// Who.
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

/// See the module.
pub struct TerminalChannel {
    access: Access,
    peer: Peer,
    stdin: Option<File>,
    stdout: Option<File>,
    size: WindowSize,
    nonce: Option<Nonce>,
    phase: Phase,
    terminal: Option<Terminal>,
    cancel: Cancel,
    /// When the WebSocket was last reconnected, and how often in a row it dropped again soon.
    resumed: Option<Instant>,
    drops: u32,
    /// Jobs that still have to report.
    jobs: u32,
}

impl TerminalChannel {
    /// For a session that has asked for a shell: opens a terminal.
    #[must_use]
    pub fn new(asked: Interactive, access: Access, turn: &mut Turn<'_>) -> Self {
        let Interactive { peer, stdin, stdout, size, environment } = asked;
        let mut channel = Self {
            access,
            peer,
            stdin: Some(stdin),
            stdout: Some(stdout),
            size,
            nonce: None,
            phase: Phase::Opening,
            terminal: None,
            cancel: Cancel::default(),
            resumed: None,
            drops: 0,
            jobs: 0,
        };
        channel.open(&environment, turn);
        channel
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.peer.id()
    }

    /// Is it over, with nothing left to wait for?
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done) && self.jobs == 0
    }

    /// Does it talk to the hub or open something, so that the HTTP client is worth its memory?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.jobs > 0
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
            // poll(2) reports a hang-up even to those who ask for nothing: not asked, it can't spin.
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
                    self.phase = Phase::Ending { status, until: turn.now + LAST_OUTPUT };
                }
                (Standing::Lost(why), Phase::Relaying) => {
                    self.drops = if self.resumed.is_some_and(|at| turn.now < at + SHORT_LIVED) {
                        self.drops + 1
                    } else {
                        0
                    };
                    turn.log.warning(self.line(Logged::Link).with("outcome", "lost").with("reason", why));
                    if self.drops < MAX_DROPS {
                        self.reconnect(turn);
                    } else {
                        self.end(BROKEN, Some(NOT_RECONNECTED.into()), turn);
                        self.forget_terminal(turn);
                    }
                }
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
            (Phase::Draining, Some(terminal)) if terminal.is_drained(turn.now) => self.delete(turn),
            (&Phase::Ending { status, until }, Some(terminal))
                if !terminal.screen.is_waiting() || turn.now >= until =>
            {
                self.end(status, None, turn);
                self.forget_terminal(turn);
            }
            _ => {}
        }
    }

    /// Is the terminal's WebSocket read and written?
    fn moves_bytes(&self) -> bool {
        matches!(self.phase, Phase::Relaying | Phase::Draining | Phase::Deleting)
    }

    fn shows_output(&self) -> bool {
        matches!(self.phase, Phase::Relaying | Phase::Reconnecting | Phase::Ending { .. })
    }

    fn line(&self, event: Logged) -> Line {
        Line::new(event).with("channel", self.peer.id())
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
                (SessionRequest::Resize { size }, Phase::Relaying | Phase::Reconnecting) => {
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

    /// The session has gone, or is to go: whatever it had over there is closed.
    pub fn session_gone(&mut self, turn: &mut Turn<'_>) {
        self.peer.leave();
        (self.stdin, self.stdout) = (None, None);
        self.cancel.cancel();
        match self.phase {
            Phase::Ending { .. } => self.phase = Phase::Done,
            // The job will report; what it brings is deleted then.
            Phase::Opening | Phase::Draining | Phase::Deleting | Phase::Done => {}
            Phase::Attaching | Phase::Relaying => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.drain(turn.now);
                }
                self.phase = Phase::Draining;
            }
            Phase::Reconnecting => self.delete(turn),
        }
        if matches!(self.phase, Phase::Done) {
            self.forget_terminal(turn);
        }
    }

    /// An administrator, or a limit, ends the session: it is told so, and what it had over there is closed.
    pub fn end_for(&mut self, why: &str, turn: &mut Turn<'_>) {
        if self.peer.is_there() {
            self.peer.end(BROKEN, Some(why.to_owned()), turn);
            self.session_gone(turn);
        }
    }

    /// Tells somebody at the terminal something, on a line of its own.
    pub fn notice(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            terminal.screen.notice(text);
        }
    }

    /// Its session.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The session is over: it is told its status, and a message if something went wrong.
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

    // --- jobs ---

    fn spawn(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        job: impl FnOnce(Access, &dyn Fn(News)) + Send + 'static,
    ) -> bool {
        let started = news::spawn(turn.jobs, self.peer.id(), &self.access, name, job);
        self.jobs += u32::from(started);
        started
    }

    fn open(&mut self, environment: &Environment, turn: &mut Turn<'_>) {
        let wrap = self.access.config().terminal.exit_status;
        self.nonce = if wrap { Nonce::random().ok() } else { None };
        let plain = create_body(None, &environment.for_own_shell());
        let body = match &self.nonce {
            Some(nonce) => {
                create_body(Some(&shell::command(nonce, self.size.rows, self.size.cols, environment)), &[])
            }
            None => plain.clone(),
        };
        let cancel = self.cancel.clone();
        self.phase = Phase::Opening;
        let started = self.spawn(turn, "open", move |access, report| {
            let opened = remote::open(&access, &body, &plain, &cancel, &mut |progress| {
                report(News::Progress(progress.clone()))
            });
            report(News::Opened(opened));
        });
        if !started {
            self.end(BROKEN, Some(NO_THREAD.into()), turn);
        }
    }

    fn reconnect(&mut self, turn: &mut Turn<'_>) {
        let Some(terminal) = &mut self.terminal else { return };
        let lost =
            if terminal.input.is_in_flight(turn.now) { "; what you typed last may be lost" } else { "" };
        terminal.screen.notice(&format!("connection to your server lost{lost}; reconnecting for up to 60 s"));
        let (name, cancel) = (terminal.name().clone(), self.cancel.clone());
        self.phase = Phase::Reconnecting;
        if !self.spawn(turn, "reconnect", move |access, report| {
            report(News::Reconnected(remote::reconnect(&access, &name, &cancel)));
        }) {
            self.session_gone(turn);
        }
    }

    fn delete(&mut self, turn: &mut Turn<'_>) {
        let Some(terminal) = &self.terminal else {
            self.phase = Phase::Done;
            return;
        };
        let name = terminal.name().clone();
        self.phase = Phase::Deleting;
        if !self.spawn(turn, "delete", move |access, report| {
            report(News::Deleted(remote::delete(&access, &name)));
        }) {
            self.phase = Phase::Done;
        }
    }

    /// Opens and closes the control terminal as the terminal needs it.
    fn control(&mut self, turn: &mut Turn<'_>) {
        let Some(terminal) = &mut self.terminal else { return };
        let orphans = terminal.take_orphans();
        let tty = if matches!(self.phase, Phase::Relaying) { terminal.needs_control(turn.now) } else { None };
        if let Some((tty, Ok(nonce))) = tty.map(|tty| (tty, Nonce::random())) {
            let body = create_body(Some(&control::command(&nonce, tty)), &[]);
            let link = ControlLink::new(&nonce);
            let started = self.spawn(turn, "control", move |access, report| {
                // The server runs, as a terminal of it is open: nothing to start, no progress to show.
                let opened = remote::open_only(&access, &body).map(|remote| (remote, link));
                report(News::Control(opened));
            });
            if let (false, Some(terminal)) = (started, &mut self.terminal) {
                terminal.control.opened(None, turn.now);
            }
        }
        for name in orphans {
            self.delete_control(name, turn);
        }
    }

    fn delete_control(&mut self, name: TerminalName, turn: &mut Turn<'_>) {
        self.spawn(turn, "delete", move |access, report| {
            report(News::ControlDeleted(remote::delete(&access, &name)));
        });
    }

    /// At the end: takes the control terminal away, too.
    fn forget_terminal(&mut self, turn: &mut Turn<'_>) {
        if let Some(mut terminal) = self.terminal.take() {
            let mut names = terminal.take_orphans();
            names.extend(terminal.control.close());
            for name in names {
                self.delete_control(name, turn);
            }
        }
    }

    /// A job has reported.
    pub fn news(&mut self, news: News, turn: &mut Turn<'_>) {
        if !matches!(news, News::Progress(_)) {
            self.jobs -= 1;
        }
        match news {
            News::Progress(Progress { percent, message, .. }) => {
                self.peer.tell(&SessionReply::Progress { percent, message });
            }
            News::Opened(Ok(remote)) => {
                turn.log.info(self.line(Logged::Terminal).message("opened").with("terminal", &remote.name));
                self.terminal = Some(Terminal::new(remote, self.nonce.as_ref(), turn.now));
                if self.peer.is_there() {
                    self.phase = Phase::Attaching;
                    self.peer.tell(&SessionReply::Attach);
                } else {
                    self.delete(turn);
                }
            }
            News::Opened(Err(why)) => {
                if self.peer.is_there() {
                    turn.log.warning(self.line(Logged::Server).with("reason", &why.for_log));
                }
                self.end(BROKEN, Some(why.for_user), turn);
            }
            News::Reconnected(Ok(socket)) if self.peer.is_there() => {
                let line = self.line(Logged::Link).with("outcome", "reconnected");
                self.access.meter().reconnected();
                if let Some(terminal) = &mut self.terminal {
                    turn.log.info(line);
                    terminal.screen.notice("reconnected");
                    terminal.resume(socket, self.size, turn.now);
                    self.resumed = Some(turn.now);
                    self.phase = Phase::Relaying;
                }
            }
            News::Reconnected(Err(lost)) if self.peer.is_there() => {
                let (why, message) = match lost {
                    Lost::Gone => ("the terminal has ended with its server".to_owned(), TERMINAL_GONE),
                    Lost::TimedOut(why) => (format!("not reconnected within 60 s: {why}"), NOT_RECONNECTED),
                };
                turn.log.warning(self.line(Logged::Link).with("outcome", "given-up").with("reason", why));
                self.end(BROKEN, Some(message.into()), turn);
            }
            // The session has gone meanwhile, and the terminal is being deleted already.
            News::Reconnected(_) => {}
            News::Control(opened) => {
                let opened = opened.map_err(|why| {
                    turn.log.warning(
                        self.line(Logged::Terminal)
                            .message(format_args!("no control terminal: {}", why.for_log)),
                    );
                });
                if let Some(terminal) = &mut self.terminal {
                    terminal.control.opened(opened.ok(), turn.now);
                } else if let Ok((remote, _)) = opened {
                    self.delete_control(remote.name, turn);
                }
            }
            News::Deleted(result) => {
                match result {
                    Ok(()) => turn.log.info(self.line(Logged::Terminal).message("closed")),
                    Err(why) => turn.log.warning(
                        self.line(Logged::Terminal).message(format_args!("may be left open: {why}")),
                    ),
                }
                self.phase = Phase::Done;
            }
            News::Failed => {
                turn.log.error(self.line(Logged::Fault).message("a job failed: please report this as a bug"));
                if matches!(self.phase, Phase::Opening | Phase::Reconnecting | Phase::Deleting) {
                    self.end(BROKEN, Some(FAULT.into()), turn);
                }
            }
            News::ControlDeleted(Ok(())) => {}
            News::ControlDeleted(Err(why)) => {
                turn.log.warning(
                    self.line(Logged::Terminal)
                        .message(format_args!("control terminal may be left open: {why}")),
                );
            }
        }
        if matches!(self.phase, Phase::Done) {
            self.forget_terminal(turn);
        }
    }
}

/// See [`super::news::spawn`].
pub const NO_THREAD: &str = "This host is out of resources.\nTry again later, or tell its administrator.";
/// A fault of ours, which panicked.
pub const FAULT: &str =
    "This host's connection to your server has a fault.\nTell the administrator of this host.";
const TERMINAL_GONE: &str = "Your terminal has ended: your server was stopped or restarted.\n\
    Log in again to start a new one.";
const NOT_RECONNECTED: &str = "The connection to your server could not be restored within 60 s.\n\
    Log in again. Your terminal may still be listed under \"Running\" in Jupyter.";
