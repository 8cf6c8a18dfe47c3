//! Finds the gateways of this host and asks them, all at the same time.
//!
//! A gateway that hangs or sends nonsense counts as one that doesn't answer. Anybody can listen
//! under such names, so a listener counts only if its credentials are right once connected
//! (unix(7), SO_PEERCRED).

use common::paths::{ADMIN_SOCKET_PREFIX, GATEWAY_SOCKET_PREFIX};
use host::rights::Rights;
use host::sys::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::MAX_MESSAGE;
use wire::admin::{AdminReply, AdminRequest};
use wire::handle::is_name;

/// How long gateways may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a gateway may take that is probably still in a login: see [`Gateway::logging_in`].
pub const SHORT_PATIENCE: Duration = Duration::from_millis(200);
/// How long gateways with a full queue are tried again, and the pause between.
///
/// A gateway empties its queue within milliseconds.
const CROWDED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(1));
/// How many gateways are asked at the same time: fewer than the descriptors that a process may
/// have.
const BATCH: usize = 200;
/// How /proc/net/unix marks a listening socket (the kernel's __SO_ACCEPTCON), and the type
/// SOCK_SEQPACKET.
const LISTENS: u32 = 0x1_0000;
const SEQPACKET: &str = "0005";

/// The address of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    address: String,
    /// True if it seems to wait for its session, and so does not answer. Only a hint, as anybody
    /// can take the name that says so once it is free.
    pub logging_in: bool,
}

/// The result of asking a gateway.
#[derive(Debug)]
pub enum Answer {
    /// Its answer.
    Said(AdminReply),
    /// No answer in time, or a malformed one.
    Silent,
    /// Its queue is full, so it may not even be a gateway.
    Crowded,
}

impl Gateway {
    /// The name of its session.
    pub fn session(&self) -> &str {
        self.address.get(..wire::handle::CONNECTION_DIGITS).unwrap_or_default()
    }

    /// A gateway whose address repeats two digits.
    #[cfg(test)]
    pub fn example(digits: &str) -> Self {
        Self { address: digits.repeat(16), logging_in: false }
    }

    /// Connects and sends the question, if `owner` is who listens there.
    fn call(&self, owner: u32, message: &[u8]) -> Call {
        let name = format!("{ADMIN_SOCKET_PREFIX}{}", self.address);
        let socket = match socket::connect_abstract_at_once(name.as_bytes()) {
            Ok(socket) => socket,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Call::Crowded,
            // The gateway has ended meanwhile.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Call::Nobody,
            Err(_) => return Call::Deaf,
        };
        // A gateway listens as root, or as the user that sshd and this program run as.
        match socket::peer(socket.as_fd()) {
            Ok(peer) if peer.uid() == owner => {}
            _ => return Call::Nobody,
        }
        socket::send(socket.as_fd(), message, &[]).map_or(Call::Deaf, |()| Call::Asked(socket))
    }
}

/// The result of connecting to a gateway.
enum Call {
    Asked(OwnedFd),
    /// The gateway cannot be asked.
    Deaf,
    /// The socket's queue is full.
    Crowded,
    /// It is not a gateway, or no longer.
    Nobody,
}

/// Asks all gateways, or those of one session, and returns their answers in the order of their
/// names.
///
/// Each may take `patience`; all those with a full queue together take a second more.
///
/// # Errors
/// The list of sockets cannot be read, or there are no descriptors left.
pub fn ask_gateways(
    session: Option<&str>,
    request: AdminRequest,
    patience: impl Fn(&Gateway) -> Duration,
) -> io::Result<Vec<(Gateway, Answer)>> {
    let mut found = listed(BufReader::new(File::open("/proc/net/unix")?))?;
    found.retain(|gateway| session.is_none_or(|session| gateway.session() == session));
    Ok(ask_these(found, Rights::of_this_process().owner(), request, patience))
}

