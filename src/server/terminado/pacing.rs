//! How much more may be typed into a terminal. No I/O.
//!
//! **Why there is a limit.** If the user's program ends or is deleted while the server is blocked
//! writing to its tty, the server's main thread waits forever: the user's whole Jupyter server is
//! frozen for good. And while it is blocked, no other terminal of that server gets a keystroke. So
//! at most [`LIMIT`] bytes may be unread, and they are sent in messages of at most `MESSAGE`
//! bytes.
//!
//! **Where the numbers come from.** Linux keeps 4095 bytes in the line discipline and the rest in
//! flip buffers behind it (`tty_buffer.c`; their limit for a pty is 8192, and they hold up to twice
//! that). A kernel thread moves bytes from these to the line discipline. It doesn't wake a writer
//! that found the flip buffers full; only the *reader* does. So one write of 12 KB blocks until the
//! program reads, although there is room for it a moment later. A flip buffer is allocated in the
//! size of the write, so the room depends on that size. Measured with the kernel thread kept from
//! running at all: 18 KB fit in writes of 1024 bytes, at least 11.4 KB in writes of any equal size
//! up to that, and 10.7 KB in larger ones.
//!
//! **What counts as read**, strongest first:
//! 1. [`InputWindow::evidence`]: an answer of the control terminal ([`crate::terminado::control`]).
//! 2. [`InputWindow::echoed`]: typed text seen again in the output ([`crate::terminado::echo`]).
//!    The kernel echoes what enters the line discipline's buffer, not what is read, so up to 4095
//!    bytes before it may still be unread.
//! 3. Typing: a few bytes sent after silence and answered at once by output, time after time. A
//!    user who types for hours at a shell or an editor never needs the first two. Output that comes
//!    anyway (a flood, a clock) is no answer and frees no room. The kernel's echo for a program
//!    that doesn't read looks like an answer, but it stops when the 4095 bytes are full. A rate
//!    limits how many bytes can be answered this way, and large inputs cannot at all.

use common::text::head;
use std::time::{Duration, Instant};

/// The most bytes that may be unread in the remote terminal at any time.
pub const LIMIT: usize = 11 * 1024;
/// The most bytes of UTF-8 in one message of input: the server writes each message to the tty in
/// one piece.
pub(crate) const MESSAGE: usize = 1024;
/// The size of the line discipline's buffer (`N_TTY_BUF_SIZE` - 1).
const LINE_DISCIPLINE: usize = 4095;
/// The most bytes that count as typing; a mouse report or a function key has about 20.
const TYPED: usize = 64;
/// How many typed bytes output can answer: per second, and at once.
const TYPED_RATE: u32 = 64;
/// Output that came so shortly before an input makes the input's answer doubtful.
const SILENCE: Duration = Duration::from_millis(20);
/// Output that comes later than this (and two round trips) after an input doesn't answer it.
const ANSWER: Duration = Duration::from_millis(150);
/// How many inputs in a row must have been answered before answers count.
///
/// A program that prints now and then seems to answer some of them.
const STREAK: u8 = 3;

/// What the control terminal found unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// This many bytes, for a program that reads single characters. 4095 and more mean "at least".
    Raw(usize),
    /// This many bytes of complete lines, for a program that reads lines.
    ///
    /// An incomplete line isn't counted.
    Lines(usize),
}

/// An upper bound of what is unread in one terminal.
#[derive(Debug)]
pub struct InputWindow {
    unread: usize,
    position: u64,
    last_output: Option<Instant>,
    round_trip: Duration,
    /// Bytes typed after silence and not answered yet; `typed_at` is when the first was sent.
    typed: usize,
    typed_at: Option<Instant>,
    streak: u8,
    /// How many typed bytes can be answered now, in thousandths of a byte.
    allowance: u32,
    allowance_at: Option<Instant>,
}

