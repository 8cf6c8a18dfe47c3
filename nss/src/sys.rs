//! The system calls that the module needs, with safe signatures.
//!
//! Together with [`entry`](crate::entry), which glibc calls, this is all unsafe code of the module.
//! It imports no other file of it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Opens a directory with O_PATH (openat2(2)), which needs no permission to read it.
///
/// Without `beneath`, `name` is an absolute path whose symbolic links are followed. With it, the
/// path must stay below that directory and have no symbolic link in it (ELOOP). Makes system calls
/// only.
pub fn open_directory(beneath: Option<BorrowedFd<'_>>, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: an open_how of zeroes is valid: three numbers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // The flags are positive.
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).unsigned_abs().into();
    if beneath.is_some() {
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    }
    let at = beneath.map_or(libc::AT_FDCWD, |at| at.as_raw_fd());
    // SAFETY: `name` is a C string and `how` a struct of the size given; both live through the
    // call.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, at, name.as_ptr(), &raw const how, size_of_val(&how)) };
    match c_int::try_from(fd) {
        // SAFETY: openat2 has just made the descriptor, which nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The owner and group of an open file (fstat(2)). Makes a system call only.
pub fn owner(file: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // SAFETY: a stat of zeroes is valid: numbers.
    let mut facts: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `facts` may be written.
    match unsafe { libc::fstat(file.as_raw_fd(), &raw mut facts) } {
        0 => Ok((facts.st_uid, facts.st_gid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A child process that the program around us never notices.
pub struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
}

/// Runs `work` in a child process that inherits no descriptor but `keep`.
///
/// The child has no exit signal (clone(2)): the program gets no SIGCHLD, and none of its waits
/// without __WALL finds it. fork(3) would also run the program's atfork handlers. Locks that other
/// threads hold are never released in the child, so `work` must make system calls only, and neither
/// allocate nor panic. All signals but SIGKILL and SIGSTOP are blocked in it, or the program's
/// handlers could run twice.
pub fn spawn(keep: BorrowedFd<'_>, work: impl FnOnce()) -> io::Result<Child> {
    let flags = c_long::from(libc::CLONE_PIDFD);
    // s390 has the stack before the flags; NULL is the parent's, copied.
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    let mut pidfd: c_int = -1;
    // SAFETY: sets of signals are numbers, which sigfillset(3) and sigprocmask(2) write. The memory
    // is copied (no CLONE_VM) and the child never returns from this block, so it is as after
    // fork(2); `pidfd` may be written, and the two last arguments are not looked at without their
    // flags.
    let (pid, error) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, 0_usize, 0_usize);
        let error = io::Error::last_os_error();
        if pid == 0 {
            leave_parent(keep);
            // A panic must not unwind into the program, of which this is a copy.
            let _ = catch_unwind(AssertUnwindSafe(work));
            libc::_exit(0);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        (pid, error)
    };
    match libc::pid_t::try_from(pid) {
        // SAFETY: clone has just made the descriptor, which nobody else owns.
        Ok(pid) if pid > 0 => Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        _ => Err(error),
    }
}

/// Detaches the child from its parent: closes all descriptors but `keep`, and has it killed when
/// the parent ends.
///
/// One of them may be the client's connection, which would stay open for as long as the child
/// hangs.
fn leave_parent(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().unsigned_abs();
    // SAFETY: integers only. No owner of a closed descriptor runs in the child, which leaves by
    // _exit(2).
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if keep > 0 {
            libc::syscall(libc::SYS_close_range, 0, keep - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, keep + 1, libc::c_uint::MAX, 0);
    }
}

impl Child {
    /// Waits for its end and reaps it; false if it still runs at `deadline`.
    pub fn ended_by(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut event = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let milliseconds = c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX);
            // SAFETY: one pollfd, which may be written.
            match unsafe { libc::poll(&raw mut event, 1, milliseconds) } {
                // The program has handled a signal; the deadline stays.
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                0 if left > Duration::ZERO => {}
                1 => {
                    // SAFETY: integers and NULL. Nobody else waits for the child, so the number is
                    // still its.
                    unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
                    return true;
                }
                _ => return false,
            }
        }
    }

    /// Sends it SIGKILL. If it hangs in the kernel, its end may take time.
    pub fn kill(&self) {
        // SAFETY: integers. The child has not been waited for, so the number is still its.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

/// Writes a line to the system log (syslog(3)), with facility authpriv, as sshd and PAM do.
pub fn log(priority: c_int, text: &CStr) {
    // SAFETY: the format is a constant with one %s, for which a C string is given. openlog(3) keeps
    // the pointer to its name, which is static; closelog(3) forgets it. sshd and PAM open the log
    // anew for each line.
    unsafe {
        libc::openlog(c"nss_jupyterhub".as_ptr(), libc::LOG_PID, libc::LOG_AUTHPRIV);
        libc::syslog(libc::LOG_AUTHPRIV | priority, c"%s".as_ptr(), text.as_ptr());
        libc::closelog();
    }
}
