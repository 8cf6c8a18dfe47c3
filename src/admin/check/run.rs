//! Runs a program of the system, with a time limit.

use host::child::program;
use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest output that is read, in bytes.
const MAX_OUTPUT: usize = 256 << 10;

/// What a program printed, and whether it succeeded.
#[derive(Debug)]
pub struct Said {
    /// True if the program ended with status 0.
    pub success: bool,
    /// The program's standard output.
    pub out: String,
    /// The program's standard error.
    pub err: String,
}

/// Runs `program`, an absolute path, without an environment.
///
/// # Errors
/// The program cannot be run, took longer than `within`, or printed more than 256 KiB.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A], within: Duration) -> io::Result<Said> {
    let said =
        program::run(Command::new(program).args(arguments).stderr(Stdio::piped()), within, MAX_OUTPUT)?;
    // sshd ends its messages with CR LF, as for a terminal in raw mode.
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
    Ok(Said { success: said.status.success(), out: text(said.stdout), err: text(said.stderr) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard_and_ended() {
        let said =
            run("/bin/sh", &["-c", "echo out; echo err >&2; exit 3"], Duration::from_secs(60)).unwrap();
        assert_eq!((said.success, said.out.as_str(), said.err.as_str()), (false, "out\n", "err\n"));
        let said = run("/bin/sh", &["-c", "printf 'a\r\nb\r\n' | tee /dev/stderr"], Duration::from_secs(60))
            .unwrap();
        assert_eq!((said.out.as_str(), said.err.as_str()), ("a\nb\n", "a\nb\n"));
        let late = run("/bin/sh", &["-c", "exec sleep 60"], Duration::from_millis(100)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(run("/nonexistent", &["x"], Duration::from_secs(60)).is_err());
    }
}
