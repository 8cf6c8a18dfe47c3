//! The order of packets: each arrives exactly once and in order (docs/mux.md, "Packets"). No I/O.
//!
//! Both ends number what they send, acknowledge what they receive, and repeat what was lost.

use super::frame::{self, Packet};
use super::protocol::{ACK_BYTES, ACK_MILLISECONDS, LINK_WINDOW, REPEAT_SECONDS, RESUME_MILLISECONDS};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most packets kept for repetition; [`MAX_KEPT_BYTES`] limits their bytes.
///
/// Input is held back at [`LINK_WINDOW`]; packets that open and control streams are not. An agent
/// that lets them grow beyond these limits doesn't acknowledge.
const MAX_KEPT: usize = 16_384;
const MAX_KEPT_BYTES: usize = LINK_WINDOW + (4 << 20);
/// How many bytes a packet counts for in addition to its payload.
const COST: usize = 18;

/// A packet that isn't acknowledged yet.
#[derive(Debug)]
struct Kept {
    kind: u8,
    stream: u32,
    part: u8,
    payload: Box<[u8]>,
}

/// The sending direction: numbers packets and keeps them until they are acknowledged.
#[derive(Debug)]
pub(crate) struct Sending {
    /// The number of the first kept packet.
    base: u64,
    kept: VecDeque<Kept>,
    /// How many of the kept packets have been sent since the last repetition.
    sent: usize,
    /// The payload and cost of all kept packets, in bytes.
    bytes: usize,
    /// When something was last acknowledged, or sending began anew.
    progress: Instant,
    /// True until the other end says what it has; nothing is sent meanwhile.
    paused: bool,
}

/// An acknowledgement of something that was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAck;

impl Sending {
    /// Returns the state before anything is sent.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self { base: 0, kept: VecDeque::new(), sent: 0, bytes: 0, progress: now, paused: false }
    }

    /// Returns how many bytes of payload may be queued.
    #[must_use]
    pub(crate) fn room(&self) -> usize {
        LINK_WINDOW.saturating_sub(self.bytes + COST)
    }

    /// Queues a packet, whatever [`room`](Self::room) is; only data has to respect it.
    pub(crate) fn queue(&mut self, kind: u8, stream: u32, part: u8, payload: &[u8], now: Instant) {
        if self.kept.is_empty() {
            self.progress = now;
        }
        self.bytes += payload.len() + COST;
        self.kept.push_back(Kept { kind, stream, part, payload: payload.into() });
    }

    /// True if a packet can be sent now.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        !self.paused && self.sent < self.kept.len()
    }

    /// Returns the next packet to send.
    pub(crate) fn take(&mut self) -> Option<Packet<'_>> {
        if !self.is_ready() {
            return None;
        }
        let number = self.base + self.sent as u64;
        let kept = self.kept.get(self.sent)?;
        self.sent += 1;
        Some(Packet { kind: kept.kind, number, stream: kept.stream, part: kept.part, payload: &kept.payload })
    }

    /// Notes that the other end has everything before `number`; returns whether that is new.
    ///
    /// # Errors
    /// Fails if `number` acknowledges something that was never queued.
    pub(crate) fn acknowledge(&mut self, number: u64, now: Instant) -> Result<bool, BadAck> {
        let sent_ever = self.base + self.kept.len() as u64;
        if number > sent_ever {
            return Err(BadAck);
        }
        if std::mem::take(&mut self.paused) {
            self.repeat(now);
        }
        // An old one may come again after a reconnect.
        let count = usize::try_from(number.saturating_sub(self.base)).unwrap_or(usize::MAX);
        for kept in self.kept.drain(..count.min(self.kept.len())) {
            self.bytes -= kept.payload.len() + COST;
            self.base += 1;
            self.sent = self.sent.saturating_sub(1);
            self.progress = now;
        }
        Ok(count > 0)
    }

    /// Sends everything again that isn't acknowledged.
    pub(crate) fn repeat(&mut self, now: Instant) {
        self.sent = 0;
        self.progress = now;
    }

    /// Sends nothing until the next acknowledgement, and then everything that is missing.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused = true;
        self.progress = now;
    }

    /// True while the other end still has to say what it has.
    #[must_use]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns when to repeat unasked; while paused, when to ask again.
    #[must_use]
    pub(crate) fn repeat_at(&self) -> Option<Instant> {
        (self.paused || self.sent > 0).then(|| self.progress + Duration::from_secs(REPEAT_SECONDS))
    }

    /// True if the other end has stopped acknowledging.
    #[must_use]
    pub(crate) fn is_neglected(&self) -> bool {
        self.kept.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES
    }
}

/// The receiving direction: finds what is new, repeated or missing.
#[derive(Debug)]
pub(crate) struct Receiving {
    expected: u64,
    /// Payload received since the last ACK, in bytes, and when the first of it came.
    unacknowledged: usize,
    since: Option<Instant>,
    /// When RESUME was sent; `None` after progress.
    asked: Option<Instant>,
}

/// What to do with a numbered packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The packet is the next one.
    Take,
    /// The packet came before.
    Repetition,
    /// Packets before it are missing.
    Gap,
}

impl Receiving {
    /// Returns the state before anything is received.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { expected: 0, unacknowledged: 0, since: None, asked: None }
    }

    /// Returns the number of the next packet.
    #[must_use]
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Compares a numbered packet with what is expected.
    pub(crate) fn look(&mut self, packet: &Packet<'_>, now: Instant) -> Turn {
        debug_assert!(frame::is_numbered(packet.kind));
        if packet.number > self.expected {
            return Turn::Gap;
        }
        self.since.get_or_insert(now);
        if packet.number < self.expected {
            return Turn::Repetition;
        }
        self.expected += 1;
        self.unacknowledged += packet.payload.len() + COST;
        self.asked = None;
        Turn::Take
    }

    /// True if RESUME may be sent now, and notes that it is.
    pub(crate) fn may_ask(&mut self, now: Instant) -> bool {
        let again = self.asked.is_none_or(|at| now >= at + Duration::from_millis(RESUME_MILLISECONDS));
        if again {
            self.asked = Some(now);
        }
        again
    }

    /// Returns when an ACK is due.
    #[must_use]
    pub(crate) fn acknowledge_at(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.unacknowledged >= ACK_BYTES {
            since
        } else {
            since + Duration::from_millis(ACK_MILLISECONDS)
        })
    }

    /// Notes that an ACK is being sent.
    pub(crate) fn acknowledged(&mut self) {
        (self.unacknowledged, self.since) = (0, None);
    }
}

impl Default for Receiving {
    fn default() -> Self {
        Self::new()
    }
}
