//! The line that tells the user how far the start of the server is.

use std::time::Duration;

/// Nothing is shown of a start that takes less than this.
pub const QUIET: Duration = Duration::from_secs(1);

/// Renders the hub's progress for a terminal that is `cols` wide: one line that rewrites itself.
///
/// `message` is already printable. The line stays shorter than the window, because a wrapped line could not
/// be rewritten with a carriage return.
#[must_use]
pub fn line(percent: Option<u8>, message: &str, cols: u16) -> String {
    let percent = percent.map(|percent| format!(" {}%", percent.min(100))).unwrap_or_default();
    let gap = if message.is_empty() { "" } else { " " };
    let text = format!("Starting your server:{percent}{gap}{message}");
    let room = usize::from(cols).saturating_sub(1);
    let shown: String = if text.chars().count() > room {
        text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        text
    };
    // ECMA-48 EL: erase to the end of the line.
    format!("\r{shown}\x1b[K")
}

/// Takes the progress line away before the terminal is handed over or a message is shown.
pub const ERASE: &str = "\r\x1b[K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_its_window() {
        assert_eq!(line(Some(10), "pulling image", 80), "\rStarting your server: 10% pulling image\x1b[K");
        assert_eq!(line(Some(200), "", 80), "\rStarting your server: 100%\x1b[K");
        let narrow = line(Some(50), &"ü".repeat(200), 40);
        assert_eq!(narrow.chars().count(), 39 + 1 + 3);
        assert_eq!(line(None, "x", 0), "\r…\x1b[K");
    }
}
