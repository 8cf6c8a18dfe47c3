//! The poll loop of a gateway that has been claimed.

use super::access::Access;
use super::channel::Channel;
use super::claim::Claimed;
use super::job::Jobs;
use super::link::AgentLink;
use super::news::{LINK, News, Said};
use super::peer::Peer;
use super::transfer_log::TransferLog;
use crate::control::HomeState;
use crate::log::Log;
use crate::sys::{process, socket};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Most sessions of one connection. sshd's own limit is `MaxSessions`, 10 by default.
const MAX_CHANNELS: usize = 64;
/// Time for closing remote terminals after the connection has ended.
const CLOSING: Duration = Duration::from_secs(30);
/// The HTTP client is dropped after this long without a job.
const IDLE: Duration = Duration::from_secs(2);

/// Serves the sessions of one connection until it ends and its terminals are closed.
pub fn serve(claimed: Claimed, access: Access, terminated: SignalFd, log: &mut Log) {
    let jobs = match Jobs::new() {
        Ok(jobs) => jobs,
        Err(e) => return log.error(&format!("gateway: could not prepare for jobs: {e}")),
    };
    let Claimed { claim, sessions, transfers, uid, home } = claimed;
    let now = Instant::now();
    let mut serve = Serve {
        claim,
        sessions,
        uid,
        home: Rc::new(home),
        transfers: TransferLog::new(transfers, access.config().files.log_level),
        terminated,
        link: AgentLink::new(access.clone(), now),
        access,
        jobs,
        channels: Vec::new(),
        last_id: 0,
        closing: None,
        busy: Some(now),
    };
    if let Err(e) = serve.run(log) {
        log.error(&format!("gateway: poll loop: {e}"));
    }
    serve.transfers.drain(log);
    log.info("connection closed");
}

struct Serve {
    /// See [`Claimed`].
    claim: OwnedFd,
    sessions: OwnedFd,
    uid: u32,
    home: Rc<HomeState>,
    transfers: TransferLog,
    /// Readable when we are asked to end.
    terminated: SignalFd,
    access: Access,
    link: AgentLink,
    jobs: Jobs<Said>,
    channels: Vec<Channel>,
    last_id: u64,
    /// The connection has ended: when to give up closing what is left.
    closing: Option<Instant>,
    /// Last time that something needed the HTTP client; none when it has been dropped.
    busy: Option<Instant>,
}

impl Serve {
    fn run(&mut self, log: &mut Log) -> io::Result<()> {
        loop {
            let now = Instant::now();
            while let Some(said) = self.jobs.next() {
                self.dispatch(said, log, now);
            }
            self.link.read(&self.jobs, log, now);
            while let Some(event) = self.link.event(&self.jobs, log, now) {
                let channel = event.stream().and_then(|stream| {
                    self.channels.iter_mut().find(|channel| channel.has(stream, &self.link))
                });
                if let Some(channel) = channel {
                    channel.event(event, &mut self.link, log, now);
                }
            }
            for channel in &mut self.channels {
                channel.drive(&mut self.link, &self.jobs, log, now);
            }
            // In turns: what the link takes at a time must not always go to the same.
            if !self.channels.is_empty() {
                self.channels.rotate_left(1);
            }
            self.channels.retain(|channel| !channel.is_done());
            self.link.write(&self.jobs, log, now);
            self.transfers.relay(log, now);
            if let Some(until) = self.closing {
                if self.channels.is_empty() && self.link.is_done() {
                    return Ok(());
                }
                if now >= until {
                    let left = self.channels.len() + usize::from(!self.link.is_done());
                    log.warning(&format!("{left} terminals may be left open: no time to close them"));
                    return Ok(());
                }
            }
            self.rest(now);
            self.wait(log, now)?;
        }
    }

