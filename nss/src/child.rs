//! System calls on a file system that may hang, with a time limit.
//!
//! A call on an NFS server that is away may not return for hours, and the login, or every login,
//! would wait for it. So a child process makes the call and is killed when the time is up. A child
//! that hangs in the kernel and cannot be killed is left behind: it shares nothing with its parent.
//! A child costs about 0.3 ms, once per login.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::sys::{Child, spawn};

/// How long to wait for the end of a killed child; one that needs longer hangs in the kernel.
const GRACE: Duration = Duration::from_millis(100);

/// The bytes that a child sends back; their meaning is up to the caller.
pub type Answer = [u8; 12];

/// Why a child gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// The time was up.
    Late(Duration),
    /// No child could be started, or it ended without an answer.
    Broken(io::Error),
}

/// Runs `work` in a child process and returns its answer. `work` must make system calls only: see
/// [`spawn`].
pub fn ask(limit: Duration, work: impl FnOnce() -> Answer) -> Result<Answer, Failure> {
    let deadline = Instant::now() + limit;
    let (answer, from_child) = UnixDatagram::pair().map_err(Failure::Broken)?;
    let child = spawn(from_child.as_fd(), || {
        // If this fails, the parent finds no answer.
        let _ = from_child.send(&work());
    })
    .map_err(Failure::Broken)?;
    if !child.ended_by(deadline) {
        end(&child);
        return Err(Failure::Late(limit));
    }
    receive(&answer).map_err(Failure::Broken)
}

/// Kills a child and reaps it, unless that would take long.
fn end(child: &Child) -> bool {
    child.kill();
    child.ended_by(Instant::now() + GRACE)
}

/// Reads what a child has sent before it ended.
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
    /// How much longer a loaded machine may take.
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

    /// Waits for any child (waitpid(2)), without blocking.
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
        // A child that no signal reaches looks like one that nobody has killed.
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

    /// Runs in a process without other tests, because signals, children and descriptors are
    /// process-wide.
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
            // A zombie now or in a moment: in both states the program's own waits don't find it.
            assert_eq!(wait(0).unwrap_err().raw_os_error(), Some(libc::ECHILD));
            assert!(child.ended_by(Instant::now() + SLACK));
            assert_eq!(wait(0).unwrap_err().raw_os_error(), Some(libc::ECHILD));
            no_child_is_left();
        }
        assert_eq!(SIGCHLDS.load(Ordering::Relaxed), 0);
        assert_eq!((descriptors(), mask()), before);
    }
}
