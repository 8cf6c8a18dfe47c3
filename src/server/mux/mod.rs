//! Streams over a terminal: the gateway's end of docs/mux.md.
//!
//! Nothing here does I/O: text goes in, events and text come out, and the caller says what time it
//! is. Everything that comes from the agent is hostile.
//!
//! | module | what it is for |
//! |---|---|
//! | [`frame`] | packets and the lines that carry them |
//! | `message` | the JSON that packets carry |
//! | `order` | numbers, acknowledgements, repetition |
//! | [`protocol`] | the kinds of packets, and limits |
//! | `stream` | credit and ends of one stream |

pub mod frame;
pub(crate) mod message;
pub(crate) mod order;
pub mod protocol;
mod stream;

use frame::{Lines, Packet, Piece};
pub use message::{Description, Exit, Hello, TtyDescription};
use order::{Receiving, Sending, Turn};
use protocol::{MAX_CREDIT, MAX_DESCRIPTION, MAX_PAYLOAD, PING_SECONDS, kind};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};
use stream::Stream;

/// The longest text that one call of [`Mux::transmit`] makes, in bytes, unless one packet is
/// longer.
///
/// A message of that size delays the server's other terminals by no more than a few milliseconds.
const MESSAGE: usize = 64 * 1024;
/// The most bytes between two packets: beyond it the agent, or another program there, is flooding.
const MAX_NOISE: usize = 64 << 20;
/// How much of each noise is shown, in bytes; [`MAX_NOISES`] is how many wait to be shown.
const SHOWN_NOISE: usize = 200;
const MAX_NOISES: usize = 16;
/// The most bytes to pass to one [`Mux::receive`]: a few hundred packets, however small.
pub const PIECE: usize = 16 * 1024;
/// The most streams at once.
const MAX_STREAMS: usize = 256;
/// The longest goodbye, in bytes, in both directions.
const MAX_REASON: usize = 1024;

/// A stream's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

/// A part of a stream that comes from the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Part 1: standard output, the terminal, or the bytes of a connection.
    Output,
    /// Part 2: standard error.
    Error,
}

impl Part {
    fn index(self) -> usize {
        usize::from(self == Self::Error)
    }

    fn number(self) -> u8 {
        if self == Self::Error { 2 } else { 1 }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Output),
            2 => Some(Self::Error),
            _ => None,
        }
    }
}

/// News from the agent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent is there.
    Hello(Hello),
    /// A stream is open: input may be sent.
    Opened(StreamId),
    /// A stream could not be opened, and is over.
    Refused(StreamId, String),
    /// Bytes of a part. They count against its credit until [`Mux::consumed`].
    Data(StreamId, Part, Vec<u8>),
    /// A part is complete.
    Eof(StreamId, Part),
    /// The agent wants no more input.
    Stop(StreamId),
    /// The process has ended.
    Exit(StreamId, Exit),
    /// The stream is over.
    Closed(StreamId),
    /// The agent ends, for this reason.
    Bye(String),
    /// The beginning of something else that was printed.
    Noise(Vec<u8>),
}

impl Event {
    /// Returns the stream that the event is about.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Opened(id)
            | Self::Refused(id, _)
            | Self::Data(id, ..)
            | Self::Eof(id, _)
            | Self::Stop(id)
            | Self::Exit(id, _)
            | Self::Closed(id) => Some(*id),
            Self::Hello(_) | Self::Bye(_) | Self::Noise(_) => None,
        }
    }
}

/// The agent broke the protocol: the link is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(&'static str);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent broke the protocol: {}", self.0)
    }
}

impl std::error::Error for Violation {}

/// One link to an agent, with all its streams.
#[derive(Debug)]
pub struct Mux {
    salt: u32,
    lines: Lines,
    sending: Sending,
    receiving: Receiving,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u32,
    greeted: bool,
    /// Unnumbered packets that are sent before anything else, at most one of a kind.
    urgent: VecDeque<(u8, u64)>,
    /// The number of the last PING.
    ping: u64,
    /// True after the agent has said goodbye: nothing after that counts.
    over: bool,
    reason: Option<String>,
    events: VecDeque<Event>,
    noise: usize,
    /// How many of the events are noise.
    noises: usize,
    scratch: Vec<u8>,
    /// When the agent last gave a sign of life, and when it was last asked for one.
    ///
    /// What a terminal repeats after a reconnect is no sign of life.
    heard: Instant,
    asked: Instant,
}

