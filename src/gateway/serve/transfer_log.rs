//! The log of file transfers: passes lines of sftp-server from the jail's /dev/log to the host's.
//!
//! sftp-server and sshd's internal-sftp write a line for each file opened and closed. The gateway
//! passes these on, and puts the connection, the user and the client's address in front. The user
//! decides how many lines there are, as with sftp-server's log on any host.

use host::config::LogLevel;
use host::log::{Event, Line, Log};
use host::sys::wait::readable_before;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most bytes read of one message; rsyslog and journald take about as much. The rest is cut.
const MAX_DATAGRAM: usize = 8 * 1024;
/// Most messages passed on in one turn of the loop, so that terminals of the same connection get
/// their turn.
const MAX_TURN: usize = 128;
/// After some messages the next ones gather for this long: a wakeup for each would cost more than
/// the line itself.
const REST: Duration = Duration::from_millis(20);
/// The same if the socket's queue may be as short as Linux makes it (net.unix.max_dgram_qlen, 10),
/// so that its sender may be blocked by now. The jail asks for a longer queue.
const SHORT_REST: Duration = Duration::from_millis(1);
/// As many messages as a queue of that length holds: one more than its number (unix_recvq_full in
/// the kernel).
const SHORT_QUEUE: usize = 11;
/// After the connection's end, how long to wait for another message.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// After the connection's end, how long to listen in all.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Longest program name shown.
const MAX_PROGRAM: usize = 32;

/// The reading end of the jail's /dev/log.
pub struct TransferLog {
    socket: OwnedFd,
    /// True to pass on even what [`is_noise`] holds back.
    everything: bool,
    buffer: Vec<u8>,
    /// Not to be read before this time.
    rests: Option<Instant>,
    /// True if it could not be read; it is not tried again.
    broken: bool,
}

impl TransferLog {
    /// Takes a bound, non-blocking datagram socket. `level` is the administrator's choice.
    #[must_use]
    pub fn new(socket: OwnedFd, level: LogLevel) -> Self {
        Self {
            socket,
            everything: level == LogLevel::Verbose,
            buffer: Vec::new(),
            rests: None,
            broken: false,
        }
    }

    /// What to poll for; nothing while messages gather.
    #[must_use]
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        (self.rests.is_none() && !self.broken).then(|| self.socket.as_fd())
    }

    /// When to call [`Self::relay`] again, apart from events.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.rests
    }

    /// Passes on what has arrived, unless messages are still gathering.
    pub fn relay(&mut self, log: &mut Log, now: Instant) {
        if self.broken || self.rests.is_some_and(|until| now < until) {
            return;
        }
        self.rests = match self.read(log) {
            // Allocate a buffer only while there is something to read.
            0 => {
                self.buffer = Vec::new();
                None
            }
            SHORT_QUEUE => Some(now + SHORT_REST),
            MAX_TURN.. => Some(now),
            _ => Some(now + REST),
        };
    }

    /// Passes on everything that is left, at the end of the connection.
    pub fn drain(&mut self, log: &mut Log) {
        let now = Instant::now();
        let (until, end) = (now + LAST_WORDS, now + LAST_WORD);
        while !self.broken
            && Instant::now() < end
            && (self.read(log) > 0 || matches!(readable_before(&[self.socket.as_fd()], until), Ok(Some(_))))
        {
        }
    }

    /// Passes on at most [`MAX_TURN`] messages and returns their number.
    fn read(&mut self, log: &mut Log) -> usize {
        self.buffer.resize(MAX_DATAGRAM, 0);
        for count in 0..MAX_TURN {
            match nix::unistd::read(&self.socket, &mut self.buffer) {
                Ok(length) => {
                    pass_on(self.buffer.get(..length).unwrap_or_default(), self.everything, log);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return count,
                Err(e) => {
                    log.error(Line::of(Event::Fault, format_args!("the jail's log cannot be read: {e}")));
                    self.broken = true;
                    return count;
                }
            }
        }
        MAX_TURN
    }
}

fn pass_on(datagram: &[u8], everything: bool, log: &mut Log) {
    let Entry { severity, program, text } = parse(datagram);
    if text.is_empty() || is_noise(text) && !everything {
        return;
    }
    let line = Line::new(Event::Transfer)
        .with("program", String::from_utf8_lossy(program))
        .message(String::from_utf8_lossy(text));
    match severity {
        0..=3 => log.error(line),
        4 => log.warning(line),
        _ => log.info(line),
    }
}

