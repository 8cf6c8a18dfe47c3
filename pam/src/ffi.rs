//! Every call into C: libpam's environment and log, account lookups, namespaces, signals, and the entry
//! points that libpam calls.
#![allow(unsafe_code)]

use crate::client::Level;
use crate::hooks::Module;
use accounts::paths::OWN_LOG_SOCKET;
use pam::constants::PamResultCode;
use pam::module::PamHandle;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

// The six pam_sm_* functions. A panic in a hook becomes PAM_ABORT: never success, never "ignore".
pam::pam_hooks!(Module);

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_putenv(handle: *mut PamHandle, name_value: *const libc::c_char) -> libc::c_int;
    fn pam_getenv(handle: *mut PamHandle, name: *const libc::c_char) -> *const libc::c_char;
    fn pam_syslog(handle: *const PamHandle, priority: libc::c_int, format: *const libc::c_char, ...);
}

/// pam_putenv(3): `value` of `None` removes the variable.
pub fn putenv(handle: &mut PamHandle, name: &str, value: Option<&str>) -> Result<(), PamResultCode> {
    let text = value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
    let text = CString::new(text).map_err(|_| PamResultCode::PAM_BUF_ERR)?;
    // SAFETY: the handle is libpam's own, exclusively ours during the hook; libpam copies the string.
    let result = unsafe { pam_putenv(handle, text.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(PamResultCode::try_from(result).unwrap_or(PamResultCode::PAM_SYSTEM_ERR))
    }
}

/// pam_getenv(3).
pub fn getenv(handle: &PamHandle, name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: the handle is libpam's own; the call reads only (its C signature lacks a const). The result
    // points into the handle's environment and is copied before anything can change that.
    unsafe {
        let value = pam_getenv(std::ptr::from_ref(handle).cast_mut(), name.as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr(value).to_string_lossy().into_owned()) }
    }
}

/// pam_syslog(3): facility authpriv, after `pam_jupyterhub(SERVICE:TYPE): `. Where sshd isn't root's, nobody could make
/// /dev/log: the line goes to a socket of our own, if it is there.
pub fn log(handle: &PamHandle, level: Level, text: &str) {
    let priority = match level {
        Level::Error => libc::LOG_ERR,
        Level::Notice => libc::LOG_NOTICE,
        Level::Info => libc::LOG_INFO,
    };
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

/// A line as syslog(3) sends it, without the time, which loggers know themselves.
fn own_line(priority: libc::c_int, pid: u32, text: &str) -> String {
    format!("<{}>pam_jupyterhub[{pid}]: {text}", libc::LOG_AUTHPRIV | priority)
}

/// The parts of a passwd entry that concern us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The login name.
    pub name: OsString,
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The login shell.
    pub shell: OsString,
}

/// Calls a `get*_r` function with buffers that grow up to 1 MiB.
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

/// getpwnam_r(3). `None`: no such user.
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
            // SAFETY: a found entry's strings are NUL-terminated and lie in `buffer`, which is alive.
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

/// getgrnam_r(3): the gid of a group. `None`: no such group.
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

/// getgrouplist(3): every group of a user, the way that sshd's Match block learns them.
pub fn groups(user: &str, gid: u32) -> io::Result<Vec<u32>> {
    /// More than any Linux process can have (NGROUPS_MAX).
    const MOST: libc::c_int = 65536;
    let name = CString::new(user)?;
    let mut count: libc::c_int = 64;
    loop {
        let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
        let room = count;
        // SAFETY: the list has room for `count` ids.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if result >= 0 {
            groups.truncate(usize::try_from(result).unwrap_or(0));
            return Ok(groups);
        }
        if room >= MOST {
            return Err(io::Error::other("more groups than a process can have"));
        }
        count = count.max(room.saturating_mul(2)).min(MOST);
    }
}

/// Waits until `fd` can be read, has ended, or `end` has come (false).
pub fn readable(fd: BorrowedFd<'_>, end: Instant) -> io::Result<bool> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Rounded up, so that the last wait doesn't spin.
        let left = libc::c_int::try_from((left + Duration::from_micros(999)).as_millis())
            .unwrap_or(libc::c_int::MAX);
        let mut one = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, valid for the call.
        match unsafe { libc::poll(&raw mut one, 1, left) } {
            0 => return Ok(false),
            n if n > 0 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                // sshd's own timers may interrupt.
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// pidfd_open(2): readable when the process has ended.
pub fn pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just given us this descriptor (close-on-exec); nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// geteuid(2): whether sshd is root's.
pub fn is_root() -> bool {
    // SAFETY: takes nothing, and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// setns(2): this process moves to the mount, network, IPC and UTS namespaces of the given one, and its children
/// will be in its pid namespace. All of it or nothing (Linux 5.8).
pub fn join(process: &OwnedFd) -> io::Result<()> {
    let visible = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID;
    let all = visible | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: an open descriptor and flags. sshd's processes have one thread, as setns asks for.
    match unsafe { libc::setns(process.as_raw_fd(), all) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes in the child whatever sshd has open (its connection, host keys' agents) at the time of the exec.
pub fn close_inherited(command: &mut Command) {
    // CLOEXEC instead of a plain close: the standard library's own pipe, which reports a failed exec, has to
    // live until then.
    let close = || {
        // SAFETY: three integers; async-signal-safe, a system call only.
        match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) }
        {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock, as the time between fork and exec demands.
    unsafe { command.pre_exec(close) };
}

/// Sets two signals to what running a child needs, and restores sshd's own handlers when dropped: SIGCHLD to
/// the default, or sshd's handler would reap our child; SIGPIPE ignored, or a child that dies early would end
/// sshd with it.
pub struct Signals {
    child: Option<libc::sigaction>,
    pipe: Option<libc::sigaction>,
}

impl Signals {
    /// Sets both.
    pub fn for_children() -> Self {
        Self { child: set(libc::SIGCHLD, libc::SIG_DFL), pipe: set(libc::SIGPIPE, libc::SIG_IGN) }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, before) in [(libc::SIGCHLD, self.child), (libc::SIGPIPE, self.pipe)] {
            if let Some(before) = before {
                // SAFETY: `before` is what sigaction returned for the same signal.
                unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
            }
        }
    }
}

fn set(signal: libc::c_int, to: libc::sighandler_t) -> Option<libc::sigaction> {
    // SAFETY: sigaction is plain data, for which all zeroes is a value (no flags, an empty mask).
    let (mut new, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    new.sa_sigaction = to;
    // SAFETY: both structs are valid for the call; SIG_DFL and SIG_IGN run no code of ours.
    (unsafe { libc::sigaction(signal, &raw const new, &raw mut before) } == 0).then_some(before)
}

/// For tests: a descriptor without close-on-exec, as sshd's may be. Rust's own have it.
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
    use std::os::fd::AsFd;

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
