//! Signals: those that a session passes on to the process, and those that it ends by.

use host::sys::process;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What a session passes on, by the names of RFC 4254, section 6.9.
const FORWARDED: [(Signal, &str); 5] = [
    (Signal::SIGINT, "INT"),
    (Signal::SIGTERM, "TERM"),
    (Signal::SIGQUIT, "QUIT"),
    (Signal::SIGUSR1, "USR1"),
    (Signal::SIGUSR2, "USR2"),
];

/// What ends a process unless it is caught (signal(7)), real-time signals apart.
const FATAL: [(&str, Signal); 24] = [
    ("ABRT", Signal::SIGABRT),
    ("ALRM", Signal::SIGALRM),
    ("BUS", Signal::SIGBUS),
    ("FPE", Signal::SIGFPE),
    ("HUP", Signal::SIGHUP),
    ("ILL", Signal::SIGILL),
    ("INT", Signal::SIGINT),
    ("IO", Signal::SIGIO),
    ("KILL", Signal::SIGKILL),
    ("PIPE", Signal::SIGPIPE),
    ("POLL", Signal::SIGIO),
    ("PROF", Signal::SIGPROF),
    ("PWR", Signal::SIGPWR),
    ("QUIT", Signal::SIGQUIT),
    ("SEGV", Signal::SIGSEGV),
    ("SYS", Signal::SIGSYS),
    ("TERM", Signal::SIGTERM),
    ("TRAP", Signal::SIGTRAP),
    ("USR1", Signal::SIGUSR1),
    ("USR2", Signal::SIGUSR2),
    ("VTALRM", Signal::SIGVTALRM),
    ("XCPU", Signal::SIGXCPU),
    ("XFSZ", Signal::SIGXFSZ),
    ("STKFLT", Signal::SIGSTKFLT),
];

/// What a signal means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// SIGWINCH: the window may have another size.
    Resized,
    /// The process is to have it.
    Forward(&'static str),
}

/// Signals as something to read: from here on they interrupt nothing, and none is lost between two looks.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them and opens the descriptor. A process that is executed later would find them blocked.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGWINCH);
        for (signal, _) in FORWARDED {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        Ok(Self(SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next one that has come.
    pub fn next(&self) -> Option<Heard> {
        loop {
            let number = self.0.read_signal().ok()??.ssi_signo;
            let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok())?;
            if signal == Signal::SIGWINCH {
                return Some(Heard::Resized);
            }
            if let Some((_, name)) = FORWARDED.iter().find(|(known, _)| *known == signal) {
                return Some(Heard::Forward(name));
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The signal to die of, by its name without SIG. None for one that would stop this process, or do nothing.
fn fatal(name: &str) -> Option<Signal> {
    FATAL.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// Ends this process as the remote one has ended, so that sshd tells the client; without a core file, as
/// [`process::harden`] has settled. Returns when there is no such end.
pub fn die_of(name: &str) {
    if let Some(signal) = fatal(name) {
        let _ = process::die_of(signal);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::sys::process::in_child;
    use nix::sys::signal::raise;

    #[test]
    fn they_are_read_instead_of_suffered() {
        assert!(in_child(|| {
            let signals = Signals::new().unwrap();
            assert_eq!(signals.next(), None);
            for (signal, expected) in [
                (Signal::SIGWINCH, Heard::Resized),
                (Signal::SIGINT, Heard::Forward("INT")),
                (Signal::SIGTERM, Heard::Forward("TERM")),
                (Signal::SIGQUIT, Heard::Forward("QUIT")),
                (Signal::SIGUSR1, Heard::Forward("USR1")),
                (Signal::SIGUSR2, Heard::Forward("USR2")),
            ] {
                raise(signal).unwrap();
                assert_eq!(signals.next(), Some(expected));
                assert_eq!(signals.next(), None);
            }
        }));
    }

    #[test]
    fn names_are_the_systems_own() {
        for (name, signal) in FATAL.iter().copied().chain(FORWARDED.map(|(signal, name)| (name, signal))) {
            let alias = name == "POLL" && signal == Signal::SIGIO;
            assert!(alias || signal.as_str() == format!("SIG{name}"), "{name}");
            assert_eq!(fatal(name), Some(signal));
        }
    }

    #[test]
    fn a_session_cannot_be_told_to_stop_or_to_ignore() {
        for name in
            ["STOP", "TSTP", "TTIN", "TTOU", "CONT", "CHLD", "WINCH", "URG", "", "SIGTERM", "RTMIN", "9"]
        {
            assert_eq!(fatal(name), None, "{name}");
        }
        // Every signal that isn't in the list would not end us.
        let harmless = Signal::iterator().filter(|signal| !FATAL.iter().any(|(_, known)| known == signal));
        let names: Vec<_> = harmless.map(Signal::as_str).collect();
        assert_eq!(
            names,
            ["SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"]
        );
    }
}
