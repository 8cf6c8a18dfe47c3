//! The system calls and the functions of libpam and libc that the module needs, with safe
//! signatures.
//!
//! Together with [`entry`](crate::entry), which libpam calls, this is all unsafe code of the
//! module. It imports no other file of it. Where nix has a safe call, that one is used;
//! `getpwnam_r` is called here, because nix reports some errors as "no such user".
#![allow(unsafe_code)]

use common::paths::OWN_LOG_SOCKET;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Gid, geteuid, getgrouplist};
use pam::constants::PamResultCode;
use pam::module::PamHandle;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_putenv(handle: *mut PamHandle, name_value: *const libc::c_char) -> libc::c_int;
    fn pam_getenv(handle: *mut PamHandle, name: *const libc::c_char) -> *const libc::c_char;
    fn pam_syslog(handle: *const PamHandle, priority: libc::c_int, format: *const libc::c_char, ...);
}

/// Sets a variable of the PAM environment (pam_putenv(3)); a `value` of `None` removes it.
pub fn putenv(handle: &mut PamHandle, name: &str, value: Option<&str>) -> Result<(), PamResultCode> {
    let text = value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
    let text = CString::new(text).map_err(|_| PamResultCode::PAM_BUF_ERR)?;
    // SAFETY: the handle is libpam's own, exclusively ours during the hook; libpam copies the
    // string.
    let result = unsafe { pam_putenv(handle, text.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(PamResultCode::try_from(result).unwrap_or(PamResultCode::PAM_SYSTEM_ERR))
    }
}

/// Reads a variable of the PAM environment (pam_getenv(3)).
pub fn getenv(handle: &PamHandle, name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: the handle is libpam's own; the call reads only (its C signature lacks a const). The
    // result points into the handle's environment and is copied before anything can change that.
    unsafe {
        let value = pam_getenv(std::ptr::from_ref(handle).cast_mut(), name.as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr(value).to_string_lossy().into_owned()) }
    }
}

/// Logs a line (pam_syslog(3)): facility authpriv, prefix `pam_jupyterhub(SERVICE:TYPE): `.
///
/// `priority` is one of `LOG_ERR` and the like. An sshd that runs without root has no usable
/// /dev/log, so the line goes to a socket of our own if there is one.
pub fn log(handle: &PamHandle, priority: libc::c_int, text: &str) {
    if !is_root() {
        let line = own_line(priority, std::process::id(), text);
        if UnixDatagram::unbound().and_then(|log| log.send_to(line.as_bytes(), OWN_LOG_SOCKET)).is_ok() {
            return;
        }
    }
    let Ok(text) = CString::new(text) else { return };
    // SAFETY: `%s` with one NUL-terminated string; nothing of the text is read as a format.
    unsafe { pam_syslog(handle, priority, c"%s".as_ptr(), text.as_ptr()) }
}

/// Formats a line as syslog(3) does, without the time, which the receiver adds.
fn own_line(priority: libc::c_int, pid: u32, text: &str) -> String {
    format!("<{}>pam_jupyterhub[{pid}]: {text}", libc::LOG_AUTHPRIV | priority)
}

/// The fields of a passwd entry that the module uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    pub uid: u32,
    pub gid: u32,
    pub shell: OsString,
}