/// True for lines of sftp-server's level INFO that only say that somebody looks around. Programs
/// that show or mount directories would fill the log with them; level VERBOSE shows them.
///
/// These are, in OpenSSH 9.2 and 10.0, `opendir "%s"`, `closedir "%s"`, `forced closedir "%s"`, and
/// the answer to a look-up of a name that does not exist.
fn is_noise(text: &[u8]) -> bool {
    [&b"opendir \""[..], b"closedir \"", b"forced closedir \""].iter().any(|start| text.starts_with(start))
        || text == b"sent status No such file"
}

/// A message as syslog(3) sends it.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    /// 0 emergency, 3 error, 4 warning, 6 information.
    severity: u8,
    /// The program that sent it.
    program: &'a [u8],
    /// Its text.
    text: &'a [u8],
}

/// Reads `<PRI>Mmm dd hh:mm:ss program[pid]: text`: RFC 3164 as the C library writes it, without a
/// host name.
///
/// A text without a priority comes from sftp-server's standard error, which is this socket.
/// Anything else is a text without a program.
fn parse(datagram: &[u8]) -> Entry<'_> {
    let end = datagram.iter().rposition(|byte| !matches!(byte, 0 | b'\r' | b'\n')).map_or(0, |last| last + 1);
    let datagram = datagram.get(..end).unwrap_or_default();
    let Some((severity, rest)) = priority(datagram) else {
        return Entry { severity: 6, program: b"sftp-server", text: datagram };
    };
    let unknown = Entry { severity, program: b"unknown", text: rest };
    let Some(rest) = after_time(rest) else { return unknown };
    let name = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(byte)).count();
    let (program, rest) = rest.split_at(name);
    match after_pid(rest).strip_prefix(b": ") {
        Some(text) if (1..=MAX_PROGRAM).contains(&name) => Entry { severity, program, text },
        _ => unknown,
    }
}

/// Reads `<38>`; the severity is the low three bits.
fn priority(text: &[u8]) -> Option<(u8, &[u8])> {
    let rest = text.strip_prefix(b"<")?;
    let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    let number: u16 = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some(((number & 7) as u8, rest.strip_prefix(b">")?))
}

/// `Nov 21 23:04:03 `
fn after_time(text: &[u8]) -> Option<&[u8]> {
    let (time, rest) = text.split_at_checked(16)?;
    let shape = |(at, byte): (usize, &u8)| match at {
        0..=2 => byte.is_ascii_alphabetic(),
        3 | 6 | 15 => *byte == b' ',
        9 | 12 => *byte == b':',
        4 => byte.is_ascii_digit() || *byte == b' ',
        _ => byte.is_ascii_digit(),
    };
    time.iter().enumerate().all(shape).then_some(rest)
}

