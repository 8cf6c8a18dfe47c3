//! Changes this process itself: hardens it, gives up root, moves it into the background.
#![allow(unsafe_code)]

use super::capabilities;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::{
    ForkResult, Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, getgroups, getresgid, getresuid,
    setgroups, setresgid, setresuid, setsid,
};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

/// Closes every descriptor from `first` on, whatever it is (close_range(2), Linux 5.9).
///
/// Call it before the process opens its first own descriptor: it also closes descriptors that an
/// `OwnedFd` believes it owns.
///
/// # Errors
/// close_range(2) fails; `ENOSYS` before Linux 5.9.
pub fn close_from(first: RawFd) -> io::Result<()> {
    close_range(unsigned(first), libc::c_uint::MAX)
}

/// Closes every descriptor from 3 on except those in `keep`.
///
/// For a freshly forked child that keeps a few of its parent's descriptors. The caller must have
/// forgotten every other owner, not drop it later.
///
/// # Errors
/// close_range(2) fails.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<libc::c_uint> = keep.iter().filter(|fd| **fd >= 3).map(|fd| unsigned(*fd)).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, libc::c_uint::MAX)
}

/// Descriptors are never negative; -1 ("none") becomes the highest number, which closes nothing.
fn unsigned(fd: RawFd) -> libc::c_uint {
    libc::c_uint::try_from(fd).unwrap_or(libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range takes three integers. That no live owner is left is the callers'
    // documented duty.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(result)?;
    Ok(())
}

/// Hardens the process: no core file, no ptrace(2), no /proc/PID/mem or environ for other processes
/// of the same uid, no new privileges by exec.
///
/// setresuid(2) resets the dumpable flag: call this again after a change of uid
/// ([`drop_privileges`] does).
///
/// # Errors
/// prctl(2) or setrlimit(2) fails.
pub fn harden() -> io::Result<()> {
    hide()?;
    prctl::set_no_new_privs()?;
    Ok(())
}

/// Prevents other processes of this uid from inspecting the process or using its descriptors
/// (ptrace(2), proc(5)), and disables core dumps.
///
/// # Errors
/// prctl(2) or setrlimit(2) fails.
pub fn hide() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Sets the name that ps(1) and top(1) show; the kernel keeps 15 bytes.
///
/// # Errors
/// prctl(2) fails.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
}

/// Ignores a signal; that lasts across exec (signal(7)).
///
/// # Errors
/// `EINVAL` for SIGKILL and SIGSTOP.
pub fn ignore_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Resets what execve(2) keeps of a caller's signal settings: ignored and blocked signals, and
/// timers. SIGPIPE stays ignored, as Rust wants it.
///
/// # Errors
/// A timer or signal cannot be reset.
pub fn forget_callers_signals() -> io::Result<()> {
    use nix::sys::signal::SigSet;
    let off = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: reads `off`, which outlives the call; a null pointer asks for no old value.
        Errno::result(unsafe { libc::setitimer(timer, &raw const off, std::ptr::null_mut()) })?;
    }
    for number in (1..libc::SIGSYS + 1).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        if [libc::SIGPIPE, libc::SIGKILL, libc::SIGSTOP].contains(&number) {
            continue;
        }
        // SAFETY: sigaction is plain data, for which all zeroes is a value; the calls read and
        // write it alone, and SIG_DFL runs no code of ours. Handlers that this program has already
        // (Rust's for SIGSEGV) are left in place.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            Errno::result(libc::sigaction(number, std::ptr::null(), &raw mut action))?;
            if action.sa_sigaction == libc::SIG_IGN {
                action.sa_sigaction = libc::SIG_DFL;
                Errno::result(libc::sigaction(number, &raw const action, std::ptr::null_mut()))?;
            }
        }
    }
    // Last, so that pending signals meet the default action.
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Ends this process with a signal, as if it had never been caught or blocked. Returns if that
/// signal doesn't end a process.
///
/// # Errors
/// The signal cannot be reset or raised; `EINVAL` for SIGSTOP, which ends nothing.
pub fn die_of(signal: Signal) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigSet, raise, sigaction};
    if signal != Signal::SIGKILL {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: SIG_DFL runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    let mut unblocked = SigSet::empty();
    unblocked.add(signal);
    unblocked.thread_unblock()?;
    Ok(raise(signal)?)
}

