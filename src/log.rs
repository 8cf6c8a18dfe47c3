//! The only way into the system log: control characters escaped, length bounded, secrets have no way in.

use accounts::text::one_line;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use syslog::{Facility, Formatter3164, LogFormat, Severity};

/// Longest line sent to syslog, in bytes; rsyslog and journald both take 8 KiB.
const MAX_LINE: usize = 2048;
/// How long a line may wait for a logger that doesn't read. While it takes none, no other waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where syslog(3) sends its messages.
const SYSLOG: &str = "/dev/log";

/// A connection to /dev/log, with the words that every line of this process starts with.
pub struct Log {
    context: String,
    formatter: Formatter3164,
    header: Header,
    path: Option<PathBuf>,
    socket: Option<UnixDatagram>,
    /// Lines that nobody took, since the last that somebody did.
    lost: u64,
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
    /// lines are dropped, and their number is told when it is there again: a login must not depend on the logger.
    #[must_use]
    pub fn open(program: &str, context: &str) -> Self {
        Self::with(Some(SYSLOG.into()), program, std::process::id(), context)
    }

    fn with(path: Option<PathBuf>, program: &str, pid: u32, context: &str) -> Self {
        let process = program.to_owned();
        let formatter = Formatter3164 { facility: Facility::LOG_AUTHPRIV, hostname: None, process, pid };
        let (context, header) = (one_line(context), Header::default());
        let mut log = Self { context, formatter, header, path, socket: None, lost: 0 };
        log.connect();
        log
    }

    /// For tests: lines go nowhere.
    #[cfg(test)]
    pub fn discarding() -> Self {
        Self::with(None, "", 0, "")
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
        if self.lost > 0 {
            let lost = self.line(&format!("{} lines were lost: the system log took none", self.lost));
            if !self.deliver(Severity::LOG_WARNING, &lost) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
            self.wait(true);
        }
        let line = self.line(text);
        if !self.deliver(severity, &line) {
            self.lost += 1;
        }
    }

    fn deliver(&mut self, severity: Severity, line: &str) -> bool {
        self.header.renew(&self.formatter, severity);
        let message = [&self.header.bytes, line.as_bytes()].concat();
        match self.send_message(&message) {
            Ok(()) => true,
            // It does not read; another connection would not change that. The next lines do not wait for it.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.wait(false);
                false
            }
            // A logger that was started anew has made a socket anew.
            Err(_) => {
                self.connect();
                self.send_message(&message).is_ok()
            }
        }
    }

    fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.send(message).map(|_| ())
    }

    fn wait(&self, wait: bool) {
        // Without a socket there is nothing to wait for.
        let _ = self.socket.as_ref().map(|socket| socket.set_nonblocking(!wait));
    }

    fn connect(&mut self) {
        self.socket = self.path.as_ref().and_then(|path| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect(path).ok()?;
            socket.set_write_timeout(Some(PATIENCE)).ok()?;
            Some(socket)
        });
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

    fn next(host: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = host.recv(&mut buffer).unwrap();
        std::str::from_utf8(&buffer[..length]).unwrap().to_owned()
    }

    #[test]
    fn a_line_is_bounded() {
        let log = Log::with(None, "program", 7, "user=alice");
        let line = log.line(&"ü".repeat(5000));
        assert!(line.len() <= MAX_LINE + '…'.len_utf8());
    }

    #[test]
    fn each_line_is_a_message_with_its_severity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let mut log = Log::with(Some(path), "program", 7, "user=alice");
        log.info("one\ntwo");
        log.info("three");
        log.warning("four");
        log.error("five");
        for (priority, text) in [("<86>", "one; two"), ("<86>", "three"), ("<84>", "four"), ("<83>", "five")]
        {
            let line = next(&host);
            assert!(line.starts_with(priority), "{line}");
            assert!(line.ends_with(&format!(" program[7]: user=alice {text}")), "{line}");
        }
    }

    #[test]
    fn a_logger_that_is_started_anew_is_found_and_told_what_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let mut log = Log::with(Some(path.clone()), "program", 7, "user=alice");
        log.info("one");
        assert!(next(&host).ends_with(" one"));
        drop(host);
        std::fs::remove_file(&path).unwrap();
        log.info("two");
        log.info("three");
        let host = UnixDatagram::bind(&path).unwrap();
        log.info("four");
        assert!(next(&host).ends_with(" user=alice 2 lines were lost: the system log took none"));
        assert!(next(&host).ends_with(" four"));
    }

    #[test]
    fn a_logger_that_does_not_read_holds_nobody_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let mut log = Log::with(Some(path), "program", 7, "");
        // More than a socket's queue ever holds.
        let mut sent = 0;
        while log.lost == 0 && sent < 100_000 {
            log.info("x");
            sent += 1;
        }
        assert_eq!(log.lost, 1);
        let start = std::time::Instant::now();
        log.info("y");
        assert_eq!(log.lost, 2);
        assert!(start.elapsed() < PATIENCE, "only the first line waits");
        drop(host);
    }
}
