//! Tells an sftp client why there are no files.
//!
//! sshd discards what a subsystem writes to standard error, so a client would only say "Connection
//! closed". So the refusal speaks the client's protocol (draft-ietf-secsh-filexfer-02, version 3,
//! which all clients speak): it greets, and answers every request with a failure and the message.
//! It grants no request, and no directory ever looks empty.

use super::descriptors::write_all;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a client may take to greet; all greet at once.
const GREETING: Duration = Duration::from_secs(5);
/// How long a client is answered after its greeting.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many requests of a client are answered.
const MAX_REQUESTS: u32 = 1000;
/// Longest packet accepted, in bytes: OpenSSH's own limit.
const MAX_PACKET: usize = 256 * 1024;

const INIT: u8 = 1;
const VERSION: u8 = 2;
const STATUS: u8 = 101;
/// Version of the protocol.
const THREE: u32 = 3;
/// `SSH_FX_FAILURE`
const FAILURE: u32 = 4;

/// Answers on standard output what arrives on standard input, until the client is gone or has had
/// enough time.
///
/// Somebody at a terminal has read the message and speaks no such protocol. A client that a server
/// greeted before that server failed gets no answer either: it might end up in the middle of one of
/// the server's own.
pub fn refuse(message: &str) {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if stdin.is_terminal() {
        return;
    }
    let mut until = Instant::now() + GREETING;
    let mut pending = Vec::new();
    let mut left = MAX_REQUESTS;
    loop {
        let time = PollTimeout::try_from(until.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], time.unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return,
            Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let mut buffer = [0; 4096];
        match nix::unistd::read(&stdin, &mut buffer) {
            Ok(0) => return,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Ok(length) => pending.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(_) => return,
        }
        if left == MAX_REQUESTS && !may_greet(&pending) {
            return;
        }
        let Some(answers) = answers(&mut pending, message, &mut left) else { return };
        if !answers.is_empty() && left == MAX_REQUESTS - 1 {
            until = Instant::now() + PATIENCE;
        }
        if write_all(stdout.as_fd(), &answers).is_err() {
            return;
        }
    }
}

/// True if this is the start of what a client says first.
fn may_greet(pending: &[u8]) -> bool {
    pending.get(4).is_none_or(|kind| *kind == INIT)
}

/// Takes whole packets off the start of `pending` and answers each. `None`: this is not an sftp
/// client, or it has been answered often enough.
fn answers(pending: &mut Vec<u8>, message: &str, left: &mut u32) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((head, rest)) = pending.split_first_chunk::<4>() {
        let length =
            usize::try_from(u32::from_be_bytes(*head)).ok().filter(|length| *length <= MAX_PACKET)?;
        let Some(packet) = rest.get(..length) else { break };
        *left = left.checked_sub(1)?;
        out.extend(answer(packet, message)?);
        pending.drain(..4 + length);
    }
    Some(out)
}

/// The answer to one packet, without its length. `None` if it is not a packet.
fn answer(packet: &[u8], message: &str) -> Option<Vec<u8>> {
    let (kind, rest) = packet.split_first()?;
    let body = if *kind == INIT {
        [&[VERSION][..], &THREE.to_be_bytes()].concat()
    } else {
        // Every request starts with its number.
        let (id, _) = rest.split_first_chunk::<4>()?;
        let text = string(message.as_bytes())?;
        [&[STATUS][..], id, &FAILURE.to_be_bytes(), &text, &string(b"en")?].concat()
    };
    string(&body)
}

/// Bytes after their length, as in strings and packets.
fn string(bytes: &[u8]) -> Option<Vec<u8>> {
    Some([&u32::try_from(bytes.len()).ok()?.to_be_bytes()[..], bytes].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a client sends first: INIT, and REALPATH of ".".
    const GREETING: &[u8] = b"\0\0\0\x05\x01\0\0\0\x03";
    const REALPATH: &[u8] = b"\0\0\0\x0a\x10\0\0\0\x07\0\0\0\x01.";
    const WELCOME: &[u8] = b"\0\0\0\x05\x02\0\0\0\x03";
    const SORRY: &[u8] = b"\0\0\0\x15\x65\0\0\0\x07\0\0\0\x04\0\0\0\x02no\0\0\0\x02en";

    #[test]
    fn a_client_is_greeted_and_refused() {
        let mut left = 9;
        let mut pending = [GREETING, REALPATH, REALPATH].concat();
        let expected = [WELCOME, SORRY, SORRY].concat();
        assert_eq!(answers(&mut pending, "no", &mut left), Some(expected));
        assert!(pending.is_empty());
        assert_eq!(left, 6);
    }

    #[test]
    fn who_has_been_greeted_by_another_is_left() {
        for (bytes, expected) in
            [(GREETING, true), (&GREETING[..3], true), (b"", true), (REALPATH, false), (b"EHLO x\r\n", false)]
        {
            assert_eq!(may_greet(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn in_pieces_as_well() {
        let mut pending = Vec::new();
        let mut out = Vec::new();
        for byte in [GREETING, REALPATH].concat() {
            pending.push(byte);
            out.extend(answers(&mut pending, "no", &mut 9).unwrap());
        }
        assert_eq!(out, [WELCOME, SORRY].concat());
    }

    #[test]
    fn strangers_and_the_stubborn_are_left() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x04\x10\0\0\0"] {
            assert_eq!(answers(&mut bytes.to_vec(), "no", &mut 9), None, "{}", bytes.escape_ascii());
        }
        assert_eq!(answers(&mut REALPATH.repeat(3), "no", &mut 2), None);
    }

    proptest! {
        /// Whatever comes in, only greetings and failures go out.
        #[test]
        fn nothing_is_granted(bytes in prop::collection::vec(prop_oneof![3 => 0u8..6, 1 => any::<u8>()], 0..60)) {
            let out = answers(&mut bytes.clone(), "no", &mut 99).unwrap_or_default();
            let mut rest = &out[..];
            while let Some((head, after)) = rest.split_first_chunk::<4>() {
                let (packet, after) = after.split_at(u32::from_be_bytes(*head) as usize);
                match packet[0] {
                    VERSION => prop_assert_eq!(packet.len(), 5),
                    kind => {
                        prop_assert_eq!(kind, STATUS);
                        prop_assert_eq!(&packet[5..9], FAILURE.to_be_bytes());
                    }
                }
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }
    }
}
