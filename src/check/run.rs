//! Running a program of the system, for a limited time.

use crate::keys::child::read_all;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest output that is read, in bytes.
const MAX_OUTPUT: usize = 256 << 10;

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with status 0.
    pub success: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs `program`, an absolute path, without an environment.
///
/// # Errors
/// It cannot be run, took longer than `within`, or said too much.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A], within: Duration) -> io::Result<Said> {
    let end = Instant::now() + within;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    // One after the other: a program that fills the other pipe meanwhile is ended by its time.
    let read = read_all(out.as_fd(), end, MAX_OUTPUT)
        .and_then(|out| Ok((out, read_all(err.as_fd(), end, MAX_OUTPUT)?)));
    let (out, err) = match read {
        Ok(read) => read,
        Err(error) => {
            // Nobody waits for one that cannot be killed.
            let _ = child.kill();
            return Err(error);
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { success: child.wait()?.success(), out: text(out), err: text(err) })
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
        let late = run("/bin/sh", &["-c", "exec sleep 60"], Duration::from_millis(100)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(run("/nonexistent", &["x"], Duration::from_secs(60)).is_err());
    }
}