/// `[123]`, if it is there.
fn after_pid(text: &[u8]) -> &[u8] {
    let Some(rest) = text.strip_prefix(b"[") else { return text };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(digits..).and_then(|rest| rest.strip_prefix(b"]")).unwrap_or(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn messages_of_syslog_3() {
        for (datagram, severity, program, text) in [
            (
                "<86>Nov 21 23:04:03 sftp-server[5]: open \"/home/alice/x\" flags READ mode 0666",
                6,
                "sftp-server",
                "open \"/home/alice/x\" flags READ mode 0666",
            ),
            ("<83>Jan  1 00:00:00 internal-sftp: error: a: b\n\0", 3, "internal-sftp", "error: a: b"),
            ("<4>Jan  1 00:00:00 scp[1]: ", 4, "scp", ""),
            // sftp-server's standard error.
            ("", 6, "sftp-server", ""),
            ("\0\n\0", 6, "sftp-server", ""),
            ("remove name \"/x\"\r\n", 6, "sftp-server", "remove name \"/x\""),
            // What nobody's C library writes.
            ("<>x", 6, "sftp-server", "<>x"),
            ("<1234>x", 6, "sftp-server", "<1234>x"),
            ("<-1>x", 6, "sftp-server", "<-1>x"),
            ("<3>x", 3, "unknown", "x"),
            ("<3>Jan 01 00:00:00", 3, "unknown", "Jan 01 00:00:00"),
            ("<3>Jan 01 00:00:00 : x", 3, "unknown", "Jan 01 00:00:00 : x"),
            ("<3>Jan 01 00:00:00 a b: x", 3, "unknown", "Jan 01 00:00:00 a b: x"),
            ("<3>Jan 01 00:00:00 a[1: x", 3, "unknown", "Jan 01 00:00:00 a[1: x"),
            ("<3>Jan 01 00:00:00 a[x]: x", 3, "unknown", "Jan 01 00:00:00 a[x]: x"),
            ("<3>1an 01 00:00:00 a: x", 3, "unknown", "1an 01 00:00:00 a: x"),
            ("<999>Jan 01 00:00:00 a: x", 7, "a", "x"),
        ] {
            let entry = Entry { severity, program: program.as_bytes(), text: text.as_bytes() };
            assert_eq!(parse(datagram.as_bytes()), entry, "{datagram:?}");
        }
        let long = format!("<3>Jan 01 00:00:00 {}: x", "a".repeat(MAX_PROGRAM + 1));
        assert_eq!(parse(long.as_bytes()).program, b"unknown");
    }

    #[test]
    fn looking_around_is_not_logged() {
        for text in [
            "opendir \"/home/alice\"",
            "closedir \"/x\"",
            "forced closedir \"/x\"",
            "sent status No such file",
        ] {
            assert!(is_noise(text.as_bytes()), "{text}");
        }
        for text in [
            "open \"/opendir \" flags READ mode 0666",
            "close \"/x\" bytes read 1 written 0",
            "forced close \"/x\" bytes read 1 written 0",
            "remove name \"/x\"",
            "rename old \"/x\" new \"/y\"",
            "mkdir name \"/x\" mode 0777",
            "set \"/x\" mode 0644",
            "sent status Permission denied",
            "sent status Failure",
            "session opened for local user alice from [192.0.2.1]",
        ] {
            assert!(!is_noise(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn it_rests_between_bursts_and_drains_at_the_end() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let mut transfers = TransferLog::new(receiver.into(), LogLevel::Info);
        let mut log = Log::discarding();
        let now = Instant::now();
        transfers.relay(&mut log, now);
        assert!(transfers.interest().is_some() && transfers.deadline().is_none());
        sender.send(b"<86>Nov 21 23:04:03 sftp-server[5]: x").unwrap();
        transfers.relay(&mut log, now);
        assert!(transfers.interest().is_none());
        assert_eq!(transfers.deadline(), Some(now + REST));
        for _ in 0..9 {
            sender.send(&[b'x'; MAX_DATAGRAM * 2]).unwrap();
        }
        transfers.relay(&mut log, now + REST / 2);
        assert_eq!(transfers.deadline(), Some(now + REST), "not before its time");
        transfers.relay(&mut log, now + REST);
        assert_eq!(transfers.deadline(), Some(now + REST + REST));
        for _ in 0..SHORT_QUEUE {
            sender.send(b"x").unwrap();
        }
        transfers.relay(&mut log, now + REST * 2);
        assert_eq!(transfers.deadline(), Some(now + REST * 2 + SHORT_REST), "its sender may be blocked");
        sender.send(b"last").unwrap();
        transfers.drain(&mut log);
        assert_eq!(transfers.read(&mut log), 0);
        drop(sender);
        transfers.drain(&mut log);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(datagram in prop::collection::vec(any::<u8>(), 0..100)) {
            let entry = parse(&datagram);
            prop_assert!(entry.severity < 8 && entry.program.len() <= MAX_PROGRAM);
            prop_assert!(entry.text.len() <= datagram.len());
            prop_assert!(entry.program.iter().all(u8::is_ascii_graphic));
        }

        #[test]
        fn every_text_comes_through(pri in 0u8..192, text in "[^\0\r\n]{0,80}") {
            let datagram = format!("<{pri}>Feb 29 12:00:00 sftp-server[4711]: {text}");
            let entry = Entry { severity: pri & 7, program: b"sftp-server", text: text.as_bytes() };
            prop_assert_eq!(parse(datagram.as_bytes()), entry);
        }
    }
}
