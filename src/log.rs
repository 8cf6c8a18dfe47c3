//! The only way into the system log: control characters escaped, length bounded, secrets have no way in.

use accounts::text::one_line;
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
        Self { context: one_line(context), logger: syslog::unix(formatter).ok() }
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
        let mut line = format!("{} {}", self.context, one_line(text));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded() {
        let log = Log { context: "user=alice".into(), logger: None };
        let line = log.line(&"ü".repeat(5000));
        assert!(line.len() <= MAX_LINE + '…'.len_utf8());
    }
}
