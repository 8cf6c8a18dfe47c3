//! Runs one of our programs, with an empty environment, no inherited descriptor, and a deadline.

use crate::sys::{self, Signals};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use wire::MAX_ANSWER;

/// How long a program that has answered may take to end.
const END_TIME: Duration = Duration::from_secs(2);

/// A running program with pipes to its standard input and output.
///
/// Dropping it kills it if it still runs, reaps it, and then restores sshd's signal handlers.
pub struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    _signals: Signals,
}

impl Child {
    /// Starts `program`, an absolute path. Its standard error is /dev/null, as sshd's own may be
    /// anything.
    pub fn start(program: &str, arguments: &[&str]) -> io::Result<Self> {
        let signals = Signals::for_children();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        sys::close_inherited(&mut command);
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        Ok(Self { process, input, _signals: signals })
    }

    /// Writes to its standard input. This never blocks: a pipe takes 4 KiB (pipe(7)), and less is
    /// sent.
    pub fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(text)
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Reads one line of at most [`MAX_ANSWER`] bytes, without its newline. Empty if the program
    /// ended before a whole line.
    pub fn read_line(&mut self, end: Instant) -> io::Result<Vec<u8>> {
        let output = self.process.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = Vec::new();
        let mut buffer = [0; 512];
        loop {
            if !sys::readable(output.as_fd(), end)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let length = output.read(&mut buffer)?;
            line.extend_from_slice(&buffer[..length]);
            if let Some(at) = line.iter().position(|b| *b == b'\n') {
                line.truncate(at);
                return Ok(line);
            }
            if length == 0 {
                // A line without its end may be cut off, so it isn't used.
                return Ok(Vec::new());
            }
            if line.len() > MAX_ANSWER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
            }
        }
    }

    /// Waits a short time for its end; true if the exit status was 0.
    pub fn ended_well(&mut self) -> bool {
        self.close_input();
        self.wait(Instant::now() + END_TIME);
        matches!(self.process.try_wait(), Ok(Some(status)) if status.success())
    }

    fn wait(&self, end: Instant) {
        if let Some(fd) = libc::pid_t::try_from(self.process.id()).ok().and_then(|pid| sys::pidfd(pid).ok()) {
            let _ = sys::readable(fd.as_fd(), end);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close_input();
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            // Not reaped yet, so the pid is still this child's.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Child::start("/bin/sh", &["-c", script]).unwrap()
    }

    fn within(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_question_and_an_answer() {
        let mut child = shell("read line; echo \"got $line\"");
        child.send(b"hello\n").unwrap();
        assert_eq!(child.read_line(within(5)).unwrap(), b"got hello");
        assert!(child.ended_well());
    }

    #[test]
    fn the_child_has_no_environment_and_no_descriptor_of_ours() {
        let _leak = sys::inheritable().unwrap();
        // The shell lists /proc itself, with one more descriptor, and forks nothing.
        let mut child = shell(
            "set -- /proc/self/fd/*; read -r environment </proc/self/environ; printf '%s [%s] ' $# \"$environment\"; pwd",
        );
        let line = String::from_utf8(child.read_line(within(5)).unwrap()).unwrap();
        assert_eq!(line, "4 [] /");
    }

    #[test]
    fn silence_and_excess_have_an_end() {
        assert_eq!(shell("exit 3").read_line(within(5)).unwrap(), b"");
        assert_eq!(shell("printf cut").read_line(within(5)).unwrap(), b"");
        assert!(!shell("exit 3").ended_well());
        let start = Instant::now();
        let mut silent = shell("sleep 60");
        let error = silent.read_line(Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(silent);
        let error = shell("while :; do printf aaaaaaaa; done").read_line(within(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_child_that_is_gone_does_not_end_us() {
        let mut child = shell("exec 0<&-; echo; sleep 1");
        child.read_line(within(5)).unwrap();
        // Until its exec, another test's child may hold the pipe, too.
        let end = within(5);
        while child.send(b"a").is_ok() {
            assert!(Instant::now() < end);
        }
    }
}