impl Mux {
    /// Returns a link to an agent that knows the same salt.
    #[must_use]
    pub fn new(salt: u32, now: Instant) -> Self {
        Self {
            salt,
            lines: Lines::default(),
            sending: Sending::new(now),
            receiving: Receiving::new(),
            streams: BTreeMap::new(),
            next_stream: 1,
            greeted: false,
            urgent: VecDeque::new(),
            ping: 0,
            over: false,
            reason: None,
            events: VecDeque::new(),
            noise: 0,
            noises: 0,
            scratch: Vec::new(),
            heard: now,
            asked: now,
        }
    }

    // --- from the agent ---

    /// Takes what the terminal has printed.
    ///
    /// To keep the events few, pass at most [`PIECE`] bytes at once, and take the events between.
    ///
    /// # Errors
    /// Fails if the agent broke the protocol; nothing that comes after it counts.
    pub fn receive(&mut self, text: &[u8], now: Instant) -> Result<(), Violation> {
        let mut lines = std::mem::take(&mut self.lines);
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = lines.push(text, |piece| match piece {
            Piece::Noise(noise) => self.hear_noise(noise),
            Piece::Candidate(candidate) => match frame::decode(candidate, self.salt, &mut scratch) {
                Some(packet) => {
                    self.noise = 0;
                    self.take(&packet, now)
                }
                None => {
                    self.ask_again(now);
                    self.hear_noise(candidate)
                }
            },
        });
        (self.lines, self.scratch) = (lines, scratch);
        outcome
    }