/// Calls a `get*_r` function, with a larger buffer after each ERANGE, up to 1 MiB.
fn with_buffer<T>(
    mut call: impl FnMut(&mut [libc::c_char]) -> (libc::c_int, Option<T>),
) -> io::Result<Option<T>> {
    let mut size = 1024;
    loop {
        let mut buffer = vec![0; size];
        match call(&mut buffer) {
            (libc::ERANGE, _) if size < 1024 * 1024 => size *= 4,
            (libc::EINTR, _) => {}
            (_, Some(found)) => return Ok(Some(found)),
            // getpwnam(3) lists these as what systems return for "no such name".
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, None) => return Ok(None),
            (errno, None) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Looks up a user (getpwnam_r(3)); `None` if there is no such user.
pub fn passwd(user: &str) -> io::Result<Option<Entry>> {
    let name = CString::new(user)?;
    with_buffer(|buffer| {
        // SAFETY: passwd is plain data, for which all zeroes is a value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call and the length is the buffer's.
        let errno = unsafe {
            libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        if found.is_null() {
            return (errno, None);
        }
        let shell = if entry.pw_shell.is_null() {
            Vec::new()
        } else {
            // SAFETY: a found entry's strings are NUL-terminated and lie in `buffer`, which is
            // alive.
            unsafe { CStr::from_ptr(entry.pw_shell) }.to_bytes().to_vec()
        };
        let name = if entry.pw_name.is_null() {
            Vec::new()
        } else {
            // SAFETY: as the shell.
            unsafe { CStr::from_ptr(entry.pw_name) }.to_bytes().to_vec()
        };
        let (name, shell) = (OsString::from_vec(name), OsString::from_vec(shell));
        (errno, Some(Entry { name, uid: entry.pw_uid, gid: entry.pw_gid, shell }))
    })
}

/// Looks up the gid of a group (getgrnam_r(3)); `None` if there is no such group.
pub fn group_id(group: &str) -> io::Result<Option<u32>> {
    let name = CString::new(group)?;
    with_buffer(|buffer| {
        // SAFETY: group is plain data, for which all zeroes is a value.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call and the length is the buffer's.
        let errno = unsafe {
            libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        (errno, if found.is_null() { None } else { Some(entry.gr_gid) })
    })
}

/// Lists all groups of a user (getgrouplist(3)), as sshd does for `Match Group`.
pub fn groups(user: &str, gid: u32) -> io::Result<Vec<u32>> {
    let groups = getgrouplist(&CString::new(user)?, Gid::from_raw(gid))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Waits until `fd` is readable or closed at the other end; false if `end` comes first.
pub fn readable(fd: BorrowedFd<'_>, end: Instant) -> io::Result<bool> {
    loop {
        // Rounded up to whole milliseconds, so that the last wait doesn't spin.
        let left = end.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left) {
            Ok(ready) => return Ok(ready > 0),
            // One of sshd's own timers.
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a process (pidfd_open(2)). The descriptor becomes readable when the process ends.
pub fn pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just given us this descriptor (close-on-exec); nobody else owns
        // it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True if sshd runs as root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Moves this process into the mount, network, IPC and UTS namespaces of `process`, and its future
/// children into its pid namespace (setns(2)). All or nothing (Linux 5.8).
///
/// The kernel refuses this to a process with threads; sshd's have one.
pub fn join(process: &OwnedFd) -> io::Result<()> {
    let visible = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    let all = visible | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    Ok(setns(process.as_fd(), all)?)
}

/// Makes the child close, at its exec, every descriptor it inherits from sshd, such as the client's
/// connection.
pub fn close_inherited(command: &mut Command) {
    // Marked close-on-exec instead of closed: the pipe by which std reports a failed exec must live
    // until then.
    let close = || {
        // SAFETY: three integers; async-signal-safe, a system call only.
        match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) }
        {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock, as the time between fork and exec
    // demands.
    unsafe { command.pre_exec(close) };
}

/// The signal handling that running a child needs. Dropping it restores sshd's own.
///
/// SIGCHLD gets its default, or sshd's handler would reap our child. SIGPIPE is ignored, or a child
/// that dies early would take sshd with it.
pub struct Signals {
    child: Option<SigAction>,
    pipe: Option<SigAction>,
}

impl Signals {
    /// Changes both signals.
    pub fn for_children() -> Self {
        Self {
            child: set(Signal::SIGCHLD, SigHandler::SigDfl),
            pipe: set(Signal::SIGPIPE, SigHandler::SigIgn),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, before) in [(Signal::SIGCHLD, self.child), (Signal::SIGPIPE, self.pipe)] {
            if let Some(before) = before {
                // SAFETY: `before` was in force for this signal; its handler is sshd's own and as
                // safe as it was.
                let _ = unsafe { sigaction(signal, &before) };
            }
        }
    }
}

/// Sets the action of a signal to one without code (default, ignore) and returns the previous one.
fn set(signal: Signal, to: SigHandler) -> Option<SigAction> {
    let action = SigAction::new(to, SaFlags::empty(), SigSet::empty());
    // SAFETY: the callers pass SIG_DFL and SIG_IGN, which run no code of ours.
    unsafe { sigaction(signal, &action) }.ok()
}

/// Opens a descriptor without close-on-exec, as sshd has some; std sets it on its own.
#[cfg(test)]
pub fn inheritable() -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string.
    match unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: open(2) has just made it, and nobody else has it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lookups_of_local_accounts() {
        let root = passwd("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(passwd("no such user").unwrap(), None);
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("no such group").unwrap(), None);
        assert!(groups("root", 4242).unwrap().contains(&4242));
        assert!(passwd("a\0b").is_err());
    }

    #[test]
    fn a_line_for_a_logger_of_our_own() {
        assert_eq!(own_line(libc::LOG_NOTICE, 7, "session=1 x"), "<85>pam_jupyterhub[7]: session=1 x");
    }

    #[test]
    fn waiting_ends() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(!readable(reader.as_fd(), soon()).unwrap());
        drop(writer);
        assert!(readable(reader.as_fd(), soon()).unwrap());
    }
}