/// Finds the gateways in /proc/net/unix: `Num RefCount Protocol Flags Type St Inode Path`, abstract
/// names with an `@`.
///
/// It is read line by line, because users can make it long. A line is short: names have 107 bytes
/// at most.
fn listed(list: impl BufRead) -> io::Result<Vec<Gateway>> {
    let (mut admin, mut claim) = (BTreeSet::new(), BTreeSet::new());
    for line in list.split(b'\n') {
        let line = line?;
        let Ok(line) = std::str::from_utf8(&line) else { continue };
        let mut words = line.split_ascii_whitespace();
        let flags = words.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let kind = words.next();
        let Some(name) = words.nth(2).and_then(|path| path.strip_prefix('@')) else { continue };
        if flags.is_none_or(|flags| flags & LISTENS == 0) || kind != Some(SEQPACKET) {
            continue;
        }
        if let Some(address) = name.strip_prefix(ADMIN_SOCKET_PREFIX) {
            admin.extend(is_name(address).then(|| address.to_owned()));
        } else if let Some(address) = name.strip_prefix(GATEWAY_SOCKET_PREFIX) {
            claim.extend(is_name(address).then(|| address.to_owned()));
        }
    }
    let gateway = |address: String| Gateway { logging_in: claim.contains(&address), address };
    Ok(admin.into_iter().map(gateway).collect())
}

/// A gateway that was asked.
struct Waiting {
    gateway: Gateway,
    socket: OwnedFd,
    until: Instant,
}

/// Asks the gateways that listen as `owner`; others are skipped, however many they are.
fn ask_these(
    gateways: Vec<Gateway>,
    owner: u32,
    request: AdminRequest,
    patience: impl Fn(&Gateway) -> Duration,
) -> Vec<(Gateway, Answer)> {
    let message = serde_json::to_vec(&request).unwrap_or_default();
    let (mut answers, mut waiting, mut crowded) = (Vec::new(), Vec::new(), Vec::new());
    let mut call = |gateway: Gateway, answers: &mut Vec<_>, crowded: &mut Vec<_>| {
        match gateway.call(owner, &message) {
            Call::Asked(socket) => {
                let until = Instant::now() + patience(&gateway);
                waiting.push(Waiting { gateway, socket, until });
            }
            Call::Deaf => answers.push((gateway, Answer::Silent)),
            Call::Crowded => crowded.push(gateway),
            Call::Nobody => {}
        }
        if waiting.len() >= BATCH {
            answers.extend(hear(std::mem::take(&mut waiting)));
        }
    };
    gateways.into_iter().for_each(|gateway| call(gateway, &mut answers, &mut crowded));
    let until = Instant::now() + CROWDED.0;
    while !crowded.is_empty() && Instant::now() < until {
        std::thread::sleep(CROWDED.1);
        for gateway in std::mem::take(&mut crowded) {
            call(gateway, &mut answers, &mut crowded);
        }
    }
    answers.extend(hear(waiting));
    answers.extend(crowded.into_iter().map(|gateway| (gateway, Answer::Crowded)));
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    answers
}

/// Waits for the answers of the gateways that were asked.
fn hear(mut waiting: Vec<Waiting>) -> Vec<(Gateway, Answer)> {
    let mut answers = Vec::new();
    while let Some(until) = waiting.iter().map(|one| one.until).min() {
        let ready = readable(&waiting, until);
        let mut ready = ready.into_iter();
        let now = Instant::now();
        for one in std::mem::take(&mut waiting) {
            if ready.next() == Some(true) {
                let answer = receive(&one.socket).map_or(Answer::Silent, Answer::Said);
                answers.push((one.gateway, answer));
            } else if now >= one.until {
                answers.push((one.gateway, Answer::Silent));
            } else {
                waiting.push(one);
            }
        }
    }
    answers
}

