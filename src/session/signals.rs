//! Signals that the session program passes on to the remote process, and signals that it ends by.

use host::sys::process;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The signals that are passed on, by their names in RFC 4254, section 6.9.
const FORWARDED: [(Signal, &str); 5] = [
    (Signal::SIGINT, "INT"),
    (Signal::SIGTERM, "TERM"),
    (Signal::SIGQUIT, "QUIT"),
    (Signal::SIGUSR1, "USR1"),
    (Signal::SIGUSR2, "USR2"),
];

/// The signals that end a process unless it catches them (signal(7)), except real-time signals.
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

/// What a signal means to the session program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// SIGWINCH: the window may have another size.
    Resized,
    /// A signal for the remote process.
    Forward(&'static str),
}

/// Signals as something to read: they interrupt nothing from here on, and none is lost between two
/// reads.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and opens the descriptor. A program that is executed later would inherit
    /// the block.
    ///
    /// # Errors
    /// signalfd(2) or sigprocmask(2) fails.
    pub fn new() -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGWINCH);
        for (signal, _) in FORWARDED {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        Ok(Self(SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal that has arrived.
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

/// The signal to die of, by its name without SIG. `None` for a signal that would stop this process
/// or do nothing.
fn fatal(name: &str) -> Option<Signal> {
    FATAL.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// Ends this process as the remote one has ended, so that sshd tells the client.
/// [`process::harden`] has ruled out a core file. Returns if no such signal exists.
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
        // No signal outside the list would end us.
        let harmless = Signal::iterator().filter(|signal| !FATAL.iter().any(|(_, known)| known == signal));
        let names: Vec<_> = harmless.map(Signal::as_str).collect();
        assert_eq!(
            names,
            ["SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"]
        );
    }
}
