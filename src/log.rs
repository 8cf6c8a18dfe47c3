//! The only way into the system log: control characters escaped, length bounded, secrets have no way in.

use std::fmt::Write as _;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// Longest line sent to syslog, in bytes; rsyslog and journald both take 8 KiB.
const MAX_LINE: usize = 2048;

/// A connection to /dev/log, with the words that every line of this process starts with.
pub struct Log {
    context: String,
    logger: Option<Logger<LoggerBackend, Formatter3164>>,
}

impl Log {
    /// Connects to syslog(3)'s socket as `program`, facility `authpriv` (where sshd and PAM log).
    ///
    /// `context` starts every line, such as `user=alice rhost=192.0.2.7`. Without a reachable syslog the
    /// lines are dropped: a login must not depend on the logger.
    #[must_use]
    pub fn open(program: &str, context: &str) -> Self {
        let formatter = Formatter3164 {
            facility: Facility::LOG_AUTHPRIV,
            hostname: None,
            process: program.to_owned(),
            pid: std::process::id(),
        };
        Self { context: printable(context), logger: syslog::unix(formatter).ok() }
    }

    /// An event that an administrator wants to see in the ordinary course of things.
    pub fn info(&mut self, text: &str) {
        let line = self.line(text);
        if let Some(logger) = &mut self.logger {
            let _ = logger.info(line);
        }
    }

    /// Something that an administrator should look at.
    pub fn warning(&mut self, text: &str) {
        let line = self.line(text);
        if let Some(logger) = &mut self.logger {
            let _ = logger.warning(line);
        }
    }

    /// Something that keeps users out until an administrator mends it.
    pub fn error(&mut self, text: &str) {
        let line = self.line(text);
        if let Some(logger) = &mut self.logger {
            let _ = logger.err(line);
        }
    }

    fn line(&self, text: &str) -> String {
        let mut line = format!("{} {}", self.context, printable(text));
        if line.len() > MAX_LINE {
            let mut end = MAX_LINE;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push('…');
        }
        line
    }
}

/// Makes text from outside safe to log or show: a line break becomes `; `, every other control character
/// (C0, DEL, C1) and every character that reorders text (Unicode bidirectional controls) is escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => out.push_str("; "),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_stays_on_its_line() {
        assert_eq!(printable("a\nb\r\x1b[31m\u{9b}x\u{7f}\0"), "a; b\\x0d\\x1b[31m\\x9bx\\x7f\\x00");
        assert_eq!(printable("evil\u{202e}txt"), "evil\\u{202e}txt");
        assert_eq!(printable("grüße 😀\n"), "grüße 😀");
    }

    #[test]
    fn a_line_is_bounded() {
        let log = Log { context: "user=alice".into(), logger: None };
        let line = log.line(&"ü".repeat(5000));
        assert!(line.len() <= MAX_LINE + '…'.len_utf8());
    }
}
