//! The poll loop of a gateway that has been claimed.

pub mod admin;
pub mod claim;
pub mod limits;
pub mod transfer_log;

use crate::access::Access;
use crate::channel::Channel;
use crate::channel::peer::{Peer, Tally};
use crate::connections::Connections;
use crate::job::Jobs;
use crate::link::AgentLink;
use crate::remote::report::{LINK, News, Said};
use crate::remote::turn::Turn;
use admin::Admin;
use claim::Claimed;
use host::counters::Counter;
use host::log::{Event, Line, Log};
use host::sys::{process, socket};
use limits::{Due, Limit, Limits};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use transfer_log::TransferLog;
use wire::admin::{AdminReply, AdminRequest, ChannelStatus, ConnectionStatus};
use wire::claim::HomeState;

/// Most channels of one connection. sshd's own limit is `MaxSessions`, 10 by default.
const MAX_CHANNELS: usize = 64;
/// Time for closing remote terminals after the connection has ended.
const CLOSING: Duration = Duration::from_secs(30);
/// The same where `session.max_connections` is set.
const CLOSING_IF_LIMITED: Duration = Duration::from_secs(5);
/// The HTTP client is dropped after this long without a job.
const IDLE: Duration = Duration::from_secs(2);

/// Time for channels to tell their users why they end, before the connection is cut.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often counters are flushed to the metrics file, when the loop wakes up anyway.
const COUNT: Duration = Duration::from_secs(60);

/// What `status` shows of the connection.
pub struct About {
    /// Its name in the log.
    pub session: String,
    /// The client's address.
    pub peer: String,
}

/// What the gateway keeps from its start, mostly from when it was root.
pub struct Kept {
    /// Answers root's `status` and `disconnect`.
    pub admin: Admin,
    /// Holds this connection's place among the user's until it ends.
    pub connections: Connections,
    /// Readable when the gateway is asked to end.
    pub terminated: SignalFd,
}

/// Serves the channels of one connection until it ends and its terminals are closed.
pub fn serve(claimed: Claimed, kept: Kept, about: About, access: Access, log: &mut Log) {
    let jobs = match Jobs::new() {
        Ok(jobs) => jobs,
        Err(e) => return log.error(Line::of(Event::Fault, format_args!("could not prepare for jobs: {e}"))),
    };
    let Claimed { claim, sessions, transfers, uid, home } = claimed;
    let now = Instant::now();
    let word = match &home {
        HomeState::Mounted => "mounted",
        HomeState::Unavailable { .. } => "unavailable",
        HomeState::Unconfigured => "none",
    };
    log.info(Line::new(Event::SessionOpened).with("uid", uid).with("home", word));
    access.meter().add(Counter::Sessions, 1);
    // The login's memory is hardly used again, and sshd is busy with its client now.
    process::release_memory();
    let mut serve = Serve {
        about,
        kept,
        asked: false,
        told: false,
        limits: Limits::new(access.config().session, now),
        began: (now, SystemTime::now()),
        active: matches!(home, HomeState::Unconfigured).then_some(now),
        past: Passed::default(),
        counted: (now, Passed::default()),
        ending: None,
        claim,
        sessions,
        uid,
        home: Rc::new(home),
        transfers: TransferLog::new(transfers, access.config().files.log_level),
        link: AgentLink::new(access.clone(), now),
        access,
        channels: Vec::new(),
        last_id: 0,
        closing: None,
        busy: Some(now),
    };
    if let Err(e) = serve.run(&jobs, log) {
        log.error(Line::of(Event::Fault, format_args!("poll loop: {e}")));
    }
    serve.transfers.drain(log);
    serve.count(Instant::now());
    let Passed { received, sent } = serve.passed();
    let line = Line::new(Event::SessionClosed).with("seconds", now.elapsed().as_secs());
    log.info(line.with("in", received).with("out", sent));
}

fn denied(why: &str) -> Line {
    Line::new(Event::Denied).with("socket", "session").with("reason", why)
}

/// Bytes between the client and its channels.
#[derive(Debug, Clone, Copy, Default)]
struct Passed {
    received: u64,
    sent: u64,
}

