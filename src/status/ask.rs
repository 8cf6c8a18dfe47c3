//! The gateways of this host, and what they answer root. None is waited for longer than the others: one that hangs, or lies,
//! is one that doesn't answer.

use crate::control::{AdminReply, AdminRequest, MAX_MESSAGE};
use crate::rights::Rights;
use crate::sys::socket;
use accounts::paths::{ADMIN_SOCKET_PREFIX, GATEWAY_SOCKET_PREFIX};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long gateways have for their answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// Gateways that are asked at the same time: fewer than a process may have descriptors.
const BATCH: usize = 200;
/// Most of the kernel's list that is read, in bytes, and most gateways that are taken from it.
const MAX_LIST: u64 = 64 << 20;
const MAX_GATEWAYS: usize = 10_000;
/// A listening socket in /proc/net/unix (proc(5)): the kernel's __SO_ACCEPTCON.
const LISTENS: u32 = 0x1_0000;
/// Hex digits of a gateway's address, and of them those that name the session.
const ADDRESS: usize = 32;

/// A gateway, by its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    address: String,
    /// No session has claimed it yet; it does not listen to anybody else.
    pub logging_in: bool,
}

impl Gateway {
    /// The session's name.
    pub fn session(&self) -> &str {
        self.address.get(..crate::gateway::handle::SESSION_DIGITS).unwrap_or_default()
    }

    /// One whose address repeats two digits.
    #[cfg(test)]
    pub fn example(digits: &str) -> Self {
        Self { address: digits.repeat(ADDRESS / 2), logging_in: false }
    }

    fn connect(&self) -> io::Result<OwnedFd> {
        let socket =
            socket::connect_abstract_at_once(format!("{ADMIN_SOCKET_PREFIX}{}", self.address).as_bytes())?;
        // Any process may listen on a name of this shape; ours listened as root, or as the user who sshd is and this is.
        if socket::peer(socket.as_fd())?.uid() != Rights::of_this_process().owner() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(socket)
    }
}

/// Those that there are, by name.
///
/// # Errors
/// The system's.
pub fn gateways() -> io::Result<Vec<Gateway>> {
    let mut list = Vec::new();
    File::open("/proc/net/unix")?.take(MAX_LIST).read_to_end(&mut list)?;
    Ok(listed(&String::from_utf8_lossy(&list)))
}

/// What /proc/net/unix says of gateways: `Num RefCount Protocol Flags Type St Inode Path`, an abstract name after an `@`.
fn listed(list: &str) -> Vec<Gateway> {
    let (mut admin, mut claim) = (BTreeSet::new(), BTreeSet::new());
    for line in list.lines() {
        let mut words = line.split_ascii_whitespace();
        let flags = words.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let Some(name) = words.nth(3).and_then(|path| path.strip_prefix('@')) else { continue };
        if flags.is_none_or(|flags| flags & LISTENS == 0) {
            continue;
        }
        if let Some(address) = name.strip_prefix(ADMIN_SOCKET_PREFIX) {
            admin.extend(is_address(address).then(|| address.to_owned()));
        } else if let Some(address) = name.strip_prefix(GATEWAY_SOCKET_PREFIX) {
            claim.extend(is_address(address).then(|| address.to_owned()));
        }
    }
    let gateway = |address: String| Gateway { logging_in: claim.contains(&address), address };
    admin.into_iter().take(MAX_GATEWAYS).map(gateway).collect()
}

