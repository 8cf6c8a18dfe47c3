//! Asking the file system something, for a limited time.
//!
//! A system call on an NFS server that does not answer waits for as long as the server is away, in this process for
//! the login, or for every login. So a child process makes it, and is killed when the time is over. Even a child
//! that cannot be killed, in a part of the kernel that does not look at signals, holds nobody up: it has
//! nothing of its parent's, and is left behind. Making one costs some 0.3 ms, once in a login.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::ffi::{Child, spawn};

/// How long a killed child may take to go away; one that needs longer hangs in the kernel.
const GRACE: Duration = Duration::from_millis(100);

/// What a child answers: its own affair.
pub type Answer = [u8; 12];

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// It took too long.
    Late(Duration),
    /// No child could be made, or it ended without an answer.
    Broken(io::Error),
}

/// Has `work` done in a child process and returns its answer. `work` must make system calls only: see [`spawn`].
///
/// # Errors
/// See [`Failure`].
pub fn ask(limit: Duration, work: impl FnOnce() -> Answer) -> Result<Answer, Failure> {
    let deadline = Instant::now() + limit;
    let (answer, from_child) = UnixDatagram::pair().map_err(Failure::Broken)?;
    let child = spawn(from_child.as_fd(), || {
        // Nobody else can be told of a failure; the parent misses the answer.
        let _ = from_child.send(&work());
    })
    .map_err(Failure::Broken)?;
    if !child.ended_by(deadline) {
        end(&child);
        return Err(Failure::Late(limit));
    }
    receive(&answer).map_err(Failure::Broken)
}

/// Kills a child; what is left of it is removed, unless that would take long.
fn end(child: &Child) -> bool {
    child.kill();
    child.ended_by(Instant::now() + GRACE)
}

/// What a child that has ended has sent.
fn receive(socket: &UnixDatagram) -> io::Result<Answer> {
    socket.set_nonblocking(true)?;
    let mut answer = [0; size_of::<Answer>()];
    match socket.recv(&mut answer)? {
        length if length == answer.len() => Ok(answer),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Broken(error) => write!(f, "the process that should look at it failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::fs;
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LIMIT: Duration = Duration::from_millis(300);
    /// What a machine under load may add.
    const SLACK: Duration = Duration::from_secs(3);

    fn sleep() {
        let time = libc::timespec { tv_sec: 60, tv_nsec: 0 };
        // SAFETY: a time that lives through the call, and NULL.
        unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
    }

    fn signal(signal: i32) {
        // SAFETY: integers.
        unsafe { libc::kill(libc::getpid(), signal) };
    }

    /// waitpid(2) for any child.
    fn wait(flags: i32) -> io::Result<i32> {
        // SAFETY: integers and NULL.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | flags) } {
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(pid),
        }
    }

    fn no_child_is_left() {
        assert_eq!(wait(libc::__WALL).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn an_answer_comes_back() {
        for number in 0..50 {
            assert_eq!(ask(SLACK, || [number; 12]).unwrap(), [number; 12]);
        }
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        for work in [sleep, || signal(libc::SIGSTOP)] {
            let start = Instant::now();
            let failure = ask(LIMIT, || {
                work();
                [0; 12]
            })
            .unwrap_err();
            assert!(matches!(failure, Failure::Late(_)), "{failure:?}");
            assert_eq!(failure.to_string(), "no answer within 0.3 s");
            assert!(start.elapsed() >= LIMIT && start.elapsed() < LIMIT + SLACK, "{:?}", start.elapsed());
        }
    }

    #[test]
    fn a_child_that_dies_is_an_error_at_once() {
        let start = Instant::now();
        let failure = ask(Duration::from_secs(60), || {
            signal(libc::SIGKILL);
            [0; 12]
        })
        .unwrap_err();
        assert!(matches!(failure, Failure::Broken(_)), "{failure:?}");
        assert!(start.elapsed() < SLACK);
    }

    #[test]
    fn a_child_that_stays_holds_nobody_up() {
        let (_answer, from_child) = UnixDatagram::pair().unwrap();
        // One that a signal does not reach looks like one that was not killed.
        let child = spawn(from_child.as_fd(), sleep).unwrap();
        let start = Instant::now();
        assert!(!child.ended_by(Instant::now() + LIMIT));
        assert!(start.elapsed() < LIMIT + SLACK);
        assert!(!child.ended_by(Instant::now()), "no time at all");
        assert!(end(&child));
    }

    #[test]
    fn a_child_has_nothing_of_its_parents_but_the_socket() {
        let open = fs::File::open("/dev/null").unwrap();
        let answer = ask(SLACK, || {
            // SAFETY: fcntl(2) with integers.
            let alive = |fd: i32| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            let mut answer = [0; 12];
            answer[0] = u8::try_from((0..1024).filter(|fd| alive(*fd)).count()).unwrap_or(u8::MAX);
            answer
        });
        assert_eq!(answer.unwrap()[0], 1);
        drop(open);
    }

    static SIGCHLDS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_signal: i32) {
        SIGCHLDS.fetch_add(1, Ordering::Relaxed);
    }

    /// Signals, children and descriptors belong to the whole process: this needs one without other tests.
    #[test]
    fn the_program_learns_nothing_of_it() {
        let name = "child::tests::alone_the_program_learns_nothing_of_it";
        let test = std::env::current_exe().unwrap();
        let run =
            Command::new(test).args([name, "--exact", "--ignored", "--test-threads=1"]).output().unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && output.contains("1 passed"), "{output}");
    }

    #[test]
    #[ignore = "runs alone: see the_program_learns_nothing_of_it"]
    fn alone_the_program_learns_nothing_of_it() {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mask = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
        };
        let before = (descriptors(), mask());
        let handler = count as extern "C" fn(i32);
        for disposition in [handler as libc::sighandler_t, libc::SIG_IGN, libc::SIG_DFL] {
            // SAFETY: the handler touches an atomic number only.
            unsafe { libc::signal(libc::SIGCHLD, disposition) };
            ask(SLACK, || [1; 12]).unwrap();
            no_child_is_left();
            ask(LIMIT, || {
                sleep();
                [0; 12]
            })
            .unwrap_err();
            no_child_is_left();
            let (_answer, from_child) = UnixDatagram::pair().unwrap();
            let child = spawn(from_child.as_fd(), || {}).unwrap();
            // A zombie by now or in a moment; the program's own waits do not find it either way.
            assert_eq!(wait(0).unwrap_err().raw_os_error(), Some(libc::ECHILD));
            assert!(child.ended_by(Instant::now() + SLACK));
            assert_eq!(wait(0).unwrap_err().raw_os_error(), Some(libc::ECHILD));
            no_child_is_left();
        }
        assert_eq!(SIGCHLDS.load(Ordering::Relaxed), 0);
        assert_eq!((descriptors(), mask()), before);
    }
}