/// Waits until some of them can be read, or `until` then, and says which.
fn readable(waiting: &[Waiting], until: Instant) -> Vec<bool> {
    let mut fds: Vec<_> =
        waiting.iter().map(|one| PollFd::new(one.socket.as_fd(), PollFlags::POLLIN)).collect();
    // Rounded up, so that the last millisecond doesn't spin.
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    if poll(&mut fds, left).is_err() {
        return Vec::new();
    }
    fds.iter().map(|fd| fd.any() == Some(true)).collect()
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
    use wire::admin::ConnectionStatus;

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
             0000000000000000: 00000002 00000000 00010000 0001 01 1238 @jupyterhub-openssh/{one}\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 1239 /run/x\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1240 @jupyterhub-openssh-session/../../x\n\
             0000000000000000: 00000002 00000000 00010000 0005 01 1241\n"
        );
        let found = listed(list.as_bytes()).unwrap();
        assert_eq!(
            found,
            [Gateway { address: one, logging_in: false }, Gateway { address: two, logging_in: true },]
        );
        assert_eq!(found[0].session(), "0a0a0a0a");
    }

    fn gateway(number: u32) -> Gateway {
        Gateway { address: format!("{number:024x}{:08x}", std::process::id()), logging_in: false }
    }

    fn listen(gateway: &Gateway) -> OwnedFd {
        socket::listen_abstract(format!("{ADMIN_SOCKET_PREFIX}{}", gateway.address).as_bytes()).unwrap()
    }

    fn asked(gateways: &[Gateway], owner: u32, patience: Duration) -> Vec<(Gateway, Answer)> {
        ask_these(gateways.to_vec(), owner, AdminRequest::Status, |_| patience)
    }

    fn me() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    #[test]
    fn one_that_hangs_or_lies_holds_nobody_up() {
        let (mute, lying, answering, absent) = (gateway(1), gateway(2), gateway(3), gateway(4));
        let (_hangs, lies, answers) = (listen(&mute), listen(&lying), listen(&answering));
        let liar = std::thread::spawn(move || {
            let caller = socket::accept(lies.as_fd());
            caller.map(|caller| socket::send(caller.as_fd(), &[b'['; 4000], &[])).map(drop)
        });
        let good = std::thread::spawn(move || {
            let caller = socket::accept(answers.as_fd()).unwrap();
            let reply = serde_json::to_vec(&AdminReply::Status(ConnectionStatus::default())).unwrap();
            socket::send(caller.as_fd(), &reply, &[]).map(|()| caller)
        });
        let start = Instant::now();
        let all = [mute.clone(), lying.clone(), answering.clone(), absent];
        let found = asked(&all, me(), PATIENCE);
        assert!(start.elapsed() < PATIENCE * 2);
        let [(first, Answer::Silent), (second, Answer::Silent), (third, Answer::Said(_))] = &found[..] else {
            unreachable!("{found:?}")
        };
        assert_eq!((first, second, third), (&mute, &lying, &answering));
        liar.join().unwrap().unwrap();
        good.join().unwrap().unwrap();
    }

    #[test]
    fn listeners_of_others_are_nobody() {
        let strangers: Vec<_> = (10..510).map(gateway).collect();
        let listeners: Vec<_> = strangers.iter().map(listen).collect();
        assert!(asked(&strangers, me() + 1, PATIENCE).is_empty());
        // Nothing is said to them.
        let caller = socket::accept(listeners[0].as_fd()).unwrap();
        assert_eq!(socket::recv(caller.as_fd(), &mut [0; 9], 0).unwrap().0, 0);
    }

    #[test]
    fn a_full_queue_is_tried_again_and_hides_nobody() {
        let (crowd, busy, mute) = (gateway(600), gateway(601), gateway(602));
        let (_full, full, _hangs) = (listen(&crowd), listen(&busy), listen(&mute));
        let fill = |gateway: &Gateway| -> Vec<_> {
            let call = || match gateway.call(me(), b"") {
                Call::Asked(socket) => Some(socket),
                _ => None,
            };
            std::iter::from_fn(call).collect()
        };
        let (_crowd, callers) = (fill(&crowd), fill(&busy));
        assert!(!callers.is_empty());
        // It comes to its callers after a while.
        let gateway = std::thread::spawn(move || {
            std::thread::sleep(SHORT_PATIENCE);
            callers.iter().try_for_each(|_| socket::accept(full.as_fd()).map(drop)).map(|()| full)
        });
        let found = asked(&[crowd, busy, mute], me(), SHORT_PATIENCE);
        assert!(
            matches!(found[..], [(_, Answer::Crowded), (_, Answer::Silent), (_, Answer::Silent)]),
            "{found:?}"
        );
        gateway.join().unwrap().unwrap();
    }

    proptest! {
        #[test]
        fn no_list_panics(list in "\\PC{0,200}|([0-9a-f@ /\n-]{0,40}jupyterhub-openssh-session/[0-9a-f]{0,33}){0,4}") {
            let _ = listed(list.as_bytes());
        }
    }
}
