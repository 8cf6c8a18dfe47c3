//! Output of one remote terminal on its way to the client: removes markers, cuts replays, and skips
//! floods.

use crate::output::{HIGH, LOW, Output};
use server::terminado::marker::{Marker, MarkerFilter, TtyPath};
use server::terminado::replay::{ReceivedTail, Replay};
use server::terminado::shell::Nonce;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A client that does not catch up for this long is slow: the program should be suspended.
const SLOW: Duration = Duration::from_millis(20);
/// The beginning of what looks like a marker is passed on after this time.
const HELD: Duration = Duration::from_millis(50);
/// With this much output on its way, Ctrl-C skips it.
const FLOOD: usize = 64 * 1024;
/// Longest line that is still shown after a skip, in bytes; a prompt is shorter.
const LINE: usize = 4096;

/// Output that is not shown.
#[derive(Default)]
struct Skipped {
    bytes: usize,
    /// Its last line so far: the shell's prompt may be among what is skipped.
    line: String,
}

impl Skipped {
    fn push(&mut self, text: &str) {
        self.bytes += text.len();
        if let Some((_, rest)) = text.rsplit_once('\n') {
            self.line.clear();
            self.line.push_str(rest);
        } else {
            self.line.push_str(text);
        }
        if self.line.len() > LINE {
            self.line.clear();
        }
    }
}

/// Output that waits for the client.
pub struct Screen {
    output: Output,
    filter: Option<MarkerFilter>,
    held_since: Option<Instant>,
    tail: ReceivedTail,
    resuming: bool,
    full_since: Option<Instant>,
    /// What was not shown since Ctrl-C.
    skipped: Option<Skipped>,
    discard: bool,
    tty: Option<TtyPath>,
    status: Option<u8>,
}

impl Screen {
    /// The output of a new terminal; `nonce` is that of the wrapper in it, if one was asked for.
    #[must_use]
    pub fn new(nonce: Option<&Nonce>) -> Self {
        Self {
            output: Output::default(),
            filter: nonce.map(MarkerFilter::new),
            held_since: None,
            tail: ReceivedTail::new(),
            resuming: false,
            full_since: None,
            skipped: None,
            discard: false,
            tty: None,
            status: None,
        }
    }

    /// Where the wrapper runs, if it has said so.
    #[must_use]
    pub fn tty(&self) -> Option<&TtyPath> {
        self.tty.as_ref()
    }

    /// How the shell ended, if the wrapper has said so.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        self.status
    }

    /// True if more may be read from the server.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.discard || self.skipped.is_some() || self.output.len() < HIGH
    }

    /// True if something waits for the client.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.output.is_empty()
    }

    /// True if the client is so slow that the program should be suspended.
    #[must_use]
    pub fn is_slow(&self, now: Instant) -> bool {
        self.full_since.is_some_and(|at| now >= at + SLOW)
    }

    /// True if the client has caught up.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.output.len() < LOW
    }

    /// Shows a message on a line of its own.
    pub fn notice(&mut self, text: &str) {
        self.output.push(format!("\r\n[jupyterhub-openssh: {text}]\r\n").as_bytes());
    }

    /// Shows nothing from here on: the client is gone, and the terminal is being closed.
    pub fn discard(&mut self) {
        self.discard = true;
        (self.full_since, self.held_since) = (None, None);
        self.output.clear();
    }

    /// Notes that the next output is a replay.
    pub fn resume(&mut self) {
        self.resuming = true;
    }

    /// Takes what the terminal has printed. Returns the part that is new.
    pub fn print<'a>(&mut self, text: &'a str, now: Instant) -> &'a str {
        let (new, warning) = if std::mem::take(&mut self.resuming) {
            match self.tail.resume(text) {
                Replay::New(new) => (new, None),
                Replay::Ambiguous(new) => (new, Some("some output may be missing here")),
                Replay::Gap(all) => (all, Some("some output is missing here, or shown twice")),
            }
        } else {
            (text, None)
        };
        self.tail.push(new);
        let mut markers = Vec::new();
        let shown = match &mut self.filter {
            Some(filter) => filter.push(new, &mut markers),
            None => new.into(),
        };
        if let Some(skipped) = &mut self.skipped {
            skipped.push(&shown);
        } else if !self.discard {
            if let Some(warning) = warning {
                self.notice(warning);
            }
            self.output.push(shown.as_bytes());
            if self.output.len() >= HIGH {
                self.full_since.get_or_insert(now);
            }
        }
        for marker in markers {
            match marker {
                Marker::Tty(tty) => self.tty = tty,
                Marker::Exit(status) => self.status = Some(status),
            }
        }
        let holding = !self.discard && self.filter.as_ref().is_some_and(MarkerFilter::is_holding);
        self.held_since = holding.then_some(now);
        new
    }

    /// Passes on what was held back as a possible marker, because nothing more comes for a while.
    pub fn flush_held(&mut self) {
        self.held_since = None;
        let held = self.filter.as_mut().map(MarkerFilter::flush).unwrap_or_default();
        if !self.discard {
            self.output.push(held.as_bytes());
        }
    }

    /// Notes that Ctrl-C was typed. Returns true if so much output is on its way that it will be
    /// skipped until [`end_skip`](Self::end_skip).
    pub fn interrupt(&mut self, suspended: bool) -> bool {
        if self.output.len() < FLOOD && !suspended {
            return false;
        }
        self.skipped.get_or_insert_default().bytes += self.output.clear();
        self.full_since = None;
        true
    }

    /// Ends the skip: everything printed before Ctrl-C has arrived. Tells the user how much that
    /// was.
    pub fn end_skip(&mut self) {
        if let Some(Skipped { bytes, line }) = self.skipped.take() {
            // CAN (ECMA-48, 8.3.6) ends an escape sequence that was cut in half, SGR 0 its colours.
            // The echo of Ctrl-C was skipped as well.
            self.output.push(b"\x18\x1b[0m^C");
            self.notice(&format!("{} of output skipped", size(bytes)));
            self.output.push(line.as_bytes());
        }
    }

    /// Writes to the client what it takes, and returns the number of bytes.
    ///
    /// # Errors
    /// The client's terminal is gone.
    pub fn write_to(&mut self, client: &mut impl Write, now: Instant) -> io::Result<usize> {
        if self.held_since.is_some_and(|at| now >= at + HELD) {
            self.flush_held();
        }
        let before = self.output.len();
        self.output.write_to(client)?;
        if self.output.len() < HIGH {
            self.full_since = None;
        }
        Ok(before - self.output.len())
    }

    /// When to look at it again after `now`, apart from events.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let held = self.held_since.map(|at| at + HELD);
        let slow = self.full_since.map(|at| at + SLOW);
        held.into_iter().chain(slow).filter(|at| *at > now).min()
    }
}

