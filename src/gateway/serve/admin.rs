//! Answers root's `jupyterhub-openssh status` and `disconnect`.
//!
//! The socket is abstract, so a killed gateway leaves no file behind. Anybody on this host can
//! connect; the gateway answers root only, and gives nobody much time.

use host::log::{Event, Line, Log};
use host::sys::socket;
use nix::poll::PollFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::admin::{AdminReply, AdminRequest};

/// How many callers are heard at a time, and how many are looked at in a turn: more than the queue
/// holds, so that filling it keeps nobody out.
const MAX_CALLERS: usize = 4;
const MAX_LOOKED_AT: usize = 16;
/// Longest request, in bytes.
const MAX_REQUEST: usize = 64;
/// How long a caller may take to send its request.
const PATIENCE: Duration = Duration::from_secs(2);

/// The socket for root's requests, and its callers.
pub struct Admin {
    listener: OwnedFd,
    /// The only uid that is answered.
    owner: u32,
    callers: Vec<(OwnedFd, Instant)>,
    /// True once a stranger has been logged.
    told: bool,
}

impl Admin {
    /// Takes a listener that `owner`, root, has made.
    #[must_use]
    pub fn new(listener: OwnedFd, owner: u32) -> Self {
        Self { listener, owner, callers: Vec::new(), told: false }
    }

    /// What to poll for.
    pub fn interest<'a>(&'a self, fds: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        if self.callers.len() < MAX_CALLERS {
            fds.push((self.listener.as_fd(), PollFlags::POLLIN));
        }
        fds.extend(self.callers.iter().map(|(caller, _)| (caller.as_fd(), PollFlags::POLLIN)));
    }

    /// When the time of the first caller is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.callers.iter().map(|(_, until)| *until).min()
    }

    /// Hears the callers and returns their requests, each to be answered by [`answer`].
    pub fn hear(&mut self, log: &mut Log, now: Instant) -> Vec<(OwnedFd, AdminRequest)> {
        for _ in 0..MAX_LOOKED_AT {
            if self.callers.len() >= MAX_CALLERS {
                break;
            }
            let Ok(caller) = socket::accept(self.listener.as_fd()) else { break };
            self.welcome(caller, log, now);
        }
        let (mut buffer, mut heard) = ([0; MAX_REQUEST], Vec::new());
        for (caller, until) in std::mem::take(&mut self.callers) {
            match socket::recv(caller.as_fd(), &mut buffer, 0) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && now < until => {
                    self.callers.push((caller, until));
                }
                Ok((length, _)) => {
                    let request = serde_json::from_slice(buffer.get(..length).unwrap_or_default());
                    heard.extend(request.ok().map(|request| (caller, request)));
                }
                Err(_) => {}
            }
        }
        heard
    }

    fn welcome(&mut self, caller: OwnedFd, log: &mut Log, now: Instant) {
        match socket::peer(caller.as_fd()) {
            Ok(peer) if peer.uid() == self.owner => self.callers.push((caller, now + PATIENCE)),
            Ok(peer) if !std::mem::replace(&mut self.told, true) => {
                let why = format!(
                    "it came from uid {}, process {}, not from uid {}",
                    peer.uid(),
                    peer.pid(),
                    self.owner
                );
                log.warning(Line::new(Event::Denied).with("socket", "admin").with("reason", why));
            }
            _ => {}
        }
    }
}

/// Answers a caller. One that does not listen gets no answer.
pub fn answer(caller: &OwnedFd, reply: &AdminReply) {
    if let Ok(message) = serde_json::to_vec(reply) {
        let _ = socket::send(caller.as_fd(), &message, &[]);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::sys::wait::readable_before;
    use wire::MAX_MESSAGE;
    use wire::admin::ConnectionStatus;

    fn ask(message: &[u8]) -> (Vec<AdminRequest>, Vec<u8>) {
        let name = format!("jupyterhub-openssh-test-admin/{}/{message:?}", std::process::id());
        let name = name.as_bytes().get(..100.min(name.len())).unwrap();
        let listener = socket::listen_abstract(name).unwrap();
        socket::set_nonblocking(&listener).unwrap();
        let mut admin = Admin::new(listener, 0);
        let client = socket::connect_abstract(name).unwrap();
        socket::send(client.as_fd(), message, &[]).unwrap();
        let asked = admin.hear(&mut Log::discarding(), Instant::now());
        assert!(admin.callers.is_empty());
        let heard = asked.iter().map(|(_, request)| *request).collect();
        asked.iter().for_each(|(caller, _)| answer(caller, &AdminReply::Status(ConnectionStatus::default())));
        drop(asked);
        let mut buffer = [0; MAX_MESSAGE];
        let ready = readable_before(&[client.as_fd()], Instant::now() + PATIENCE).unwrap();
        assert_eq!(ready, Some(0));
        let length = socket::recv(client.as_fd(), &mut buffer, 0).map_or(0, |(length, _)| length);
        (heard, buffer[..length].to_vec())
    }

    #[test]
    fn root_is_answered_and_nobody_else() {
        let (heard, reply) = ask(br#""status""#);
        if nix::unistd::geteuid().is_root() {
            assert_eq!(heard, [AdminRequest::Status]);
            assert!(matches!(serde_json::from_slice(&reply).unwrap(), AdminReply::Status(_)));
        } else {
            assert!(heard.is_empty() && reply.is_empty());
        }
        for nonsense in [&b"{}"[..], b"\"reboot\"", b"x", &[b'['; 5000]] {
            assert_eq!(ask(nonsense), (Vec::new(), Vec::new()));
        }
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_long() {
        let name = format!("jupyterhub-openssh-test-mute/{}", std::process::id());
        let listener = socket::listen_abstract(name.as_bytes()).unwrap();
        socket::set_nonblocking(&listener).unwrap();
        let mut admin = Admin::new(listener, 0);
        let (now, mut log) = (Instant::now(), Log::discarding());
        let _mute: Vec<_> = (0..6).map(|_| socket::connect_abstract(name.as_bytes()).unwrap()).collect();
        assert!(admin.hear(&mut log, now).is_empty());
        // All of them in one turn, where none is heard.
        assert!(nix::unistd::geteuid().is_root() || socket::accept(admin.listener.as_fd()).is_err());
        assert!(admin.callers.len() <= MAX_CALLERS);
        if nix::unistd::geteuid().is_root() {
            assert_eq!(admin.deadline(), Some(now + PATIENCE));
            assert!(admin.hear(&mut log, now + PATIENCE).is_empty());
            assert!(admin.callers.is_empty());
        }
    }
}
