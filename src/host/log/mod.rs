//! The only way into the system log: lines of `key=value`, limited in length, in which no value can
//! forge a field or a line, and which cannot contain secrets. Lines go to journald with fields of
//! its own, or else to /dev/log.

mod journal;

pub use common::logfmt::{Event, Line};
use common::logfmt::{cut, fields};
use common::paths::OWN_LOG_SOCKET;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use syslog::{Facility, Formatter3164, LogFormat, Severity};

/// Longest line sent to syslog, in bytes; rsyslog and journald both accept 8 KiB.
const MAX_LINE: usize = 2048;
/// How long a line may wait for a logger that doesn't read. Until the logger reads again, further
/// lines don't wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// The socket of syslog(3).
const SYSLOG: &str = "/dev/log";

/// A connection to the logger, with the fields that start every line of this process.
pub struct Log {
    /// Those fields as text: `session=1a2b3c4d user=alice peer=192.0.2.7`.
    context: String,
    /// Those fields one by one.
    fields: Vec<(&'static str, String)>,
    formatter: Formatter3164,
    header: Header,
    paths: Paths,
    socket: Option<UnixDatagram>,
    /// Whether the socket is journald's own.
    native: bool,
    /// Number of lines dropped since the last delivered one.
    lost: u64,
}

/// The sockets on which loggers listen, in order of preference.
#[derive(Default)]
struct Paths {
    journal: Option<PathBuf>,
    syslog: Option<PathBuf>,
    /// The socket to use if neither exists and this process doesn't belong to a root bastion.
    own: Option<PathBuf>,
}

/// The prefix of a line: `<86>Nov 21 23:04:03 jupyterhub-openssh[4711]: `. Cached while it is
/// current, because making it costs more than the rest of a line, and file transfers log thousands
/// of lines.
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

/// Where lines would be accepted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// journald, on its own socket: it receives only our programs' lines.
    pub journal: bool,
    /// `/dev/log` or, where sshd doesn't run as root, the socket in its place. It receives the
    /// lines of sshd and the modules, and ours if there is no journald.
    pub syslog: bool,
}

/// Finds out which loggers listen, without sending a line.
#[must_use]
pub fn listening() -> Listening {
    let takes = |path: &str| UnixDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok());
    let own = !nix::unistd::geteuid().is_root() && takes(OWN_LOG_SOCKET);
    Listening { journal: takes(journal::SOCKET), syslog: takes(SYSLOG) || own }
}

