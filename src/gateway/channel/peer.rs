//! The session program of one channel: what it says, and what it is told.

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

/// Status of a session that broke, as ssh(1) reports its own failures.
pub const BROKEN: u8 = 255;

/// Most descriptors that come with a request: standard input, output and error.
const DESCRIPTORS: usize = 3;

/// What was heard.
pub enum Heard {
    /// A request, and what came with it.
    Request(SessionRequest, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// It has gone, or said something that our program never says.
    Gone,
}

/// What a session has found typed before it was ready. More than a terminal holds, or no base64, is
/// nothing that ours sends.
#[must_use]
pub fn typed(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (bytes.len() <= MAX_TYPED).then_some(bytes)
}

/// What has passed between the client and one channel.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// What it is, as the log calls it.
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
    /// Kept, because it is asked at every turn of the loop.
    buffer: Vec<u8>,
}

impl Peer {
    /// For a session that has just connected; its channel's number is `id`.
    #[must_use]
    pub fn new(id: u64, socket: OwnedFd, now: Instant) -> Self {
        Self { id, socket: Some(socket), since: now, tally: Tally::new(now), buffer: Vec::new() }
    }

    /// One that isn't there.
    #[must_use]
    pub fn none(id: u64, now: Instant) -> Self {
        Self { id, socket: None, since: now, tally: Tally::new(now), buffer: Vec::new() }
    }

    /// The channel's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Is it still there, as far as we know?
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Since when it has been there.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What has passed so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Names what it is.
    pub fn set_kind(&mut self, kind: &'static str) {
        self.tally.kind = kind;
    }

    /// The client has sent something.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        self.tally.received = self.tally.received.saturating_add(bytes as u64);
        self.tally.active = now;
    }

    /// The client has taken something.
    pub fn sent(&mut self, bytes: usize) {
        self.tally.sent = self.tally.sent.saturating_add(bytes as u64);
    }

    /// Something else shows that the client is not idle.
    pub fn is_active(&mut self, now: Instant) {
        self.tally.active = now;
    }

    /// What to poll(2) for input.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// The next request.
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
                    // Only our own program talks here; whatever else does gets no second chance.
                    Err(_) => Heard::Gone,
                }
            }
            Ok(None) => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }

    /// The raw packet of `length` bytes that follows a request; `None` while it has not come.
    ///
    /// # Errors
    /// The session has gone, or sent something else.
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

    /// Says something. A session that doesn't listen is gone, which shows at the next look.
    pub fn tell(&self, reply: &SessionReply) {
        if let (Some(socket), Ok(message)) = (&self.socket, serde_json::to_vec(reply)) {
            let _ = socket::send(socket.as_fd(), &message, &[]);
        }
    }

    /// The session is over: it is told its status, and a message if something went wrong.
    pub fn end(&mut self, status: u8, message: Option<String>, turn: &mut Turn<'_>) {
        self.log_end("status", &status.to_string(), turn);
        self.tell(&SessionReply::Exit { status, message });
        self.leave();
    }

    /// The same of a session whose process was ended by a signal.
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

    /// Nothing more is said to it.
    pub fn leave(&mut self) {
        self.socket = None;
    }
}
