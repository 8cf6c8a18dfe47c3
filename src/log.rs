//! The only way into the system log: control characters escaped, length bounded, secrets have no way in.

use accounts::text::one_line;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use syslog::{Facility, Formatter3164, LogFormat, Logger, LoggerBackend, Severity};

/// Longest line sent to syslog, in bytes; rsyslog and journald both take 8 KiB.
const MAX_LINE: usize = 2048;

/// A connection to /dev/log, with the words that every line of this process starts with.
pub struct Log {
    context: String,
    logger: Option<Logger<LoggerBackend, Formatter3164>>,
    header: Header,
}

/// What stands before the text: `<86>Nov 21 23:04:03 jupyterhub-openssh[4711]: `. Kept for as long as it is right,
/// because making it costs more than everything else of a line, and transfers of files log thousands of them.
#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
    made: Option<(u64, u8)>,
}

impl Header {
    fn renew(&mut self, formatter: &Formatter3164, severity: Severity) {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wanted = Some((second, severity as u8));
        if self.made != wanted {
            self.bytes.clear();
            let done = formatter.format(&mut self.bytes, severity, "");
            self.made = wanted.filter(|_| done.is_ok());
        }
    }
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
        Self::with(syslog::unix(formatter).ok(), context)
    }

    fn with(logger: Option<Logger<LoggerBackend, Formatter3164>>, context: &str) -> Self {
        Self { context: one_line(context), logger, header: Header::default() }
    }

    /// For tests: lines go nowhere.
    #[cfg(test)]
    pub fn discarding() -> Self {
        Self::with(None, "")
    }

    /// An event that an administrator wants to see in the ordinary course of things.
    pub fn info(&mut self, text: &str) {
        self.send(Severity::LOG_INFO, text);
    }

    /// Something that an administrator should look at.
    pub fn warning(&mut self, text: &str) {
        self.send(Severity::LOG_WARNING, text);
    }

    /// Something that keeps users out until an administrator mends it.
    pub fn error(&mut self, text: &str) {
        self.send(Severity::LOG_ERR, text);
    }

    fn send(&mut self, severity: Severity, text: &str) {
        let line = self.line(text);
        if let Some(logger) = &mut self.logger {
            self.header.renew(&logger.formatter, severity);
            // The backend sends each write as a message of its own.
            let _ = logger.backend.write(&[&self.header.bytes, line.as_bytes()].concat());
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_line_is_bounded() {
        let log = Log::with(None, "user=alice");
        let line = log.line(&"ü".repeat(5000));
        assert!(line.len() <= MAX_LINE + '…'.len_utf8());
    }

    #[test]
    fn each_line_is_a_message_with_its_severity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let formatter = Formatter3164 {
            facility: Facility::LOG_AUTHPRIV,
            hostname: None,
            process: "program".to_owned(),
            pid: 7,
        };
        let mut log = Log::with(syslog::unix_custom(formatter, &path).ok(), "user=alice");
        log.info("one\ntwo");
        log.info("three");
        log.warning("four");
        log.error("five");
        for (priority, text) in [("<86>", "one; two"), ("<86>", "three"), ("<84>", "four"), ("<83>", "five")]
        {
            let mut buffer = [0; 200];
            let length = host.recv(&mut buffer).unwrap();
            let line = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(line.starts_with(priority), "{line}");
            assert!(line.ends_with(&format!(" program[7]: user=alice {text}")), "{line}");
        }
    }
}
