//! A channel whose session program has become a program of this host that serves files.
//!
//! The bytes go past the gateway, which only watches for the program's end: until then the
//! connection is not idle.

use super::peer::Peer;
use host::log::{Event, Line, Log};
use host::sys::wait::readable_before;
use host::sys::{pidfd, socket};
use nix::poll::PollFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use wire::session::SessionReply;

/// A channel whose session program serves files.
pub struct Transfer {
    peer: Peer,
    process: OwnedFd,
    ended: bool,
}

impl Transfer {
    /// Tells the session program to become the file server. `None`: it is gone.
    #[must_use]
    pub fn start(mut peer: Peer, reply: &SessionReply) -> Option<Self> {
        // The pid is the session program's while it waits for our reply. The descriptor refers to
        // this process from then on, whatever program it becomes.
        let process = peer.fd().and_then(|fd| pidfd::open(socket::peer(fd).ok()?.pid()).ok());
        peer.tell(reply);
        peer.leave();
        process.map(|process| Self { peer, process, ended: false })
    }

    /// The channel's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.peer.id()
    }

    /// Its session program.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// True if the program has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        fds.push((self.process.as_fd(), PollFlags::POLLIN));
    }

    /// Checks whether the program has ended.
    pub fn look(&mut self, log: &mut Log, now: Instant) {
        if !self.ended && !matches!(readable_before(&[self.process.as_fd()], now), Ok(None)) {
            self.ended = true;
            let seconds = now.saturating_duration_since(self.peer.since()).as_secs();
            log.info(Line::new(Event::ChannelClosed).with("channel", self.id()).with("seconds", seconds));
        }
    }
}