    /// Returns the next event.
    pub fn event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if matches!(event, Event::Noise(_)) {
            self.noises -= 1;
        }
        Some(event)
    }

    /// True if there is an event.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns what was printed last and isn't a line yet.
    #[must_use]
    pub fn unfinished_line(&self) -> &[u8] {
        self.lines.rest()
    }

    fn hear_noise(&mut self, noise: &[u8]) -> Result<(), Violation> {
        self.noise += noise.len() + 1;
        if self.noise > MAX_NOISE {
            return Err(Violation("nothing but noise"));
        }
        let shown = noise.get(..SHOWN_NOISE).unwrap_or(noise);
        if self.noises < MAX_NOISES && !shown.iter().all(u8::is_ascii_whitespace) {
            self.noises += 1;
            self.events.push_back(Event::Noise(shown.to_vec()));
        }
        Ok(())
    }

    fn ask_again(&mut self, now: Instant) {
        if self.greeted && self.receiving.may_ask(now) {
            self.urge(kind::RESUME, self.receiving.expected());
        }
    }

    /// Queues an unnumbered packet. The newest of a kind replaces an older one.
    fn urge(&mut self, kind: u8, number: u64) {
        self.urgent.retain(|(waiting, _)| *waiting != kind);
        self.urgent.push_back((kind, number));
    }

    fn take(&mut self, packet: &Packet<'_>, now: Instant) -> Result<(), Violation> {
        if self.over {
            return Ok(());
        }
        if !self.greeted && packet.kind != kind::HELLO && packet.kind != kind::BYE {
            return Err(Violation("it did not greet"));
        }
        if !frame::is_numbered(packet.kind) {
            return self.take_unnumbered(packet, now);
        }
        match self.receiving.look(packet, now) {
            Turn::Take => {
                self.heard = now;
                self.take_numbered(packet, now)
            }
            Turn::Repetition => Ok(()),
            Turn::Gap => {
                self.ask_again(now);
                Ok(())
            }
        }
    }

    fn take_unnumbered(&mut self, packet: &Packet<'_>, now: Instant) -> Result<(), Violation> {
        let bad_ack = |_| Violation("it acknowledged what was never sent");
        match packet.kind {
            kind::ACK => {
                if self.sending.acknowledge(packet.number, now).map_err(bad_ack)? {
                    self.heard = now;
                }
            }
            kind::RESUME => {
                self.sending.acknowledge(packet.number, now).map_err(bad_ack)?;
                self.sending.repeat(now);
            }
            kind::PING => self.urge(kind::PONG, packet.number),
            kind::PONG if packet.number == self.ping => self.heard = now,
            kind::PONG => {}
            kind::BYE => {
                self.over = true;
                let reason = packet.payload.get(..MAX_REASON).unwrap_or(packet.payload);
                self.events.push_back(Event::Bye(String::from_utf8_lossy(reason).into_owned()));
            }
            kind::HELLO => {
                let hello =
                    message::hello(packet.payload).ok_or(Violation("its greeting was not understood"))?;
                if hello.version != message::VERSION {
                    return Err(Violation("it speaks another version"));
                }
                // After a reconnect the terminal repeats it.
                if !std::mem::replace(&mut self.greeted, true) {
                    self.heard = now;
                    self.events.push_back(Event::Hello(hello));
                }
            }
            _ => return Err(Violation("an unknown kind of packet")),
        }
        Ok(())
    }

    fn take_numbered(&mut self, packet: &Packet<'_>, now: Instant) -> Result<(), Violation> {
        let id = StreamId(packet.stream);
        if packet.stream % 2 == 0 || packet.stream >= self.next_stream {
            return Err(Violation("a stream that was never opened"));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let part = || Part::from_number(packet.part).ok_or(Violation("a part that does not exist"));
        match packet.kind {
            kind::OPENED => {
                let window = message::opened(packet.payload).filter(|window| *window <= MAX_CREDIT);
                stream.opened(window.ok_or(Violation("an opening was not understood"))?)?;
                self.events.push_back(Event::Opened(id));
            }
            kind::REFUSED => {
                let why =
                    message::refused(packet.payload).ok_or(Violation("a refusal was not understood"))?;
                self.streams.remove(&id);
                self.events.push_back(Event::Refused(id, why));
            }
            kind::DATA => {
                let part = part()?;
                if stream.data(part, packet.payload.len())? {
                    self.events.push_back(Event::Data(id, part, packet.payload.to_vec()));
                } else {
                    // It has no reader any more.
                    self.consumed(id, part, packet.payload.len(), now);
                }
            }
            kind::EOF => {
                let part = part()?;
                stream.eof(part)?;
                self.events.push_back(Event::Eof(id, part));
            }
            kind::CREDIT => {
                let bytes = packet.payload.try_into().map(u32::from_be_bytes);
                let bytes = bytes.map_err(|_| Violation("a credit was not understood"))?;
                stream.credit(packet.part, usize::try_from(bytes).unwrap_or(usize::MAX))?;
            }
            kind::STOP if packet.part == 0 => {
                if stream.stopped() {
                    self.events.push_back(Event::Stop(id));
                }
            }
            kind::EXIT => {
                let exit = message::exit(packet.payload).ok_or(Violation("an exit was not understood"))?;
                stream.exit()?;
                self.events.push_back(Event::Exit(id, exit));
            }
            kind::CLOSE => {
                self.streams.remove(&id);
                self.events.push_back(Event::Closed(id));
            }
            _ => return Err(Violation("an unknown kind of packet")),
        }
        Ok(())
    }

    // --- to the agent ---

    /// Opens a stream.
    ///
    /// `window` is the credit of the parts that come from it, in bytes, at most 1 MiB. `None` if
    /// there are too many streams, or the description is too long.
    pub fn open(&mut self, description: &Description<'_>, window: usize, now: Instant) -> Option<StreamId> {
        let window = window.min(MAX_CREDIT);
        let json = description.to_json(window);
        if self.streams.len() >= MAX_STREAMS || json.len() > MAX_DESCRIPTION {
            return None;
        }
        let id = StreamId(self.next_stream);
        self.next_stream = self.next_stream.checked_add(2)?;
        self.streams.insert(id, Stream::new(window));
        let pieces = json.len().div_ceil(MAX_PAYLOAD);
        for (at, piece) in json.chunks(MAX_PAYLOAD).enumerate() {
            let kind = if at + 1 == pieces { kind::OPEN } else { kind::OPENING };
            self.sending.queue(kind, id.0, 0, piece, now);
        }
        Some(id)
    }

    /// Returns how many bytes of input a stream takes now.
    #[must_use]
    pub fn room(&self, id: StreamId) -> usize {
        let credit = self.streams.get(&id).map_or(0, Stream::room);
        credit.min(self.sending.room()).min(MAX_PAYLOAD)
    }

    /// Sends input: at most [`Mux::room`] bytes of it. Returns how many.
    pub fn send(&mut self, id: StreamId, bytes: &[u8], now: Instant) -> usize {
        let taken = bytes.get(..self.room(id)).unwrap_or(bytes);
        if let (false, Some(stream)) = (taken.is_empty(), self.streams.get_mut(&id)) {
            stream.sent(taken.len());
            self.sending.queue(kind::DATA, id.0, 0, taken, now);
        }
        taken.len()
    }

    /// Tells the agent that the input is complete.
    pub fn eof(&mut self, id: StreamId, now: Instant) {
        if self.streams.get_mut(&id).is_some_and(Stream::end_input) {
            self.sending.queue(kind::EOF, id.0, 0, &[], now);
        }
    }

    /// Notes that `bytes` of a part have reached their reader.
    pub fn consumed(&mut self, id: StreamId, part: Part, bytes: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(grant) = stream.consumed(part, bytes) {
            self.sending.queue(kind::CREDIT, id.0, part.number(), &grant.to_be_bytes(), now);
        }
    }

    /// Tells the agent that a part's reader has closed it.
    pub fn stop(&mut self, id: StreamId, part: Part, now: Instant) {
        if self.streams.get_mut(&id).is_some_and(|stream| stream.stop(part)) {
            self.sending.queue(kind::STOP, id.0, part.number(), &[], now);
        }
    }

    /// Tells the agent that the client's window has changed.
    pub fn resize(&mut self, id: StreamId, rows: u16, cols: u16, now: Instant) {
        if self.streams.contains_key(&id) {
            let [a, b] = rows.to_be_bytes();
            let [c, d] = cols.to_be_bytes();
            self.sending.queue(kind::RESIZE, id.0, 0, &[a, b, c, d], now);
        }
    }

    /// Sends a signal to the process, by its name without SIG.
    pub fn signal(&mut self, id: StreamId, name: &str, now: Instant) {
        if self.streams.contains_key(&id) {
            self.sending.queue(kind::SIGNAL, id.0, 0, name.as_bytes(), now);
        }
    }

    /// Abandons a stream; [`Event::Closed`] comes when the agent has let go of it.
    pub fn close(&mut self, id: StreamId, now: Instant) {
        if self.streams.get_mut(&id).is_some_and(Stream::abandon) {
            self.sending.queue(kind::CLOSE, id.0, 0, &[], now);
        }
    }

    /// Says goodbye: the agent ends when it reads this.
    pub fn bye(&mut self, reason: &str) {
        self.reason = Some(reason.chars().take(MAX_REASON / 4).collect());
    }

    // --- the link ---

    /// Resumes on a new WebSocket: packets may have been lost with the old one.
    pub fn reconnected(&mut self, now: Instant) {
        self.lines.clear();
        self.urgent.clear();
        self.noise = 0;
        if self.greeted {
            self.sending.pause(now);
            self.urge(kind::RESUME, self.receiving.expected());
            self.ask_for_life(now);
        }
    }

    /// Sends a PING: only the answer to this very question shows that the agent is there.
    fn ask_for_life(&mut self, now: Instant) {
        self.asked = now;
        self.ping += 1;
        self.urge(kind::PING, self.ping);
    }

    /// Returns the next text for the terminal, if there is something to send.
    pub fn transmit(&mut self, now: Instant) -> Option<String> {
        self.schedule(now);
        let mut text = String::new();
        let salt = self.salt;
        while let Some((kind, number)) = self.urgent.pop_front() {
            frame::encode(&Packet::link(kind, number), salt, &mut self.scratch, &mut text);
        }
        while text.len() < MESSAGE {
            let Some(packet) = self.sending.take() else { break };
            frame::encode(&packet, salt, &mut self.scratch, &mut text);
        }
        if let Some(reason) = self.reason.take() {
            let packet = Packet { payload: reason.as_bytes(), ..Packet::link(kind::BYE, 0) };
            frame::encode(&packet, salt, &mut self.scratch, &mut text);
        }
        if text.is_empty() {
            return None;
        }
        Some(text)
    }

    /// Queues what is due.
    fn schedule(&mut self, now: Instant) {
        if !self.greeted {
            return;
        }
        if self.receiving.acknowledge_at().is_some_and(|at| at <= now) {
            self.receiving.acknowledged();
            self.urge(kind::ACK, self.receiving.expected());
        }
        if self.sending.repeat_at().is_some_and(|at| at <= now) {
            if self.sending.is_paused() {
                self.sending.pause(now);
                self.urge(kind::RESUME, self.receiving.expected());
            } else {
                self.sending.repeat(now);
            }
        }
        if now >= self.ping_at() {
            self.ask_for_life(now);
        }
    }

    /// Returns when [`Mux::transmit`] must be called at the latest, after `now`.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.greeted {
            return None;
        }
        let due = [self.receiving.acknowledge_at(), self.sending.repeat_at(), Some(self.ping_at())];
        due.into_iter().flatten().filter(|at| *at > now).min()
    }

    fn ping_at(&self) -> Instant {
        self.heard.max(self.asked) + Duration::from_secs(PING_SECONDS)
    }

    /// Returns when the agent last gave a sign of life.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Checks that the agent acknowledges what it gets.
    ///
    /// # Errors
    /// Fails if too much is unacknowledged.
    pub fn check(&self) -> Result<(), Violation> {
        if self.sending.is_neglected() { Err(Violation("it acknowledges nothing")) } else { Ok(()) }
    }

    /// True if any stream is open.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests;