impl Passed {
    fn add(&mut self, tally: Tally) {
        self.received = self.received.saturating_add(tally.received);
        self.sent = self.sent.saturating_add(tally.sent);
    }
}

struct Serve {
    about: About,
    kept: Kept,
    /// True if [`Kept::admin`] has something to read.
    asked: bool,
    /// True once a stranger at the session socket has been logged. Log one only: anybody may
    /// connect any number of times.
    told: bool,
    limits: Limits,
    /// When the connection began.
    began: (Instant, SystemTime),
    /// When the user was last active. `None` before the first channel if this host serves files: a
    /// files-only login never has a channel.
    active: Option<Instant>,
    /// The bytes of channels that are over.
    past: Passed,
    /// When counters were last flushed, and what they were.
    counted: (Instant, Passed),
    /// When to cut the connection that is being ended.
    ending: Option<Instant>,
    /// Whether the home is there, as in [`Claimed`].
    claim: OwnedFd,
    sessions: OwnedFd,
    uid: u32,
    home: Rc<HomeState>,
    transfers: TransferLog,
    access: Access,
    link: AgentLink,
    channels: Vec<Channel>,
    last_id: u64,
    /// When to give up closing terminals, once the connection has ended.
    closing: Option<Instant>,
    /// When the HTTP client was last needed; `None` if it has been dropped.
    busy: Option<Instant>,
}

impl Serve {
    fn run(&mut self, jobs: &Jobs<Said>, log: &mut Log) -> io::Result<()> {
        loop {
            let now = Instant::now();
            let turn = &mut Turn { jobs, log, now };
            while let Some(said) = jobs.next() {
                self.dispatch(said, turn);
            }
            self.link.read(turn);
            while let Some(event) = self.link.event(turn) {
                let channel = event.stream().and_then(|stream| {
                    self.channels.iter_mut().find(|channel| channel.has(stream, &self.link))
                });
                if let Some(channel) = channel {
                    channel.event(event, &mut self.link, turn);
                }
            }
            for channel in &mut self.channels {
                channel.drive(&mut self.link, turn);
            }
            // Start with another channel in the next turn, so that no channel takes all of the
            // link.
            if !self.channels.is_empty() {
                self.channels.rotate_left(1);
            }
            self.forget_done(now);
            self.keep_limits(turn);
            self.hear_admin(turn);
            // Before the look at what is left: without a channel nothing would wake this loop.
            if self.closing.is_none() && self.ending.is_some_and(|at| now >= at) {
                self.close(turn);
            }
            self.link.write(turn);
            self.transfers.relay(turn.log, now);
            self.access.tell_of_server_token(turn.log);
            if let Some(until) = self.closing {
                if self.channels.is_empty() && self.link.is_done() {
                    return Ok(());
                }
                if now >= until {
                    let left = self.channels.len() + usize::from(!self.link.is_done());
                    turn.log.warning(Line::of(
                        Event::Terminal,
                        format_args!("{left} terminals may be left open: no time to close them"),
                    ));
                    return Ok(());
                }
            }
            if now >= self.counted.0 + COUNT {
                self.count(now);
            }
            self.rest(now);
            self.wait(turn)?;
        }
    }

    fn forget_done(&mut self, now: Instant) {
        for channel in &self.channels {
            let tally = channel.peer().map(Peer::tally);
            let latest = match tally {
                // The end of a channel is activity: the user caused it, or waited for it.
                _ if channel.is_done() => Some(now),
                tally => tally.map(|tally| tally.active),
            };
            self.active = self.active.max(latest);
            if let (true, Some(tally)) = (channel.is_done(), tally) {
                self.past.add(tally);
            }
        }
        self.channels.retain(|channel| !channel.is_done());
    }

    /// When the user was last active, if that is known.
    fn active(&self) -> Option<Instant> {
        self.active.filter(|_| !self.channels.iter().any(Channel::is_transfer))
    }

    fn passed(&self) -> Passed {
        let mut all = self.past;
        self.channels.iter().filter_map(Channel::peer).for_each(|peer| all.add(peer.tally()));
        all
    }