/// Formats a number of bytes for people.
fn size(bytes: usize) -> String {
    if bytes < 1 << 20 {
        format!("{} KB", bytes.div_ceil(1024))
    } else {
        format!("{} MB", bytes.div_ceil(1 << 20))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(screen: &mut Screen) -> String {
        let mut client = Vec::new();
        screen.write_to(&mut client, Instant::now()).unwrap();
        String::from_utf8(client).unwrap()
    }

    #[test]
    fn a_flood_is_skipped_at_ctrl_c_and_said_so() {
        let (mut screen, now) = (Screen::new(None), Instant::now());
        screen.print("few", now);
        assert!(!screen.interrupt(false));
        screen.print(&"y\n".repeat(100 * 1024), now);
        assert!(screen.interrupt(false));
        screen.print(&"y\n".repeat(1024), now);
        screen.print("^C\r\nalice", now);
        screen.print("@hub$", now);
        assert!(screen.has_room());
        screen.end_skip();
        screen.print(" ", now);
        assert_eq!(
            shown(&mut screen),
            "\x18\x1b[0m^C\r\n[jupyterhub-openssh: 203 KB of output skipped]\r\nalice@hub$ "
        );
    }

    #[test]
    fn a_slow_client_is_noticed_and_stops_the_reading() {
        let (mut screen, now) = (Screen::new(None), Instant::now());
        assert!(screen.has_room() && !screen.is_slow(now));
        screen.print(&"x".repeat(HIGH), now);
        assert!(!screen.has_room() && !screen.is_slow(now) && screen.is_slow(now + SLOW));
        assert_eq!(shown(&mut screen).len(), HIGH);
        assert!(screen.has_room() && !screen.is_slow(now + SLOW) && screen.has_caught_up());
    }

    #[test]
    fn a_replay_is_cut() {
        let (mut screen, now) = (Screen::new(None), Instant::now());
        screen.print("one two three four five six seven eight ", now);
        screen.resume();
        assert_eq!(screen.print("one two three four five six seven eight nine", now), "nine");
        assert_eq!(shown(&mut screen), "one two three four five six seven eight nine");
    }

    #[test]
    fn nothing_is_shown_after_the_end() {
        let mut screen = Screen::new(None);
        screen.print("x", Instant::now());
        screen.discard();
        screen.print(&"y".repeat(2 * HIGH), Instant::now());
        assert!(screen.has_room());
        assert_eq!(shown(&mut screen), "");
    }
}
