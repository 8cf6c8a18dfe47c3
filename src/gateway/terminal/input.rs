//! Input on its way to one remote terminal: joined to whole characters, and paced.

use server::terminado::echo::EchoWatch;
use server::terminado::pacing::{InputWindow, Unread};
use server::terminado::utf8::Utf8Assembler;
use std::time::{Duration, Instant};

/// Memory kept for waiting input, in bytes.
const KEEP: usize = 16 * 1024;
/// If a paste gets no room for this long, the control terminal is needed: echoes have had their
/// chance.
const NO_ROOM: Duration = Duration::from_millis(30);
/// First and longest pause between two questions about a program that does not read.
const ASK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));
/// Without a control terminal, a paste that gets no room for this long is given up.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Bytes of the window that a paste leaves free, so that a Ctrl-C after it still fits.
const RESERVE: usize = 64;
/// What was typed within this time before a connection broke may be lost with it.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// Input that waits here, or has not been read by the remote program.
#[derive(Default)]
pub struct Input {
    assembler: Utf8Assembler,
    pending: String,
    window: InputWindow,
    echo: EchoWatch,
    no_room_since: Option<Instant>,
    asking: bool,
    ask_at: Option<Instant>,
    ask_wait: Duration,
    typed: Option<Instant>,
}

impl Input {
    /// Takes what the client typed. Half a character waits for its other half, however long that
    /// takes: we may have stopped reading, or a packet was lost. If the other half never comes, the
    /// half becomes U+FFFD when the next key arrives.
    pub fn push(&mut self, bytes: &[u8], now: Instant) {
        self.assembler.push(bytes, &mut self.pending);
        self.typed = Some(now);
    }

    /// True if nothing waits to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Discards what waits to be sent.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// How many bytes were sent since the beginning.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.window.position()
    }

    /// True if the remote program may have unread input.
    #[must_use]
    pub fn may_be_unread(&self) -> bool {
        self.window.unread() > 0
    }

    /// True if a connection that breaks now may lose input.
    #[must_use]
    pub fn is_in_flight(&self, now: Instant) -> bool {
        self.typed.is_some_and(|at| now < at + IN_FLIGHT)
    }

    /// The next piece that may be sent now. Call [`sent`](Self::sent) when it was.
    pub fn piece(&mut self, now: Instant) -> Option<&str> {
        let mut piece = self.window.next_message(&self.pending);
        if piece.len() > RESERVE && self.window.room() < piece.len() + RESERVE {
            piece = "";
        }
        if !piece.is_empty() || self.pending.is_empty() {
            self.no_room_since = None;
        } else {
            self.no_room_since.get_or_insert(now);
        }
        Some(piece).filter(|piece| !piece.is_empty())
    }

    /// Notes that the first `length` bytes were sent.
    pub fn sent(&mut self, length: usize, now: Instant) {
        let Some(piece) = self.pending.get(..length) else { return };
        self.echo.sent(piece, self.window.position());
        self.window.sent(length, now);
        self.pending.drain(..length);
        if self.pending.is_empty() && self.pending.capacity() > KEEP {
            self.pending = String::new();
        }
    }

    /// Takes what the terminal has printed.
    pub fn output(&mut self, text: &str, now: Instant) {
        self.window.output(now);
        if let Some(position) = self.echo.output(text) {
            self.window.echoed(position);
        }
    }

    /// Notes that a ping was answered after this time.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.window.set_round_trip(round_trip);
    }

    /// Gives up a paste that nothing seems to read. Returns the number of bytes that were not sent.
    pub fn give_up(&mut self, now: Instant) -> Option<usize> {
        if self.no_room_since.is_none_or(|at| now < at + GIVE_UP) {
            return None;
        }
        self.no_room_since = None;
        let bytes = self.pending.len();
        self.pending = String::new();
        Some(bytes)
    }

    /// True if input has had no room for so long that the control terminal is needed.
    #[must_use]
    pub fn is_stuck(&self, now: Instant) -> bool {
        self.no_room_since.is_some_and(|at| now >= at + NO_ROOM)
    }

    /// True if it is time to ask the control terminal what is unread. The caller then asks, and
    /// calls [`answered`](Self::answered) or [`unanswered`](Self::unanswered).
    pub fn ask(&mut self, now: Instant) -> bool {
        let ask = self.no_room_since.is_some() && !self.asking && self.ask_at.is_none_or(|at| now >= at);
        self.asking |= ask;
        ask
    }

    /// Takes the control terminal's answer.
    pub fn answered(&mut self, position: u64, unread: Unread, now: Instant) {
        let before = self.window.room();
        self.window.evidence(position, unread);
        self.asking = false;
        let gained = self.window.room() > before;
        self.ask_wait = if gained { ASK.0 } else { (self.ask_wait * 2).clamp(ASK.0, ASK.1) };
        self.ask_at = Some(now + self.ask_wait);
    }

    /// Notes that no answer will come.
    pub fn unanswered(&mut self) {
        self.asking = false;
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let stuck = self.no_room_since.map(|at| at + NO_ROOM);
        let given_up = self.no_room_since.map(|at| at + GIVE_UP);
        let ask = self.ask_at.filter(|_| self.no_room_since.is_some() && !self.asking);
        [stuck, given_up, ask].into_iter().flatten().filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::terminado::pacing::LIMIT;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Sends what may be sent.
    fn take(input: &mut Input, now: Instant) -> String {
        let mut sent = String::new();
        while let Some(piece) = input.piece(now).map(str::to_owned) {
            input.sent(piece.len(), now);
            sent.push_str(&piece);
        }
        sent
    }

    #[test]
    fn half_a_character_waits_for_the_other_half() {
        let (mut input, now) = (Input::default(), Instant::now());
        input.push(b"gr\xc3", now);
        assert_eq!(take(&mut input, now), "gr");
        assert_eq!((input.deadline(now), take(&mut input, now + HOUR).as_str()), (None, ""));
        input.push(b"\xb6\xc3", now + HOUR);
        assert_eq!(take(&mut input, now + HOUR), "ö");
        input.push(b"\x03", now + HOUR);
        assert_eq!(take(&mut input, now + HOUR), "\u{fffd}\u{3}");
    }

    #[test]
    fn a_paste_that_has_to_wait_is_not_damaged() {
        let text = "größe\n".repeat(LIMIT);
        for cut in 0..8 {
            let (mut input, mut now, mut sent) = (Input::default(), Instant::now(), String::new());
            // As a channel reads: only when there is nothing left to send.
            for piece in text.as_bytes()[cut..].chunks(8 * 1024) {
                input.push(piece, now);
                while !input.is_empty() {
                    sent += &take(&mut input, now);
                    now += Duration::from_secs(5);
                    sent += &take(&mut input, now);
                    input.answered(input.position(), Unread::Raw(0), now);
                }
            }
            assert_eq!(sent, String::from_utf8_lossy(&text.as_bytes()[cut..]), "cut at {cut}");
        }
    }
}
