//! The session program of one channel: receives its requests and sends it replies.

use crate::remote::turn::Turn;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host::log::{Event, Line};
use host::sys::socket;
use host::sys::tty::MAX_TYPED;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use wire::MAX_MESSAGE;
use wire::session::{SessionReply, SessionRequest};

/// Exit status of a channel that broke, as ssh(1) reports its own failures.
pub const BROKEN: u8 = 255;

/// Most descriptors in a request: standard input, output and error.
const DESCRIPTORS: usize = 3;

/// What was received.
pub enum Heard {
    /// A request, with its descriptors.
    Request(SessionRequest, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The program is gone, or has sent something that ours never sends.
    Gone,
}

/// Decodes what was typed before the session program was ready. `None` if it is not base64, or more
/// than a terminal holds: our program sends no such thing.
#[must_use]
pub fn typed(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (bytes.len() <= MAX_TYPED).then_some(bytes)
}

/// How much has passed between the client and one channel.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// The channel's kind, as the log names it.
    pub kind: &'static str,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// When the client was last active.
    pub active: Instant,
}

impl Tally {
    fn new(now: Instant) -> Self {
        Self { kind: "session", received: 0, sent: 0, active: now }
    }
}

/// The session program of a channel.
pub struct Peer {
    id: u64,
    socket: Option<OwnedFd>,
    since: Instant,
    tally: Tally,
    /// The buffer for messages. It is kept because every turn of the loop needs it.
    buffer: Vec<u8>,
}

impl Peer {
    /// Takes a session program that has just connected; `id` is the number of its channel.
    #[must_use]
    pub fn new(id: u64, socket: OwnedFd, now: Instant) -> Self {
        Self { id, socket: Some(socket), since: now, tally: Tally::new(now), buffer: Vec::new() }
    }

    /// Stands for a program that is not there.
    #[must_use]
    pub fn none(id: u64, now: Instant) -> Self {
        Self { id, socket: None, since: now, tally: Tally::new(now), buffer: Vec::new() }
    }

    /// The channel's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// True unless it is known to be gone.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// When it connected.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What has passed so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Sets the channel's kind.
    pub fn set_kind(&mut self, kind: &'static str) {
        self.tally.kind = kind;
    }

    /// Counts bytes from the client.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        self.tally.received = self.tally.received.saturating_add(bytes as u64);
        self.tally.active = now;
    }

    /// Counts bytes to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.tally.sent = self.tally.sent.saturating_add(bytes as u64);
    }

    /// Notes another sign that the client is active.
    pub fn is_active(&mut self, now: Instant) {
        self.tally.active = now;
    }

    /// What to poll(2) for input.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Receives the next request.
    #[must_use]
    pub fn hear(&mut self) -> Heard {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(MAX_MESSAGE, 0);
        let heard = self.hear_in(&mut buffer);
        self.buffer = buffer;
        heard
    }

    fn hear_in(&self, buffer: &mut [u8]) -> Heard {
        match self.packet(buffer) {
            Ok(Some((bytes, descriptors))) => {
                match serde_json::from_slice(buffer.get(..bytes).unwrap_or_default()) {
                    Ok(request) => Heard::Request(request, descriptors),
                    // Only our own program speaks here, so a wrong message gets no second chance.
                    Err(_) => Heard::Gone,
                }
            }
            Ok(None) => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }

    /// Receives the packet of `length` raw bytes that follows a request; `None` if it has not come
    /// yet.
    ///
    /// # Errors
    /// The program is gone, or has sent something else.
    pub fn hear_bytes(&self, length: usize) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; length];
        match self.packet(&mut buffer)? {
            Some((bytes, descriptors)) if bytes == length && descriptors.is_empty() => Ok(Some(buffer)),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
            None => Ok(None),
        }
    }

    fn packet(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        match socket::recv(socket.as_fd(), buffer, DESCRIPTORS) {
            Ok((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => Ok(Some(received)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends a reply. If the program does not listen, it is gone, which the next look shows.
    pub fn tell(&self, reply: &SessionReply) {
        if let (Some(socket), Ok(message)) = (&self.socket, serde_json::to_vec(reply)) {
            let _ = socket::send(socket.as_fd(), &message, &[]);
        }
    }

    /// Tells the program to end with this status, and shows a message if something went wrong.
    pub fn end(&mut self, status: u8, message: Option<String>, turn: &mut Turn<'_>) {
        self.log_end("status", &status.to_string(), turn);
        self.tell(&SessionReply::Exit { status, message });
        self.leave();
    }

    /// Tells the program to end by the signal that ended the remote process.
    pub fn end_by_signal(&mut self, signal: String, turn: &mut Turn<'_>) {
        self.log_end("signal", &signal, turn);
        self.tell(&SessionReply::Killed { signal, message: None });
        self.leave();
    }

    fn log_end(&self, how: &str, what: &str, turn: &mut Turn<'_>) {
        let seconds = turn.now.saturating_duration_since(self.since).as_secs();
        let line = Line::new(Event::ChannelClosed).with("channel", self.id).with(how, what);
        turn.log
            .info(line.with("seconds", seconds).with("in", self.tally.received).with("out", self.tally.sent));
    }

    /// Sends nothing more to it.
    pub fn leave(&mut self) {
        self.socket = None;
    }
}