/// Keeps every page of this process, present and future, out of swap: a secret then never reaches a
/// disk.
///
/// MCL_ONFAULT locks a page when it is first used, so that reserved but untouched memory costs
/// nothing. Root raises its own limit first. The lock outlasts a later change of uid but not a
/// fork: call it in the process that holds the secret, before it gives up root.
///
/// # Errors
/// `EPERM` in a container whose root may not raise limits (CAP_SYS_RESOURCE). Nothing is locked
/// then, because every later mapping would count against a small limit and fail. Worth a warning on
/// a host with swap.
pub fn lock_memory() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY)?;
    // SAFETY: takes flags only and changes no memory that Rust could notice.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    Errno::result(result)?;
    Ok(())
}

/// Sets an environment variable of this process, which must still have a single thread.
///
/// # Errors
/// `Other` if it has more threads: getenv(3) in another thread could read what is being moved.
pub fn set_variable(name: &str, value: &str) -> io::Result<()> {
    ensure_single_thread()?;
    // SAFETY: no other thread exists that could use the environment at the same time (setenv(3)).
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

fn ensure_single_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => Ok(()),
        _ => Err(io::Error::other("not possible with several threads")),
    }
}

/// Returns freed heap memory to the system (malloc_trim(3)), and drops code that only a start
/// needs: an idle process keeps only what it needs.
pub fn release_memory() {
    super::code::release();
    // SAFETY: takes a number, touches nothing but the allocator's own free lists, under its own
    // lock.
    unsafe { libc::malloc_trim(0) };
}

/// Calls fork(2) in a process with a single thread. Returns the child's process id in the parent,
/// `None` in the child.
///
/// # Errors
/// fork(2) fails; `Other` if this process has more than one thread: locks held by the others would
/// stay locked in the child forever.
pub fn fork_single_threaded() -> io::Result<Option<libc::pid_t>> {
    ensure_single_thread()?;
    // SAFETY: with one thread, no lock can be held by a thread that the child lacks: the child may
    // do whatever the parent may (fork(2), signal-safety(7)).
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Some(child.as_raw())),
        ForkResult::Child => Ok(None),
    }
}

/// Makes the kernel kill this process when its parent ends, however it ends. `parent` is the
/// process id that the caller expects.
///
/// The kernel drops this setting at every change of credentials (PR_SET_PDEATHSIG(2const)): call
/// this again afterwards. It is tied to the parent's thread, so the parent must have forked in a
/// thread that stays.
///
/// # Errors
/// prctl(2) fails; `NotFound` if the parent has already ended.
pub fn die_with_parent(parent: libc::pid_t) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have ended before the call above: then nothing would ever kill us.
    if nix::unistd::getppid().as_raw() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Ends the process at once, without destructors or exit handlers: for either side of a fork.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and doesn't return.
    unsafe { libc::_exit(status) }
}

