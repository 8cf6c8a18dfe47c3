//! Waiting for the session that sshd has granted to take this gateway over.

use super::handle::Handle;
use crate::control::{ClaimReply, ClaimRequest, MAX_MESSAGE};
use crate::log::Log;
use crate::sys::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a claim may be in coming. sshd opens the session at once after the token was accepted; a client that
/// never gets there must not leave gateways behind for long.
pub const CLAIM_TIME: Duration = Duration::from_secs(20);
/// A claimant has this long to speak, so that none can keep the true one waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// A gateway that belongs to a session.
pub struct Claimed {
    /// Held open by the jail for as long as sshd lives; its end is the session's end.
    pub claim: OwnedFd,
    /// Where the session's programs connect.
    pub sessions: OwnedFd,
    /// The only uid welcome there.
    pub uid: u32,
}

/// Waits up to [`CLAIM_TIME`] for root with the right secret, for the user whom we verified.
///
/// # Errors
/// `TimedOut` when nobody came; `Interrupted` when `terminated` became readable; `ConnectionAborted` when root came and did not claim (its jail could not be built, and
/// there is only one); otherwise the system's. Anybody else's attempt is logged, refused and forgotten.
pub fn wait(
    listener: &OwnedFd,
    terminated: BorrowedFd<'_>,
    handle: &Handle,
    user: &str,
    log: &mut Log,
) -> io::Result<Claimed> {
    let until = Instant::now() + CLAIM_TIME;
    socket::set_nonblocking(listener)?;
    loop {
        match readable_before(&[listener.as_fd(), terminated], until)? {
            None => return Err(io::ErrorKind::TimedOut.into()),
            Some(1) => return Err(io::ErrorKind::Interrupted.into()),
            Some(_) => {}
        }
        let claim = match socket::accept(listener.as_fd()) {
            Ok(claim) => claim,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        };
        match examine(&claim, handle, user, 0) {
            Ok((sessions, uid)) => {
                socket::set_nonblocking(&sessions)?;
                reply(&claim, &ClaimReply::Claimed { groups: Vec::new() })?;
                return Ok(Claimed { claim, sessions, uid });
            }
            Err(refused) => {
                log.warning(&format!("claim refused: {}", refused.why));
                // The claimant may have gone: its loss.
                let _ = reply(&claim, &ClaimReply::Refused(refused.why));
                if refused.by_root {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
    }
}

/// A claim that is not taken.
struct Refused {
    by_root: bool,
    why: String,
}

/// Checks one claim; `owner` is root but in tests.
fn examine(claim: &OwnedFd, handle: &Handle, user: &str, owner: u32) -> Result<(OwnedFd, u32), Refused> {
    let stranger = |why: String| Refused { by_root: false, why };
    let peer = socket::peer(claim.as_fd()).map_err(|e| stranger(format!("its sender is not known: {e}")))?;
    if peer.uid() != owner {
        let who = format!("it came from uid {}, process {}, which is not root", peer.uid(), peer.pid());
        return Err(stranger(who));
    }
    read_claim(claim, handle, user).map_err(|why| Refused { by_root: true, why })
}

fn read_claim(claim: &OwnedFd, handle: &Handle, user: &str) -> Result<(OwnedFd, u32), String> {
    if !matches!(readable_before(&[claim.as_fd()], Instant::now() + PATIENCE), Ok(Some(_))) {
        return Err("its sender said nothing".into());
    }
    let mut buffer = [0; MAX_MESSAGE];
    let (n, mut descriptors) =
        socket::recv(claim.as_fd(), &mut buffer, 1).map_err(|e| format!("it could not be read: {e}"))?;
    if n == 0 {
        return Err("its sender left without a word".into());
    }
    let request: ClaimRequest =
        serde_json::from_slice(&buffer[..n]).map_err(|e| format!("it was not understood: {e}"))?;
    if !handle.secret_is(&request.secret) {
        return Err("its secret is wrong".into());
    }
    if request.user != user {
        return Err(format!("it is for user {}, the token was {user}'s", request.user));
    }
    let sessions = descriptors.pop().ok_or("it brought no session socket")?;
    Ok((sessions, request.uid))
}

fn reply(claim: &OwnedFd, reply: &ClaimReply) -> io::Result<()> {
    socket::send(claim.as_fd(), &serde_json::to_vec(reply)?, &[])
}

/// Which of the descriptors has something to read, the last if several have.
fn readable_before(fds: &[BorrowedFd<'_>], until: Instant) -> io::Result<Option<usize>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            Ok(0) if left.is_zero() => return Ok(None),
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(polled.iter().rposition(|fd| fd.any() == Some(true))),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn claim_with(message: &[u8], bring_socket: bool, owner: u32) -> Result<u32, String> {
        let handle = Handle::parse(&("a".repeat(32) + &"b".repeat(32))).unwrap();
        let name = Handle::new().unwrap().socket_name();
        let listener = socket::listen_abstract(&name).unwrap();
        let client = socket::connect_abstract(&name).unwrap();
        let server = socket::accept(listener.as_fd()).unwrap();
        let descriptors = if bring_socket { vec![listener.as_fd()] } else { vec![] };
        socket::send(client.as_fd(), message, &descriptors).unwrap();
        examine(&server, &handle, "alice", owner).map(|(_, uid)| uid).map_err(|refused| refused.why)
    }

    fn message(secret: &str, user: &str) -> Vec<u8> {
        serde_json::to_vec(&ClaimRequest { secret: secret.into(), user: user.into(), uid: 1000 }).unwrap()
    }

    #[test]
    fn only_the_right_claim_is_taken() {
        let me = nix::unistd::getuid().as_raw();
        let secret = "b".repeat(32);
        assert_eq!(claim_with(&message(&secret, "alice"), true, me), Ok(1000));
        let refused = |message: &[u8], socket, owner, why: &str| {
            let got = claim_with(message, socket, owner).unwrap_err();
            assert!(got.contains(why), "{got}");
        };
        refused(&message(&secret, "alice"), true, me + 1, "not root");
        refused(&message(&"a".repeat(32), "alice"), true, me, "secret is wrong");
        refused(&message(&secret, "bob"), true, me, "for user bob");
        refused(&message(&secret, "alice"), false, me, "no session socket");
        refused(b"{}", true, me, "not understood");
        refused(&[b'['; 10_000], true, me, "not understood");
    }
}