impl Log {
    /// Connects to the system's logger as `program`, with facility `authpriv` (the same as sshd and
    /// PAM).
    ///
    /// `context` starts every line. While no logger can be reached, lines are dropped, and their
    /// number is reported when one is back: a login must not depend on the logger.
    #[must_use]
    pub fn open(program: &str, context: &[(&'static str, &str)]) -> Self {
        let own = (!nix::unistd::geteuid().is_root()).then(|| OWN_LOG_SOCKET.into());
        let paths = Paths { journal: Some(journal::SOCKET.into()), syslog: Some(SYSLOG.into()), own };
        Self::with(paths, program, std::process::id(), context)
    }

    fn with(paths: Paths, program: &str, pid: u32, context: &[(&'static str, &str)]) -> Self {
        let process = program.to_owned();
        let formatter = Formatter3164 { facility: Facility::LOG_AUTHPRIV, hostname: None, process, pid };
        let mut log = Self {
            context: fields(context),
            fields: context.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            formatter,
            header: Header::default(),
            paths,
            socket: None,
            native: false,
            lost: 0,
        };
        log.connect();
        log
    }

    /// For tests: drops all lines.
    #[cfg(any(test, feature = "testing"))]
    pub fn discarding() -> Self {
        Self::with(Paths::default(), "", 0, &[])
    }

    /// For tests: sends lines to the logger at a path.
    #[cfg(any(test, feature = "testing"))]
    pub fn at(path: &std::path::Path) -> Self {
        Self::with(Paths { syslog: Some(path.to_owned()), ..Paths::default() }, "", 0, &[])
    }

    /// Logs an ordinary event that an administrator wants to see.
    pub fn info(&mut self, line: Line) {
        self.send(Severity::LOG_INFO, line);
    }

    /// Logs something that an administrator should look at.
    pub fn warning(&mut self, line: Line) {
        self.send(Severity::LOG_WARNING, line);
    }

    /// Logs a fault that keeps users out until an administrator fixes it.
    pub fn error(&mut self, line: Line) {
        self.send(Severity::LOG_ERR, line);
    }

    fn send(&mut self, severity: Severity, line: Line) {
        if self.lost > 0 {
            let lost = Line::new(Event::Lost).with("lines", self.lost);
            if !self.deliver(Severity::LOG_WARNING, &lost) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
            self.wait(true);
        }
        if !self.deliver(severity, &line) {
            self.lost += 1;
        }
    }

    fn deliver(&mut self, severity: Severity, line: &Line) -> bool {
        let message = self.message(severity, line);
        match self.send_message(&message) {
            Ok(()) => true,
            // The logger doesn't read, and reconnecting would not change that. Further lines don't
            // wait for it.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.wait(false);
                false
            }
            // A restarted logger has a new socket; it may also be another logger.
            Err(_) => {
                self.connect();
                let message = self.message(severity, line);
                self.send_message(&message).is_ok()
            }
        }
    }

    /// Formats the datagram that this logger expects.
    fn message(&mut self, severity: Severity, line: &Line) -> Vec<u8> {
        let text = self.line(line);
        if self.native {
            let event = [("event", line.event().as_str())];
            let own = self.fields.iter().map(|(key, value)| (*key, value.as_str()));
            let fields: Vec<_> = own.chain(event).collect();
            return journal::datagram(&self.formatter.process, self.formatter.pid, severity, &fields, &text);
        }
        self.header.renew(&self.formatter, severity);
        [&self.header.bytes, text.as_bytes()].concat()
    }

    fn send_message(&self, message: &[u8]) -> io::Result<()> {
        self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.send(message).map(|_| ())
    }

    fn wait(&self, wait: bool) {
        // Without a socket there is nothing to wait for.
        let _ = self.socket.as_ref().map(|socket| socket.set_nonblocking(!wait));
    }

    fn connect(&mut self) {
        let open = |path: &Option<PathBuf>| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect(path.as_ref()?).ok()?;
            socket.set_write_timeout(Some(PATIENCE)).ok()?;
            Some(socket)
        };
        let journal = open(&self.paths.journal);
        self.native = journal.is_some();
        self.socket = journal.or_else(|| open(&self.paths.syslog)).or_else(|| open(&self.paths.own));
    }

    fn line(&self, line: &Line) -> String {
        let space = if self.context.is_empty() { "" } else { " " };
        cut(format!("{}{space}{line}", self.context), MAX_LINE)
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

    const ALICE: &[(&str, &str)] = &[("user", "alice")];

    fn syslog(path: &std::path::Path) -> Log {
        let paths = Paths { syslog: Some(path.to_owned()), ..Paths::default() };
        Log::with(paths, "program", 7, ALICE)
    }

    fn line(text: &str) -> Line {
        Line::of(Event::Fault, text)
    }

    #[test]
    fn a_line_is_bounded() {
        let log = Log::with(Paths::default(), "program", 7, ALICE);
        let long = log.line(&line(&"ü".repeat(5000)).with("more", "x".repeat(5000)));
        assert!(long.len() <= MAX_LINE + '…'.len_utf8() + 1);
    }

    #[test]
    fn each_line_is_a_message_with_its_severity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let mut log = syslog(&path);
        log.info(line("one\ntwo"));
        log.info(line("three"));
        log.warning(line("four"));
        log.error(line("five"));
        for (priority, text) in
            [("<86>", "\"one; two\""), ("<86>", "three"), ("<84>", "four"), ("<83>", "five")]
        {
            let line = next(&host);
            assert!(line.starts_with(priority), "{line}");
            assert!(line.ends_with(&format!(" program[7]: user=alice event=fault message={text}")), "{line}");
        }
    }

    #[test]
    fn journald_gets_fields_and_is_left_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("journal"), dir.path().join("log")];
        let [journal, host] = [&paths[0], &paths[1]].map(|path| UnixDatagram::bind(path).unwrap());
        let [one, two] = paths.clone();
        let mut log =
            Log::with(Paths { journal: Some(one), syslog: Some(two), own: None }, "program", 7, ALICE);
        log.info(line("one"));
        let message = next(&journal);
        assert!(message.starts_with("MESSAGE=user=alice event=fault message=one\n"), "{message}");
        assert!(message.ends_with("\nJUPYTERHUB_USER=alice\nJUPYTERHUB_EVENT=fault\n"), "{message}");
        drop(journal);
        std::fs::remove_file(&paths[0]).unwrap();
        log.info(line("two"));
        assert!(next(&host).ends_with(" program[7]: user=alice event=fault message=two"));
    }

    #[test]
    fn a_logger_that_is_started_anew_is_found_and_told_what_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let mut log = syslog(&path);
        log.info(line("one"));
        assert!(next(&host).ends_with(" message=one"));
        drop(host);
        std::fs::remove_file(&path).unwrap();
        log.info(line("two"));
        log.info(line("three"));
        let host = UnixDatagram::bind(&path).unwrap();
        log.info(line("four"));
        assert!(next(&host).ends_with(" user=alice event=log-lost lines=2"));
        assert!(next(&host).ends_with(" message=four"));
    }

    #[test]
    fn a_logger_that_does_not_read_holds_nobody_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let host = UnixDatagram::bind(&path).unwrap();
        let mut log = syslog(&path);
        // More than a socket's queue ever holds.
        let mut sent = 0;
        while log.lost == 0 && sent < 100_000 {
            log.info(line("x"));
            sent += 1;
        }
        assert_eq!(log.lost, 1);
        let start = std::time::Instant::now();
        log.info(line("y"));
        assert_eq!(log.lost, 2);
        assert!(start.elapsed() < PATIENCE, "only the first line waits");
        drop(host);
    }
}