impl Default for InputWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl InputWindow {
    /// Returns the window of a new terminal.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            unread: 0,
            position: 0,
            last_output: None,
            round_trip: Duration::ZERO,
            typed: 0,
            typed_at: None,
            streak: 0,
            allowance: TYPED_RATE * 1000,
            allowance_at: None,
        }
    }

    /// Returns how many bytes of UTF-8 may be sent now, in messages of at most `MESSAGE` bytes.
    #[must_use]
    pub fn room(&self) -> usize {
        LIMIT.saturating_sub(self.unread)
    }

    /// Returns the beginning of `text` that can be sent as the next message, cut at a character.
    ///
    /// It is empty if evidence must come first, or if the part would be small only because there is
    /// little room: a paste is not to go out in crumbs.
    #[must_use]
    pub fn next_message<'a>(&self, text: &'a str) -> &'a str {
        if self.room() < MESSAGE.min(text.len()) {
            return "";
        }
        head(text, MESSAGE)
    }

    /// Returns an upper bound of the bytes that are unread.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// Returns how many bytes were ever sent.
    ///
    /// Put the number into the ping that follows an input. When its pong has come, ask the control
    /// terminal with this number, and pass the answer to [`evidence`](Self::evidence).
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Counts `bytes` as sent. The caller sends no more than [`room`](Self::room).
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        self.unread = self.unread.saturating_add(bytes);
        self.position += bytes as u64;
        let silent = self.last_output.is_none_or(|at| now.saturating_duration_since(at) >= SILENCE);
        if self.typed_at.is_some_and(|at| self.is_late(at, now)) {
            self.unanswered();
        }
        if bytes > TYPED {
            (self.typed, self.typed_at) = (0, None);
        } else if silent || self.typed_at.is_some() {
            self.typed = (self.typed + bytes).min(TYPED);
            self.typed_at.get_or_insert(now);
        }
    }

    /// Sets how long a ping takes at present.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.min(Duration::from_secs(1));
    }

    fn is_late(&self, typed_at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(typed_at) > ANSWER + 2 * self.round_trip
    }

    fn unanswered(&mut self) {
        self.typed = 0;
        self.typed_at = None;
        self.streak = 0;
    }

    /// Notes that the terminal has put something out.
    pub fn output(&mut self, now: Instant) {
        self.last_output = Some(now);
        let Some(typed_at) = self.typed_at else { return };
        if self.is_late(typed_at, now) {
            return self.unanswered();
        }
        self.typed_at = None;
        let typed = std::mem::take(&mut self.typed);
        self.streak = self.streak.saturating_add(1);
        if self.streak <= STREAK {
            return;
        }
        let elapsed = self.allowance_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let gained = u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX).saturating_mul(TYPED_RATE);
        self.allowance = self.allowance.saturating_add(gained).min(TYPED_RATE * 1000);
        self.allowance_at = Some(now);
        let answered = typed.min(self.allowance as usize / 1000).min(self.unread);
        self.allowance -= answered as u32 * 1000;
        self.unread -= answered;
    }

    /// Takes the control terminal's answer to a question about `position`.
    ///
    /// When it was asked, everything up to `position` was known to be in the tty.
    ///
    /// A full buffer says nothing about what is behind it. In canonical mode with only an
    /// incomplete line, the line discipline takes everything (and drops what exceeds its buffer),
    /// so nothing is behind it.
    pub fn evidence(&mut self, position: u64, unread: Unread) {
        let known = match unread {
            Unread::Raw(n) if n < LINE_DISCIPLINE => n,
            Unread::Lines(0) => LINE_DISCIPLINE,
            Unread::Raw(_) | Unread::Lines(_) => return,
        };
        self.at_most(position, known);
    }

    /// Notes that text typed up to `position` was seen again in the output.
    pub fn echoed(&mut self, position: u64) {
        self.at_most(position, LINE_DISCIPLINE);
    }

    fn at_most(&mut self, position: u64, known: usize) {
        // What was sent since may be unread, too.
        let since = usize::try_from(self.position.saturating_sub(position)).unwrap_or(usize::MAX);
        self.unread = self.unread.min(known.saturating_add(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn typing_for_hours_needs_no_evidence() {
        let (mut window, mut now) = (InputWindow::new(), Instant::now());
        for _ in 0..100_000 {
            window.sent(1, now);
            window.output(now + ms(2));
            now += ms(120);
        }
        assert_eq!(window.unread(), usize::from(STREAK));
        // A key held down, three bytes 30 times a second for a minute; then a pause and single
        // keys.
        for _ in 0..1800 {
            window.sent(3, now);
            window.output(now + ms(2));
            now += ms(33);
        }
        assert!(window.unread() < 2200, "{}", window.unread());
    }

    #[test]
    fn a_paste_waits_for_evidence() {
        let (mut window, now) = (InputWindow::new(), Instant::now());
        window.sent(LIMIT, now);
        assert_eq!(window.room(), 0);
        for second in 0..3600 {
            window.output(now + ms(1000 * second));
        }
        assert_eq!(window.room(), 0);
        window.evidence(window.position(), Unread::Raw(4095));
        assert_eq!(window.room(), 0);
        window.evidence(window.position(), Unread::Raw(100));
        assert_eq!(window.room(), LIMIT - 100);
        window.sent(1000, now);
        window.evidence(window.position() - 1000, Unread::Raw(0));
        assert_eq!(window.unread(), 1000);
        window.evidence(window.position(), Unread::Raw(0));
        assert_eq!(window.unread(), 0);
    }

    #[test]
    fn lines_are_no_exact_count() {
        let (mut window, now) = (InputWindow::new(), Instant::now());
        window.sent(10_000, now);
        assert_eq!(window.next_message(&"é".repeat(9)), "é".repeat(9));
        assert_eq!(window.next_message(&"€".repeat(900)).len(), 1023);
        window.evidence(10_000, Unread::Lines(50));
        assert_eq!(window.unread(), 10_000);
        window.evidence(10_000, Unread::Lines(0));
        assert_eq!(window.unread(), 4095);
        window.sent(100, now);
        window.echoed(10_050);
        assert_eq!(window.unread(), 4145);
    }

    #[test]
    fn a_flood_answers_nothing() {
        let (mut window, mut now) = (InputWindow::new(), Instant::now());
        let mut sent = 0;
        for _ in 0..1_000_000 {
            window.output(now);
            now += ms(1);
            let bytes = window.room().min(10);
            window.sent(bytes, now);
            sent += bytes;
        }
        assert_eq!(sent, LIMIT);
    }

    #[test]
    fn typing_at_a_program_that_prints_now_and_then() {
        // `watch`, once a second, never reads: raw mode without echo, a key held down for ten
        // minutes.
        let (mut window, start) = (InputWindow::new(), Instant::now());
        let mut sent = 0;
        for tick in 0..18_000_u64 {
            let now = start + ms(33 * tick);
            if tick % 30 == 0 {
                window.output(now - ms(1));
            }
            if window.room() > 0 {
                window.sent(1, now);
                sent += 1;
            }
        }
        assert_eq!(sent, LIMIT);
    }

    proptest! {
        /// A model of a tty: exact answers at any time never let more than LIMIT be unread.
        #[test]
        fn never_more_than_the_limit(steps in proptest::collection::vec((0..4_u8, 0..20_000_usize), 0..200)) {
            let (mut window, now) = (InputWindow::new(), Instant::now());
            let (mut real, mut asked) = (0_usize, Vec::new());
            for (step, n) in steps {
                match step {
                    0 => {
                        let bytes = n.min(window.room());
                        window.sent(bytes, now);
                        real += bytes;
                    }
                    1 => real -= real.min(n),
                    2 => asked.push((window.position(), real)),
                    _ => if let Some((position, unread)) = asked.pop() {
                        window.evidence(position, Unread::Raw(unread.min(LINE_DISCIPLINE)));
                    },
                }
                prop_assert!(real <= window.unread() && window.unread() <= LIMIT);
            }
        }
    }
}