    /// Flushes the counters to the metrics file.
    fn count(&mut self, now: Instant) {
        let (all, before) = (self.passed(), self.counted.1);
        let meter = self.access.meter();
        meter.add(Counter::BytesIn, all.received.saturating_sub(before.received));
        meter.add(Counter::BytesOut, all.sent.saturating_sub(before.sent));
        meter.flush();
        self.counted = (now, all);
    }

    fn keep_limits(&mut self, turn: &mut Turn<'_>) {
        if self.ending.is_some() || self.closing.is_some() {
            return;
        }
        while let Some(due) = self.limits.due(self.active(), turn.now) {
            let line = |limit: Limit, outcome: &str| {
                Line::new(Event::Limit).with("limit", limit.as_str()).with("outcome", outcome)
            };
            match due {
                Due::Warning(limit, text) => {
                    turn.log.info(line(limit, "warned"));
                    self.channels.iter_mut().for_each(|channel| channel.notice(&text));
                }
                Due::End(limit, text) => {
                    turn.log.info(line(limit, "ended"));
                    let counter = match limit {
                        Limit::Idle => Counter::IdleLimit,
                        Limit::Length => Counter::MaxLength,
                    };
                    self.access.meter().add(counter, 1);
                    return self.end_for(&text, turn);
                }
            }
        }
    }

    fn hear_admin(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::take(&mut self.asked) && self.kept.admin.deadline().is_none_or(|at| turn.now < at) {
            return;
        }
        let mut disconnect = false;
        for (caller, request) in self.kept.admin.hear(turn.log, turn.now) {
            let reply = match request {
                AdminRequest::Status => AdminReply::Status(self.status(turn.now)),
                AdminRequest::Disconnect => {
                    disconnect = true;
                    AdminReply::Ending
                }
            };
            admin::answer(&caller, &reply);
        }
        if disconnect && self.ending.is_none() && self.closing.is_none() {
            turn.log.info(Line::new(Event::Disconnect));
            self.access.meter().add(Counter::Disconnects, 1);
            self.end_for(DISCONNECTED, turn);
        }
    }

    fn status(&self, now: Instant) -> ConnectionStatus {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let all = self.passed();
        let channels = self.channels.iter().filter_map(Channel::peer).map(|peer| ChannelStatus {
            channel: peer.id(),
            kind: peer.tally().kind.to_owned(),
            seconds: seconds(peer.since()),
            bytes_in: peer.tally().received,
            bytes_out: peer.tally().sent,
        });
        ConnectionStatus {
            session: self.about.session.clone(),
            user: self.access.user().to_owned(),
            server: self.access.server().to_owned(),
            peer: self.about.peer.clone(),
            since: self.began.1.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            idle: self.active().map(seconds),
            bytes_in: all.received,
            bytes_out: all.sent,
            channels: channels.collect(),
        }
    }

    /// Ends the connection, with two lines for the user.
    fn end_for(&mut self, why: &str, turn: &mut Turn<'_>) {
        for channel in &mut self.channels {
            channel.end_for(why, &mut self.link, turn);
        }
        self.ending = Some(turn.now + FAREWELL);
    }

    /// Hands a job's report to the terminal's owner.
    fn dispatch(&mut self, Said { to, news }: Said, turn: &mut Turn<'_>) {
        match news {
            News::Progress(progress) if to.channel == LINK => {
                for channel in &self.channels {
                    channel.progress(&progress);
                }
            }
            news if to.channel == LINK => self.link.news(to.terminal, news, turn),
            news => {
                if let Some(channel) = self.channels.iter_mut().find(|channel| channel.id() == to.channel) {
                    channel.news(to.terminal, news, turn);
                }
            }
        }
    }

    /// Gives memory back while the connection is idle.
    fn rest(&mut self, now: Instant) {
        if self.link.is_busy() || self.channels.iter().any(Channel::is_busy) {
            self.busy = Some(now);
        } else if self.busy.is_some_and(|at| now >= at + IDLE) {
            self.busy = None;
            self.access.forget_http();
            process::release_memory();
        }
    }