/// Moves this process into the background: a child with a process session of its own continues,
/// with `/` as its working directory and /dev/null as standard input and error; the parent exits
/// with 0. Standard output stays open for one answer to the starter: then call [`discard_stdout`].
///
/// # Errors
/// A system call fails; the process is then still in the foreground, or a half-detached child that
/// must exit.
pub fn daemonize_keeping_stdout() -> io::Result<()> {
    if fork_single_threaded()?.is_some() {
        exit_now(0);
    }
    setsid()?;
    chdir("/")?;
    let null = dev_null()?;
    dup2_stdin(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Redirects standard output to /dev/null, which closes the pipe to our starter.
///
/// # Errors
/// /dev/null cannot be opened or duplicated.
pub fn discard_stdout() -> io::Result<()> {
    Ok(dup2_stdout(dev_null()?)?)
}

/// Redirects standard input and output to /dev/null, so that other holders of these descriptors can
/// close them.
///
/// # Errors
/// /dev/null cannot be opened or duplicated.
pub fn discard_stdin_and_stdout() -> io::Result<()> {
    let null = dev_null()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(())
}

/// Redirects standard error to /dev/null.
///
/// # Errors
/// /dev/null cannot be opened or duplicated.
pub fn discard_stderr() -> io::Result<()> {
    dup2_stderr(&dev_null()?)?;
    Ok(())
}

/// Redirects standard input, output and error to /dev/null.
///
/// # Errors
/// /dev/null cannot be opened or duplicated.
pub fn discard_stdio() -> io::Result<()> {
    let null = dev_null()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

fn dev_null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Gives up root for good and proves it, after the example of OpenSSH's permanently_set_uid: no
/// supplementary groups, no capabilities in any set, and every way back tried and found closed.
///
/// # Errors
/// `InvalidInput` for uid or gid 0 (or -1); a system call fails; `PermissionDenied` if something of
/// root is left. The caller must exit at once on any error: it may still be privileged.
pub fn drop_privileges(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || gid == 0 || uid == u32::MAX || gid == u32::MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "root is no one to drop privileges to"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Before the uid changes, because this needs CAP_SETPCAP. A container may lack it; no_new_privs
    // and the empty sets proved below keep the bounding set from ever mattering.
    drop_bounding_set();
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    capabilities::clear()?;
    harden()?;
    prove_unprivileged(uid, gid)
}

/// Gives up all capabilities of a process that never was root, and makes sure that it cannot become
/// root.
///
/// # Errors
/// A system call fails; `PermissionDenied` if this is root or can become root. The caller must exit
/// at once.
pub fn stay_unprivileged() -> io::Result<()> {
    drop_bounding_set();
    capabilities::clear()?;
    harden()?;
    let root = Uid::from_raw(0);
    let uids = getresuid()?;
    let is_root = [uids.real, uids.effective, uids.saved].contains(&root);
    if is_root || setresuid(root, root, root).is_ok() || !capabilities::are_empty()? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "this process can be root's"));
    }
    Ok(())
}

/// Checks that nothing of root is left and that root cannot be regained.
fn prove_unprivileged(uid: Uid, gid: Gid) -> io::Result<()> {
    let left = |what: &str| {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("root not given up: {what}")))
    };
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    if setresuid(root.0, root.0, root.0).is_ok() || nix::unistd::seteuid(root.0).is_ok() {
        return left("uid 0 could be taken back");
    }
    if setresgid(root.1, root.1, root.1).is_ok() || nix::unistd::setegid(root.1).is_ok() {
        return left("gid 0 could be taken back");
    }
    if setgroups(&[root.1]).is_ok() {
        return left("supplementary groups could be set");
    }
    let (uids, gids) = (getresuid()?, getresgid()?);
    if [uids.real, uids.effective, uids.saved] != [uid; 3]
        || [gids.real, gids.effective, gids.saved] != [gid; 3]
    {
        return left("the uids or gids are not the ones asked for");
    }
    if !getgroups()?.iter().all(|group| *group == gid) {
        return left("supplementary groups");
    }
    if !capabilities::are_empty()? {
        return left("capabilities");
    }
    Ok(())
}

/// Empties the capability bounding set and the ambient set as far as permitted (capabilities(7)).
fn drop_bounding_set() {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes integers only; EINVAL ends the list of the kernel's
        // capabilities.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes integers only (the unused ones must be 0).
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
}

/// Runs a test that would change this process in a child, and reports whether it reached its end.
/// Tests run on several threads, so it should need no lock of another thread.
#[cfg(any(test, feature = "testing"))]
pub fn in_child(test: impl FnOnce()) -> bool {
    matches!(end_of_child(test), nix::sys::wait::WaitStatus::Exited(_, 0))
}

