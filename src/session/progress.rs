//! The line that tells the user how the start of the server goes.

use std::time::{Duration, Instant};

/// A start shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(1);

/// Removes the progress line before the terminal is handed over or a message is shown.
const ERASE: &str = "\r\x1b[K";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// On a terminal: one line that is rewritten.
    Rewritten,
    /// Without a terminal: one line for each message.
    Lines,
    /// Not at all.
    Silent,
}

/// The progress of a starting server, and what of it is on the screen.
pub struct Waiting {
    style: Style,
    since: Instant,
    latest: String,
    changed: bool,
    shown: bool,
}

impl Waiting {
    /// Begins at `now`.
    pub fn new(style: Style, now: Instant) -> Self {
        Self { style, since: now, latest: String::new(), changed: false, shown: false }
    }

    /// Takes a message, which is printable already.
    pub fn heard(&mut self, percent: Option<u8>, message: &str) {
        let text = text(percent, message);
        self.changed |= text != self.latest && self.style != Style::Silent;
        self.latest = text;
    }

    /// How long until there is something to show; `None` if nothing waits to be shown.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        // One millisecond more than the quiet time, so that poll(2)'s rounding does not wake us
        // early.
        let quiet = QUIET + Duration::from_millis(1);
        self.changed.then(|| quiet.saturating_sub(now.saturating_duration_since(self.since)))
    }

    /// What to show now, in a window of `cols` columns.
    pub fn show(&mut self, cols: u16, now: Instant) -> Option<String> {
        if !self.changed || now.saturating_duration_since(self.since) < QUIET {
            return None;
        }
        (self.changed, self.shown) = (false, true);
        match self.style {
            Style::Rewritten => Some(rewritten(&self.latest, cols)),
            Style::Lines => Some(format!("{}\n", self.latest)),
            Style::Silent => None,
        }
    }

    /// Ends the wait: what removes the line, if one is shown.
    pub fn end(&mut self) -> Option<&'static str> {
        (self.changed, self.latest) = (false, String::new());
        let shown = std::mem::take(&mut self.shown);
        (shown && self.style == Style::Rewritten).then_some(ERASE)
    }
}

fn text(percent: Option<u8>, message: &str) -> String {
    let percent = percent.map(|percent| format!(" {}%", percent.min(100))).unwrap_or_default();
    let gap = if message.is_empty() { "" } else { " " };
    format!("Starting your server:{percent}{gap}{message}")
}

/// Keeps the line shorter than the window: a carriage return cannot rewrite a wrapped line.
fn rewritten(text: &str, cols: u16) -> String {
    let room = usize::from(cols).saturating_sub(1);
    let shown: String = if text.chars().count() > room {
        text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    // ECMA-48 EL: erase to the end of the line.
    format!("\r{shown}\x1b[K")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(percent: Option<u8>, message: &str, cols: u16) -> String {
        rewritten(&text(percent, message), cols)
    }

    #[test]
    fn a_line_fits_its_window() {
        assert_eq!(line(Some(10), "pulling image", 80), "\rStarting your server: 10% pulling image\x1b[K");
        assert_eq!(line(Some(200), "", 80), "\rStarting your server: 100%\x1b[K");
        let narrow = line(Some(50), &"ü".repeat(200), 40);
        assert_eq!(narrow.chars().count(), 39 + 1 + 3);
        assert_eq!(line(None, "x", 0), "\r…\x1b[K");
    }

    #[test]
    fn the_first_second_is_quiet() {
        let start = Instant::now();
        for (style, expected) in [
            (Style::Rewritten, Some("\rStarting your server: 50% b\x1b[K")),
            (Style::Lines, Some("Starting your server: 50% b\n")),
            (Style::Silent, None),
        ] {
            let mut waiting = Waiting::new(style, start);
            assert_eq!(waiting.due(start), None);
            waiting.heard(Some(10), "a");
            waiting.heard(Some(50), "b");
            let early = start + Duration::from_millis(400);
            assert_eq!(waiting.show(80, early), None);
            let due = waiting.due(early);
            assert_eq!(due, expected.map(|_| Duration::from_millis(601)));
            assert_eq!(waiting.show(80, early + Duration::from_millis(601)).as_deref(), expected);
        }
    }

    #[test]
    fn nothing_is_said_twice_and_only_what_rewrites_is_erased() {
        let start = Instant::now();
        let late = start + QUIET;
        for (style, erased) in [(Style::Rewritten, Some(ERASE)), (Style::Lines, None)] {
            let mut waiting = Waiting::new(style, start);
            assert_eq!(waiting.end(), None);
            waiting.heard(None, "a");
            assert!(waiting.show(80, late).is_some());
            waiting.heard(None, "a");
            assert_eq!((waiting.due(late), waiting.show(80, late)), (None, None));
            waiting.heard(None, "b");
            assert_eq!(waiting.end(), erased);
            assert_eq!((waiting.due(late), waiting.show(80, late), waiting.end()), (None, None, None));
        }
    }
}
