//! A session that has become a program of this host which serves files. Its bytes go past the
//! gateway, which only watches for its end: as long as there is one, the connection is not idle.

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
    /// Tells the session to become that program. `None`: it has gone.
    #[must_use]
    pub fn start(mut peer: Peer, reply: &SessionReply) -> Option<Self> {
        // The number is the session's for as long as that waits for our answer, and the descriptor
        // is its process's from then on, whatever program it becomes.
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

    /// Its session.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Has the program ended?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        fds.push((self.process.as_fd(), PollFlags::POLLIN));
    }

    /// Looks whether the program has ended.
    pub fn look(&mut self, log: &mut Log, now: Instant) {
        if !self.ended && !matches!(readable_before(&[self.process.as_fd()], now), Ok(None)) {
            self.ended = true;
            let seconds = now.saturating_duration_since(self.peer.since()).as_secs();
            log.info(Line::new(Event::ChannelClosed).with("channel", self.id()).with("seconds", seconds));
        }
    }
}