    /// Hands a job's report on.
    fn dispatch(&mut self, Said { channel, news }: Said, log: &mut Log, now: Instant) {
        match news {
            News::Progress(progress) if channel == LINK => {
                for channel in &self.channels {
                    channel.progress(&progress);
                }
            }
            news if channel == LINK => self.link.news(news, &self.jobs, log, now),
            news => {
                if let Some(channel) = self.channels.iter_mut().find(|c| c.id() == channel) {
                    channel.news(news, &self.jobs, log, now);
                }
            }
        }
    }

    /// Gives memory back while nothing is going on.
    fn rest(&mut self, now: Instant) {
        if self.link.is_busy() || self.channels.iter().any(Channel::is_busy) {
            self.busy = Some(now);
        } else if self.busy.is_some_and(|at| now >= at + IDLE) {
            self.busy = None;
            self.access.forget_http();
            process::release_memory();
        }
    }

    fn wait(&mut self, log: &mut Log, now: Instant) -> io::Result<()> {
        let mut wanted = vec![(self.jobs.wake_fd(), PollFlags::POLLIN)];
        if self.closing.is_none() {
            wanted.push((self.claim.as_fd(), PollFlags::POLLIN));
            wanted.push((self.sessions.as_fd(), PollFlags::POLLIN));
            wanted.push((self.terminated.as_fd(), PollFlags::POLLIN));
        }
        wanted.extend(self.transfers.interest().map(|fd| (fd, PollFlags::POLLIN)));
        self.link.interest(&mut wanted);
        for channel in &self.channels {
            channel.interest(&self.link, &mut wanted);
        }
        // What was due by now has just been done.
        let due = self.channels.iter().filter_map(|channel| channel.deadline(&self.link, now));
        let rest = self.busy.map(|at| at + IDLE).filter(|at| *at > now);
        let unfinished = self.link.is_unfinished() || self.channels.iter().any(Channel::is_unfinished);
        let at_once = unfinished.then_some(now);
        let timeout = due
            .chain(at_once)
            .chain(self.link.deadline(now))
            .chain(rest)
            .chain(self.closing)
            .chain(self.transfers.deadline())
            .min()
            .map(|at| TimeSpec::from(at.saturating_duration_since(now)));
        let mut fds: Vec<PollFd<'_>> = wanted.iter().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
        // Not poll(2), whose milliseconds are coarse for a pong that is due in half of one.
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if self.closing.is_none() {
            let woken =
                |index: usize| fds.get(index).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
            let (claim, sessions, terminated) = (woken(1), woken(2), woken(3));
            drop(fds);
            drop(wanted);
            // The claimant says nothing more: whatever comes is its end, and so the connection's.
            if claim || terminated {
                self.close(log, Instant::now());
            } else if sessions {
                self.accept(log);
            }
        }
        Ok(())
    }

    fn close(&mut self, log: &mut Log, now: Instant) {
        self.closing = Some(now + CLOSING);
        for channel in &mut self.channels {
            channel.session_gone(&mut self.link, &self.jobs, now);
        }
        self.link.end(&self.jobs, log, now);
    }

    fn accept(&mut self, log: &mut Log) {
        let session = match socket::accept(self.sessions.as_fd()) {
            Ok(session) => session,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) => return log.warning(&format!("session not accepted: {e}")),
        };
        if let Err(why) = self.welcome(&session) {
            return log.warning(&format!("session not accepted: {why}"));
        }
        self.last_id += 1;
        let (access, home) = (self.access.clone(), self.home.clone());
        let peer = Peer::new(self.last_id, session, Instant::now());
        self.channels.push(Channel::new(peer, access, home));
    }

    fn welcome(&self, session: &OwnedFd) -> Result<(), String> {
        let peer = socket::peer(session.as_fd()).map_err(|e| e.to_string())?;
        if peer.uid() != self.uid {
            return Err(format!("it came from uid {} instead of {}", peer.uid(), self.uid));
        }
        if self.channels.len() >= MAX_CHANNELS {
            return Err(format!("there are {MAX_CHANNELS} already"));
        }
        Ok(())
    }
}
