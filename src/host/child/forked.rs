//! Runs our own code in a child process with a deadline, for example to ask a file system
//! something.
//!
//! A file server that doesn't answer blocks every process that asks it. So a child process asks,
//! and is killed when its time is over.
//! A child that cannot be killed holds nothing of ours but its end of a pipe, so sshd doesn't wait
//! for it.

use super::{read_all, stop};
use crate::sandbox;
use crate::sys::process;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, getpid, pipe2, write};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A text, no text, or an error as one line for the log.
pub type Answer = Result<Option<Vec<u8>>, String>;

/// Runs `work` in a child process and returns its answer of at most `longest` bytes. This process
/// must have a single thread.
///
/// # Errors
/// `work` failed; it took longer than `within`; the child could not be started, or it died.
pub fn run(within: Duration, longest: usize, work: impl FnOnce() -> Answer) -> Answer {
    let broken = |error: io::Error| format!("the process that should read it failed: {error}");
    let end = Instant::now() + within;
    let (answer, from_child) = pipe2(OFlag::O_CLOEXEC).map_err(|error| broken(error.into()))?;
    let parent = getpid().as_raw();
    let Some(pid) = process::fork_single_threaded().map_err(broken)? else {
        let done = process::die_with_parent(parent)
            .and_then(|()| process::discard_stdio())
            .and_then(|()| process::close_all_but(&[from_child.as_raw_fd()]))
            .and_then(|()| write_all(from_child.as_fd(), &encode(work())));
        // Runs no destructors: what the child inherited is not its to clean up.
        process::exit_now(i32::from(done.is_err()));
    };
    drop(from_child);
    let read = read_all(answer.as_fd(), end, longest + HEADER);
    stop(Pid::from_raw(pid));
    match read {
        Ok(bytes) => decode(&bytes).ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(format!("no answer within {} s: look after its file system", within.as_secs_f32()))
        }
        Err(error) => Err(broken(error)),
    }
}

/// The same as [`run`], for `work` that only reads files: the child is confined to little else.
///
/// # Errors
/// The same as for [`run`]; or the child could not be confined.
pub fn run_on_files(within: Duration, longest: usize, work: impl FnOnce() -> Answer) -> Answer {
    run(within, longest, || {
        let confined = process::harden().and_then(|()| sandbox::confine_session());
        confined
            .map_err(|error| format!("the process that should read it could not be confined: {error}"))?;
        work()
    })
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Length of the header of an answer: its kind, and its length.
const HEADER: usize = 5;

fn encode(answer: Answer) -> Vec<u8> {
    let (kind, bytes) = match answer {
        Ok(None) => (0, Vec::new()),
        Ok(Some(text)) => (1, text),
        Err(why) => (2, why.into_bytes()),
    };
    // A wrong length makes the answer invalid.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&[kind][..], &length.to_ne_bytes(), &bytes].concat()
}

/// Decodes an answer; `None` if it is incomplete.
fn decode(bytes: &[u8]) -> Option<Answer> {
    let (kind, rest) = bytes.split_first()?;
    let (length, bytes) = rest.split_first_chunk()?;
    if usize::try_from(u32::from_ne_bytes(*length)) != Ok(bytes.len()) {
        return None;
    }
    match kind {
        0 => Some(Ok(None)),
        1 => Some(Ok(Some(bytes.to_vec()))),
        2 => Some(Err(String::from_utf8_lossy(bytes).into_owned())),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::process::in_child;
    use nix::sys::wait::waitpid;
    use std::thread::sleep;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);
    /// What a loaded machine may add.
    const SLACK: Duration = Duration::from_secs(5);

    #[test]
    fn an_answer_comes_back() {
        assert!(in_child(|| {
            for answer in [Ok(None), Ok(Some(Vec::new())), Err("why".to_owned()), Ok(Some(vec![7; 300_000]))]
            {
                assert_eq!(run(LONG, 300_000, || answer.clone()), answer);
            }
            assert_eq!(waitpid(None::<Pid>, None), Err(Errno::ECHILD), "no child is left");
        }));
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        assert!(in_child(|| {
            let start = Instant::now();
            let why = run(SHORT, 10, || {
                sleep(LONG);
                Ok(None)
            });
            assert_eq!(why.unwrap_err(), "no answer within 0.3 s: look after its file system");
            assert!(start.elapsed() < SHORT + SLACK);
            assert_eq!(waitpid(None::<Pid>, None), Err(Errno::ECHILD), "no child is left");
        }));
    }

    #[test]
    fn a_child_that_dies_or_says_too_much_is_an_error_at_once() {
        assert!(in_child(|| {
            let start = Instant::now();
            let why = run(LONG, 10, || process::exit_now(0)).unwrap_err();
            assert!(why.starts_with("the process that should read it failed: "), "{why}");
            let why = run(LONG, 10, || Ok(Some(vec![7; 200_000]))).unwrap_err();
            assert!(why.ends_with("the answer is too long"), "{why}");
            assert!(start.elapsed() < SLACK);
        }));
    }

    #[test]
    fn a_child_has_nothing_of_its_parents_but_the_pipe() {
        assert!(in_child(|| {
            let (kept, theirs) = pipe2(OFlag::empty()).unwrap();
            let open = run(LONG, 100, || {
                let open =
                    (3..256).filter(|fd| std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap_or(true));
                Ok(Some(vec![u8::try_from(open.count()).unwrap_or(u8::MAX)]))
            });
            assert_eq!(open, Ok(Some(vec![1])));
            drop((kept, theirs));
        }));
    }

    #[test]
    fn half_an_answer_is_none() {
        let whole = encode(Ok(Some(b"text".to_vec())));
        assert_eq!(decode(&whole), Some(Ok(Some(b"text".to_vec()))));
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None);
        }
        assert_eq!(decode(&[whole, vec![0]].concat()), None);
        assert_eq!(decode(&[3, 0, 0, 0, 0]), None);
    }
}