fn is_address(text: &str) -> bool {
    text.len() == ADDRESS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Asks all of them; an answer for each, in the same order.
pub fn ask(gateways: &[Gateway], request: AdminRequest) -> Vec<io::Result<AdminReply>> {
    gateways.chunks(BATCH).flat_map(|batch| ask_batch(batch, request)).collect()
}

fn ask_batch(gateways: &[Gateway], request: AdminRequest) -> Vec<io::Result<AdminReply>> {
    let message = serde_json::to_vec(&request).unwrap_or_default();
    let mut answers: Vec<io::Result<AdminReply>> = Vec::new();
    let mut waiting = BTreeMap::new();
    for (index, gateway) in gateways.iter().enumerate() {
        let sent = gateway.connect().and_then(|socket| {
            socket::send(socket.as_fd(), &message, &[])?;
            Ok(socket)
        });
        answers.push(Err(io::ErrorKind::TimedOut.into()));
        match (sent, answers.get_mut(index)) {
            (Ok(socket), _) => drop(waiting.insert(index, socket)),
            (Err(e), Some(answer)) => *answer = Err(e),
            (Err(_), None) => {}
        }
    }
    let until = Instant::now() + PATIENCE;
    while !waiting.is_empty() {
        for index in readable(&waiting, until) {
            if let (Some(socket), Some(answer)) = (waiting.remove(&index), answers.get_mut(index)) {
                *answer = receive(&socket);
            }
        }
        if Instant::now() >= until {
            break;
        }
    }
    answers
}

fn readable(waiting: &BTreeMap<usize, OwnedFd>, until: Instant) -> Vec<usize> {
    let mut fds: Vec<_> = waiting.values().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    let left =
        PollTimeout::try_from(until.saturating_duration_since(Instant::now())).unwrap_or(PollTimeout::MAX);
    if poll(&mut fds, left).is_err() {
        return Vec::new();
    }
    waiting.keys().zip(&fds).filter(|(_, fd)| fd.any() == Some(true)).map(|(index, _)| *index).collect()
}

fn receive(socket: &OwnedFd) -> io::Result<AdminReply> {
    let mut buffer = [0; MAX_MESSAGE];
    let (length, _) = socket::recv(socket.as_fd(), &mut buffer, 0)?;
    Ok(serde_json::from_slice(buffer.get(..length).unwrap_or_default())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gateways_are_found_by_their_listening_sockets() {
        let (one, two) = ("0a".repeat(16), "1b".repeat(16));
        let list = format!(
            "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1234 @jupyterhub-openssh-session/{two}\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1235 @jupyterhub-openssh-session/{one}\n\
             0000000000000000: 00000003 00000000 00000000 0005 03 1236 @jupyterhub-openssh-session/{one}\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1237 @jupyterhub-openssh/{two}\n\
             0000000000000000: 00000003 00000000 00000000 0005 03 1238 @jupyterhub-openssh/{one}\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 1239 /run/x\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1240 @jupyterhub-openssh-session/../../x\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1241\n"
        );
        let found = listed(&list);
        assert_eq!(
            found,
            [Gateway { address: one, logging_in: false }, Gateway { address: two, logging_in: true },]
        );
        assert_eq!(found[0].session(), "0a0a0a0a");
    }

    #[test]
    fn one_that_hangs_or_lies_holds_nobody_up() {
        let address = |n: u32| format!("{n:024x}{:08x}", std::process::id());
        let listen =
            |n| socket::listen_abstract(format!("{ADMIN_SOCKET_PREFIX}{}", address(n)).as_bytes()).unwrap();
        let gateway = |n| Gateway { address: address(n), logging_in: false };
        let (hangs, lies) = (listen(1), listen(2));
        let liar = std::thread::spawn(move || {
            let caller = socket::accept(lies.as_fd());
            caller.map(|caller| socket::send(caller.as_fd(), &[b'['; 4000], &[])).map(drop)
        });
        let start = Instant::now();
        let answers = ask(&[gateway(1), gateway(2), gateway(3)], AdminRequest::Status);
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert!(start.elapsed() < PATIENCE * 2);
        // One whose queue is full doesn't make anybody wait either.
        for _ in 0..20 {
            let _ = gateway(1).connect();
        }
        drop(hangs);
        liar.join().unwrap().unwrap();
    }

    proptest! {
        #[test]
        fn no_list_panics(list in "\\PC{0,200}|([0-9a-f@ /\n-]{0,40}jupyterhub-openssh-session/[0-9a-f]{0,33}){0,4}") {
            let _ = listed(&list);
        }
    }
}
