//! Numbers, acknowledgement, repetition: each packet arrives exactly once and in order (docs/mux.md, "Packets"). Pure.

use super::frame::{self, Packet};
use super::protocol::{ACK_BYTES, ACK_MILLISECONDS, LINK_WINDOW, REPEAT_SECONDS, RESUME_MILLISECONDS};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most packets, and most bytes, kept for repetition: input is held back at [`LINK_WINDOW`], what opens and steers streams
/// is not. Whoever lets them grow beyond doesn't acknowledge.
const MAX_KEPT: usize = 16_384;
const MAX_KEPT_BYTES: usize = LINK_WINDOW + (4 << 20);
/// What a packet counts for beside its payload, in bytes.
const COST: usize = 18;

/// A packet that isn't acknowledged yet.
#[derive(Debug)]
struct Kept {
    kind: u8,
    stream: u32,
    part: u8,
    payload: Box<[u8]>,
}

/// What is sent.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Number of the first kept packet.
    base: u64,
    kept: VecDeque<Kept>,
    /// How many of them have been sent since the last repetition.
    sent: usize,
    /// Payload and cost of the kept ones.
    bytes: usize,
    /// Last time that something was acknowledged, or that sending began anew.
    progress: Instant,
    /// Nothing is sent before the other end has said what it has.
    paused: bool,
}

/// The other end acknowledged what was never sent, or acknowledges nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAck;

impl Sending {
    /// Nothing sent yet.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self { base: 0, kept: VecDeque::new(), sent: 0, bytes: 0, progress: now, paused: false }
    }

    /// How many bytes of payload may be queued.
    #[must_use]
    pub(crate) fn room(&self) -> usize {
        LINK_WINDOW.saturating_sub(self.bytes + COST)
    }

    /// Queues a packet. What carries no data is always taken.
    pub(crate) fn queue(&mut self, kind: u8, stream: u32, part: u8, payload: &[u8], now: Instant) {
        if self.kept.is_empty() {
            self.progress = now;
        }
        self.bytes += payload.len() + COST;
        self.kept.push_back(Kept { kind, stream, part, payload: payload.into() });
    }

    /// Is there a packet to be sent now?
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        !self.paused && self.sent < self.kept.len()
    }

    /// The next packet to be sent.
    pub(crate) fn take(&mut self) -> Option<Packet<'_>> {
        if !self.is_ready() {
            return None;
        }
        let number = self.base + self.sent as u64;
        let kept = self.kept.get(self.sent)?;
        self.sent += 1;
        Some(Packet { kind: kept.kind, number, stream: kept.stream, part: kept.part, payload: &kept.payload })
    }

    /// The other end has everything before `number`. Is that progress?
    ///
    /// # Errors
    /// [`BadAck`]
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

    /// Sends nothing until the next acknowledgement, and then everything again.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused = true;
        self.progress = now;
    }

    /// Does the other end still have to say what it has?
    #[must_use]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// When to repeat by ourselves; while paused: when to ask again.
    #[must_use]
    pub(crate) fn repeat_at(&self) -> Option<Instant> {
        (self.paused || self.sent > 0).then(|| self.progress + Duration::from_secs(REPEAT_SECONDS))
    }

    /// Has the other end stopped acknowledging?
    #[must_use]
    pub(crate) fn is_neglected(&self) -> bool {
        self.kept.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES
    }
}

/// What is received.
#[derive(Debug)]
pub(crate) struct Receiving {
    expected: u64,
    /// Payload since the last ACK, and when the first of it came.
    unacknowledged: usize,
    since: Option<Instant>,
    /// RESUME has been sent at that time, without progress since.
    asked: Option<Instant>,
}

/// What to do with a numbered packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is next.
    Take,
    /// It has been before.
    Repetition,
    /// Something is missing.
    Gap,
}

impl Receiving {
    /// Nothing received yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { expected: 0, unacknowledged: 0, since: None, asked: None }
    }

    /// The next number.
    #[must_use]
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Looks at a numbered packet.
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

    /// May RESUME be sent?
    pub(crate) fn may_ask(&mut self, now: Instant) -> bool {
        let again = self.asked.is_none_or(|at| now >= at + Duration::from_millis(RESUME_MILLISECONDS));
        if again {
            self.asked = Some(now);
        }
        again
    }

    /// When an ACK is due.
    #[must_use]
    pub(crate) fn acknowledge_at(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.unacknowledged >= ACK_BYTES {
            since
        } else {
            since + Duration::from_millis(ACK_MILLISECONDS)
        })
    }

    /// An ACK is being sent.
    pub(crate) fn acknowledged(&mut self) {
        (self.unacknowledged, self.since) = (0, None);
    }
}

impl Default for Receiving {
    fn default() -> Self {
        Self::new()
    }
}
