//! Runs a program with a deadline and returns its output.

use super::{has_ended, read_all, stop};
use nix::unistd::Pid;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Why there is no output.
#[derive(Debug)]
pub enum Failure {
    /// The program could not be started.
    Start(io::Error),
    /// `TimedOut` if it took too long, `InvalidData` if its output was too long, or another system
    /// error.
    Run(io::Error),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Start(error) | Failure::Run(error) => error,
        }
    }
}

/// Runs a program to its end, with no environment and no input. Reads its standard output, and its
/// standard error if `command` has a pipe for it; each may have `longest` bytes.
///
/// # Errors
/// It could not be started, ran longer than `within`, or wrote too much; in the last two cases it
/// is killed.
pub fn run(command: &mut Command, within: Duration, longest: usize) -> Result<Output, Failure> {
    let end = Instant::now() + within;
    let command = command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(Failure::Start)?;
    let pid = libc::pid_t::try_from(child.id()).map_err(|error| Failure::Run(io::Error::other(error)))?;
    let pid = Pid::from_raw(pid);
    listen(&mut child, pid, end, longest).map_err(|error| {
        stop(pid);
        Failure::Run(error)
    })
}

fn listen(child: &mut Child, pid: Pid, end: Instant, longest: usize) -> io::Result<Output> {
    // One after the other: a program that fills the second pipe meanwhile runs into its deadline.
    let stdout = said(child.stdout.take(), end, longest)?;
    let stderr = said(child.stderr.take(), end, longest)?;
    if !has_ended(pid, end)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(Output { status: child.wait()?, stdout, stderr })
}

fn said(pipe: Option<impl AsFd>, end: Instant, longest: usize) -> io::Result<Vec<u8>> {
    pipe.map_or_else(|| Ok(Vec::new()), |pipe| read_all(pipe.as_fd(), end, longest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::process::in_child;
    use nix::errno::Errno;
    use nix::sys::wait::waitpid;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);

    fn shell(script: &str, within: Duration) -> Result<Output, Failure> {
        run(Command::new("/bin/sh").args(["-c", script]).stderr(Stdio::piped()), within, 1000)
    }

    #[test]
    fn a_program_is_heard_to_its_end() {
        let said = shell("echo out; pwd; cat; echo err >&2; exit 3", LONG).unwrap();
        assert_eq!(
            (said.status.code(), said.stdout, said.stderr),
            (Some(3), b"out\n/\n".to_vec(), b"err\n".to_vec())
        );
        let said =
            run(Command::new("/bin/sh").args(["-c", "echo out"]).stderr(Stdio::null()), LONG, 1000).unwrap();
        assert_eq!((said.stdout, said.stderr), (b"out\n".to_vec(), Vec::new()));
        assert!(matches!(run(&mut Command::new("/nonexistent"), LONG, 1000), Err(Failure::Start(_))));
    }

    /// However the program spends its time, nothing is left of it.
    #[test]
    fn a_program_has_an_end() {
        assert!(in_child(|| {
            for (script, within, kind) in [
                ("exec sleep 60", SHORT, io::ErrorKind::TimedOut),
                ("exec >&-; exec sleep 60", SHORT, io::ErrorKind::TimedOut),
                ("exec >&- 2>&-; exec sleep 60", SHORT, io::ErrorKind::TimedOut),
                ("head -c 300000 /dev/zero >&2; exit", SHORT, io::ErrorKind::TimedOut),
                ("exec cat /dev/zero", LONG, io::ErrorKind::InvalidData),
                ("exec cat /dev/zero >&2", LONG, io::ErrorKind::InvalidData),
            ] {
                let start = Instant::now();
                let error = io::Error::from(shell(script, within).unwrap_err());
                assert_eq!(error.kind(), kind, "{script}");
                assert!(start.elapsed() < LONG / 2, "{script}");
                assert_eq!(waitpid(None::<Pid>, None), Err(Errno::ECHILD), "no child is left: {script}");
            }
        }));
    }
}