    fn wait(&mut self, turn: &mut Turn<'_>) -> io::Result<()> {
        let mut wanted = vec![(turn.jobs.wake_fd(), PollFlags::POLLIN)];
        if self.closing.is_none() {
            wanted.push((self.claim.as_fd(), PollFlags::POLLIN));
            wanted.push((self.sessions.as_fd(), PollFlags::POLLIN));
            wanted.push((self.kept.terminated.as_fd(), PollFlags::POLLIN));
        }
        let before = wanted.len();
        self.kept.admin.interest(&mut wanted);
        let admin = before..wanted.len();
        wanted.extend(self.transfers.interest().map(|fd| (fd, PollFlags::POLLIN)));
        self.link.interest(&mut wanted);
        for channel in &self.channels {
            channel.interest(&self.link, &mut wanted);
        }
        // Everything that was due by now has just been done.
        let due = self.channels.iter().filter_map(|channel| channel.deadline(&self.link, turn.now));
        let rest = self.busy.map(|at| at + IDLE).filter(|at| *at > turn.now);
        let unfinished = self.link.is_unfinished() || self.channels.iter().any(Channel::is_unfinished);
        let at_once = unfinished.then_some(turn.now);
        let timeout = due
            .chain(at_once)
            .chain(self.link.deadline(turn.now))
            .chain(rest)
            .chain(self.closing)
            .chain(self.ending.filter(|_| self.closing.is_none()))
            .chain(self.limits.deadline(self.active()).filter(|_| self.ending.or(self.closing).is_none()))
            .chain(self.kept.admin.deadline())
            .chain(self.transfers.deadline())
            .min()
            .map(|at| TimeSpec::from(at.saturating_duration_since(turn.now)));
        let mut fds: Vec<PollFd<'_>> = wanted.iter().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
        // Not poll(2): its milliseconds are too coarse for a pong that is due in half of one.
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let woken = |index: usize| fds.get(index).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
        self.asked = admin.into_iter().any(woken);
        if self.closing.is_none() {
            let (claim, sessions, terminated) = (woken(1), woken(2), woken(3));
            drop(fds);
            drop(wanted);
            // The wait may have been long.
            turn.now = Instant::now();
            // The claimant sends nothing more, so this is its end, and the connection's.
            if claim || terminated {
                self.close(turn);
            } else if sessions {
                self.accept(turn);
            }
        }
        Ok(())
    }

    fn close(&mut self, turn: &mut Turn<'_>) {
        // A closing connection is no longer counted. Where there is a limit it must end soon, or
        // gateways would pile up.
        let limited = self.access.config().session.max_connections.is_some();
        self.closing = Some(turn.now + if limited { CLOSING_IF_LIMITED } else { CLOSING });
        // Only the user's server is still waited for.
        self.kept.connections.forget();
        // End what is left of the session now, including files that this host serves: process 1 of
        // the jail takes this for the gateway's end. Closing terminals may take long, and a user
        // who stops the server can prolong it.
        let _ = socket::hang_up(self.claim.as_fd());
        for channel in &mut self.channels {
            channel.session_gone(&mut self.link, turn);
        }
        self.link.end(turn);
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        let session = match socket::accept(self.sessions.as_fd()) {
            Ok(session) => session,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) => return turn.log.warning(denied(&e.to_string())),
        };
        match self.stranger(&session) {
            None => {}
            Some(_) if std::mem::replace(&mut self.told, true) => return,
            Some(why) => return turn.log.warning(denied(&why)),
        }
        if self.channels.len() >= MAX_CHANNELS {
            return turn.log.warning(denied(&format!("there are {MAX_CHANNELS} already")));
        }
        self.last_id += 1;
        let (access, home) = (self.access.clone(), self.home.clone());
        let peer = Peer::new(self.last_id, session, turn.now);
        self.channels.push(Channel::new(peer, access, home));
    }

    /// Why this client is rejected; `None` if it belongs to the connection.
    fn stranger(&self, session: &OwnedFd) -> Option<String> {
        match socket::peer(session.as_fd()) {
            Ok(peer) if peer.uid() == self.uid => None,
            Ok(peer) => Some(format!("it came from uid {} instead of {}", peer.uid(), self.uid)),
            Err(e) => Some(e.to_string()),
        }
    }
}

const DISCONNECTED: &str =
    "An administrator has ended this session.\nAsk the administrator of this host why.";