/// Does the same as `in_child`, and reports how the child ended.
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used)]
pub(crate) fn end_of_child(test: impl FnOnce()) -> nix::sys::wait::WaitStatus {
    // SAFETY: the child has a copy of this thread only; glibc has its allocator's locks in order
    // after fork(3), and the tests' own code takes no other.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
            if let Err(why) = &outcome {
                let text = why.downcast_ref::<String>().map_or("a test in a child failed", String::as_str);
                // Written directly: the test harness would keep the output for a parent that isn't
                // there.
                let _ = nix::unistd::write(io::stderr(), format!("{text}\n").as_bytes());
            }
            exit_now(i32::from(outcome.is_err()))
        }
        ForkResult::Parent { child } => nix::sys::wait::waitpid(child, None).unwrap(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn in_child(check: fn() -> bool) -> bool {
        super::in_child(|| assert!(check()))
    }

    #[test]
    fn a_callers_signals_are_forgotten() {
        use nix::sys::signal::{SigSet, kill};
        let ended = end_of_child(|| {
            ignore_signal(Signal::SIGCHLD).unwrap();
            ignore_signal(Signal::SIGTERM).unwrap();
            SigSet::all().thread_block().unwrap();
            let soon = libc::itimerval {
                it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
                it_value: libc::timeval { tv_sec: 0, tv_usec: 300_000 },
            };
            // SAFETY: reads `soon`.
            unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const soon, std::ptr::null_mut()) };
            forget_callers_signals().unwrap();
            // The child is ours to wait for and has no timer.
            let child = fork_single_threaded().unwrap().unwrap_or_else(|| {
                std::thread::sleep(std::time::Duration::from_millis(400));
                exit_now(7)
            });
            let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
            assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 7)));
            kill(nix::unistd::getpid(), Signal::SIGTERM).unwrap();
        });
        assert!(matches!(ended, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{ended:?}");
    }

    #[test]
    fn root_is_gone_for_good() {
        if !Uid::effective().is_root() {
            return;
        }
        assert!(in_child(|| drop_privileges(54321, 54321).is_ok()
            && getresuid().is_ok_and(|u| u.saved.as_raw() == 54321)
            && !prctl::get_dumpable().unwrap_or(true)
            && prctl::get_no_new_privs().unwrap_or(false)));
    }

    #[test]
    fn the_proof_notices_what_is_left() {
        if !Uid::effective().is_root() {
            return;
        }
        // Only the effective uid changed: the saved one leads back.
        assert!(in_child(|| nix::unistd::seteuid(Uid::from_raw(54321)).is_ok()
            && prove_unprivileged(Uid::from_raw(54321), Gid::from_raw(0)).is_err()));
        // Another user, but root's capabilities kept (PR_SET_KEEPCAPS).
        assert!(in_child(|| {
            let user = Uid::from_raw(54321);
            let group = Gid::from_raw(54321);
            prctl::set_keepcaps(true).is_ok()
                && setgroups(&[]).is_ok()
                && setresgid(group, group, group).is_ok()
                && setresuid(user, user, user).is_ok()
                && prove_unprivileged(user, group).is_err()
        }));
    }

    #[test]
    fn who_never_was_root_stays_so() {
        if !Uid::effective().is_root() {
            return;
        }
        assert!(in_child(|| stay_unprivileged().is_err()));
        assert!(in_child(|| drop_privileges(54321, 54321).is_ok() && stay_unprivileged().is_ok()));
        // Another effective uid, but still root.
        assert!(in_child(|| {
            let user = Uid::from_raw(54321);
            setresuid(user, user, Uid::from_raw(0)).is_ok() && stay_unprivileged().is_err()
        }));
    }

    #[test]
    fn nobody_drops_privileges_to_root() {
        for (uid, gid) in [(0, 1), (1, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert_eq!(drop_privileges(uid, gid).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_process_dies_of_a_signal_that_it_ignored_and_blocked() {
        use nix::sys::wait::{WaitStatus, waitpid};
        for signal in [Signal::SIGTERM, Signal::SIGPIPE, Signal::SIGSEGV, Signal::SIGKILL] {
            // SAFETY: as in_child(); the child only makes system calls.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let mut blocked = nix::sys::signal::SigSet::empty();
                    blocked.add(signal);
                    let _ = (harden(), ignore_signal(signal), blocked.thread_block(), die_of(signal));
                    exit_now(0)
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Signaled(child, signal, false));
                }
            }
        }
        assert!(die_of(Signal::SIGSTOP).is_err());
    }

    #[test]
    fn only_the_kept_descriptors_survive() {
        assert!(in_child(|| {
            let open = || dev_null().map(std::os::fd::IntoRawFd::into_raw_fd);
            let (Ok(a), Ok(b), Ok(c)) = (open(), open(), open()) else { return false };
            let is_open = |fd| nix::fcntl::fcntl(borrow(fd), nix::fcntl::FcntlArg::F_GETFD).is_ok();
            close_all_but(&[b, 1]).is_ok() && !is_open(a) && is_open(b) && !is_open(c) && is_open(1)
        }));
    }

    fn borrow(fd: RawFd) -> std::os::fd::BorrowedFd<'static> {
        // SAFETY: used for one F_GETFD in a child that exits right after; a closed number gives
        // EBADF.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
    }
}
