//! The C interface, as glibc calls it (`nss/nss.h`, and "NSS Modules Interface" in its manual).
//!
//! All unsafe code of the module. Each entry stops a panic and answers UNAVAIL instead: an unwinding panic
//! would take sshd down, or any other process on the host.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use accounts::Passwd;
use accounts::logfmt::{Event, Line};
use accounts::uid;
use libc::{gid_t, group, passwd, size_t, uid_t};

use crate::answered::Answers;
use crate::env::Env;
use crate::lookup::{self, Refusal};

/// `enum nss_status`.
type Status = c_int;
const TRY_AGAIN: Status = -2;
const UNAVAILABLE: Status = -1;
const NOT_FOUND: Status = 0;
const SUCCESS: Status = 1;

/// What a call comes to: a status and, unless it is [`SUCCESS`], an errno. EIO makes nobody retry, EAGAIN
/// and EINTR would; ERANGE goes with TRYAGAIN only.
type Outcome = Result<(), (Status, c_int)>;
const NO_ENTRY: Outcome = Err((NOT_FOUND, libc::ENOENT));
const BROKEN: Outcome = Err((UNAVAILABLE, libc::EIO));

/// Whom this process has been told about. A fork takes it along.
static ANSWERS: Answers = Answers::new();
/// The last line logged: sshd asks for the same user several times.
static LOGGED: Mutex<String> = Mutex::new(String::new());

/// `getpwnam_r` of this module.
///
/// # Safety
/// As glibc calls it: `name` is NULL or a C string, `result` is NULL or may be written, `buffer` is NULL or
/// may be written for `length` bytes, `errnop` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_jupyterhub_getpwnam_r(
    name: *const c_char,
    result: *mut passwd,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || {
        if name.is_null() {
            return NO_ENTRY;
        }
        // SAFETY: not NULL, so a C string, by this function's contract.
        let name = unsafe { CStr::from_ptr(name) };
        let found = lookup::by_name(&Env::host(), &ANSWERS, name.to_bytes());
        let entry = match found {
            Ok(found) => {
                if let Some(line) = found.warning {
                    log(libc::LOG_WARNING, &line);
                }
                found.entry
            }
            Err(refusal) => refuse(refusal)?,
        };
        // SAFETY: passed on from this function's contract.
        unsafe { fill(&entry, result, buffer, length) }
    })
}

/// `getpwuid_r` of this module.
///
/// # Safety
/// As [`_nss_jupyterhub_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_jupyterhub_getpwuid_r(
    uid: uid_t,
    result: *mut passwd,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || {
        let env = Env::host();
        let entry = lookup::by_uid(&env, uid).or_else(|refusal| match refusal {
            // ls(1) must not write to the system log.
            Refusal::Unavailable(_) if !env.is_sshd() => Err((UNAVAILABLE, libc::EIO)),
            other => refuse(other),
        })?;
        // SAFETY: passed on from this function's contract.
        unsafe { fill(&entry, result, buffer, length) }
    })
}

/// `initgroups_dyn` of this module: adds group `jupyterhub` to hub users, and takes out those of the system that the
/// services before this one have found their name in. See answered.rs.
///
/// # Safety
/// As glibc calls it: `user` is NULL or a C string; `groupsp` points to memory of malloc(3) for `*size` gids,
/// the first `*start` of which are set; all pointers are NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_jupyterhub_initgroups_dyn(
    user: *const c_char,
    primary: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groupsp: *mut *mut gid_t,
    limit: c_long,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || {
        if user.is_null() || start.is_null() || size.is_null() || groupsp.is_null() {
            return NO_ENTRY;
        }
        // SAFETY: not NULL, so a C string, by this function's contract.
        let name = unsafe { CStr::from_ptr(user) };
        let Some(gid) = ANSWERS.group_of(name.to_bytes(), primary) else { return NO_ENTRY };
        let passed_on = |one: gid_t| one == primary || one == gid || uid::is_group_passed_on(one);
        // SAFETY: not NULL, and the list is as this function's contract says.
        let taken_out = unsafe { keep_groups(passed_on, start, *size, *groupsp)? };
        if !taken_out.is_empty() {
            log(libc::LOG_WARNING, &lookup::not_passed_on(name.to_bytes(), &taken_out));
        }
        // SAFETY: as above.
        unsafe { add_group(gid, start, size, groupsp, limit) }
    })
}

/// Takes out of glibc's list what `keep` denies, and returns it. glibc reads as many gids as `*start` says after the call,
/// and looks for doubles only in those that were added (`internal_getgrouplist`, tried with 2.36 and 2.41).
///
/// # Safety
/// No pointer is NULL but `list`, which has room for `room` gids; the first `*start` of them are set.
unsafe fn keep_groups(
    keep: impl Fn(gid_t) -> bool,
    start: *mut c_long,
    room: c_long,
    list: *mut gid_t,
) -> Result<Vec<gid_t>, (Status, c_int)> {
    // SAFETY: the caller's contract: it may be read.
    let used = unsafe { *start };
    let (Ok(count), true) = (usize::try_from(used), used <= room && (!list.is_null() || room == 0)) else {
        return Err((UNAVAILABLE, libc::EIO));
    };
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: not NULL, as there is room for `count` gids, which are set by the caller's contract. Nobody else has the
    // list during this call.
    let gids = unsafe { std::slice::from_raw_parts_mut(list, count) };
    let (kept, out): (Vec<gid_t>, Vec<gid_t>) = gids.iter().partition(|gid| keep(**gid));
    for (place, gid) in gids.iter_mut().zip(&kept) {
        *place = *gid;
    }
    // SAFETY: it may be written, by the caller's contract; no more are left than there were.
    unsafe { *start = used - c_long::try_from(out.len()).unwrap_or(0) };
    Ok(out)
}

/// Adds a gid to glibc's list, as glibc's own modules do: it grows by doubling, `limit` above 0 bounds it.
///
/// # Safety
/// No pointer is NULL; the list is as [`_nss_jupyterhub_initgroups_dyn`] says.
unsafe fn add_group(
    gid: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groupsp: *mut *mut gid_t,
    limit: c_long,
) -> Outcome {
    // SAFETY: the caller's contract: all three may be read.
    let (used, room, list) = unsafe { (*start, *size, *groupsp) };
    let (Ok(count), true) = (usize::try_from(used), used <= room && (!list.is_null() || room == 0)) else {
        return BROKEN;
    };
    // SAFETY: the first `used` gids of the list are set, by the caller's contract; an empty list may be NULL,
    // of which no slice is made.
    let known = count > 0 && unsafe { std::slice::from_raw_parts(list, count) }.contains(&gid);
    if known || (limit > 0 && used >= limit) {
        return Ok(());
    }
    let mut list = list;
    if used == room {
        let wanted = room.saturating_mul(2).max(16);
        let wanted = if limit > 0 { wanted.min(limit) } else { wanted };
        let bytes = usize::try_from(wanted).ok().and_then(|n| n.checked_mul(size_of::<gid_t>()));
        let Some(bytes) = bytes else { return BROKEN };
        // SAFETY: the list is NULL or malloc's, by the caller's contract. On failure it stays as it is.
        list = unsafe { libc::realloc(list.cast(), bytes) }.cast();
        if list.is_null() {
            return Err((TRY_AGAIN, libc::ENOMEM));
        }
        // SAFETY: both may be written; the old list is gone, so the new one is handed over at once.
        unsafe {
            *groupsp = list;
            *size = wanted;
        }
    }
    // SAFETY: the list has room for more than `used` gids now.
    unsafe {
        *list.add(count) = gid;
        *start = used + 1;
    }
    Ok(())
}

/// `getgrnam_r` of this module: its group is in /etc/group.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_getgrnam_r(
    _name: *const c_char,
    _result: *mut group,
    _buffer: *mut c_char,
    _length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || NO_ENTRY)
}

/// `getgrgid_r` of this module: its group is in /etc/group.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_getgrgid_r(
    _gid: gid_t,
    _result: *mut group,
    _buffer: *mut c_char,
    _length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || NO_ENTRY)
}

/// Hub users are not enumerated: the hub alone knows them.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_setpwent(_stay_open: c_int) -> Status {
    SUCCESS
}

/// The end of an empty list.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_getpwent_r(
    _result: *mut passwd,
    _buffer: *mut c_char,
    _length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || NO_ENTRY)
}

/// Nothing was opened.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_endpwent() -> Status {
    SUCCESS
}

/// As [`_nss_jupyterhub_setpwent`].
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_setgrent(_stay_open: c_int) -> Status {
    SUCCESS
}

/// As [`_nss_jupyterhub_getpwent_r`].
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_getgrent_r(
    _result: *mut group,
    _buffer: *mut c_char,
    _length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || NO_ENTRY)
}

/// As [`_nss_jupyterhub_endpwent`].
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_endgrent() -> Status {
    SUCCESS
}

/// Opens a directory with O_PATH (openat2(2)): no permission to read it is needed. Without `beneath` the name is an
/// absolute path and links in it are followed; otherwise it stays below that directory and none of its
/// components may be a link (ELOOP). Makes system calls only.
pub fn open_directory(beneath: Option<BorrowedFd<'_>>, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: an open_how of zeroes is valid: three numbers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // O_DIRECTORY is no negative number.
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).unsigned_abs().into();
    if beneath.is_some() {
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    }
    let at = beneath.map_or(libc::AT_FDCWD, |at| at.as_raw_fd());
    // SAFETY: `name` is a C string and `how` a struct of the size given; both live through the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, at, name.as_ptr(), &raw const how, size_of_val(&how)) };
    match c_int::try_from(fd) {
        // SAFETY: openat2 has just made the descriptor, which nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The uid and gid that own an opened file. Makes a system call only.
pub fn owner(file: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // SAFETY: a stat of zeroes is valid: numbers.
    let mut facts: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `facts` may be written.
    match unsafe { libc::fstat(file.as_raw_fd(), &raw mut facts) } {
        0 => Ok((facts.st_uid, facts.st_gid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A process of ours that the program we are in never learns of.
pub struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
}

/// Runs `work` in a child process, which inherits no descriptor but `keep`.
///
/// It is made without an exit signal (clone(2)), so that no SIGCHLD is sent, and no wait of this program that lacks
/// __WALL finds it, whatever it does with its own children. fork(3) would also run the program's atfork
/// handlers. Other threads may hold locks that the child never gets: `work` must make system calls only, and
/// neither allocate nor panic. All signals are blocked in it but SIGKILL and SIGSTOP: the program's handlers
/// must not run twice.
pub fn spawn(keep: BorrowedFd<'_>, work: impl FnOnce()) -> io::Result<Child> {
    let flags = c_long::from(libc::CLONE_PIDFD);
    // s390 has the stack before the flags; NULL is the parent's, copied.
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    let mut pidfd: c_int = -1;
    // SAFETY: sets of signals are numbers, which sigfillset(3) and sigprocmask(2) write. The memory is copied
    // (no CLONE_VM) and the child never returns from this block, so it is as after fork(2); `pidfd` may be
    // written, and the two last arguments are not looked at without their flags.
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

/// For the child: closes what it has of its parent, which may be the client's connection and would stay open
/// for as long as the child hangs; and has it killed when the parent ends.
fn leave_parent(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().unsigned_abs();
    // SAFETY: integers only. No owner of a closed descriptor runs in the child, which leaves by _exit(2).
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if keep > 0 {
            libc::syscall(libc::SYS_close_range, 0, keep - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, keep + 1, libc::c_uint::MAX, 0);
    }
}

impl Child {
    /// Waits until it has ended, and then removes what is left of it, or until the time is over.
    pub fn ended_by(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut event = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let milliseconds = c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX);
            // SAFETY: one pollfd, which may be written.
            match unsafe { libc::poll(&raw mut event, 1, milliseconds) } {
                // A signal that the program handles; it must not make us wait longer.
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                0 if left > Duration::ZERO => {}
                1 => {
                    // SAFETY: integers and NULL. Nobody else waits for the child, so the number is still its.
                    unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
                    return true;
                }
                _ => return false,
            }
        }
    }

    /// Kills it. One that hangs in the kernel may still take its time.
    pub fn kill(&self) {
        // SAFETY: integers. The child has not been waited for, so the number is still its.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

/// Runs a call; a panic in it becomes UNAVAIL.
fn guard(errnop: *mut c_int, call: impl FnOnce() -> Outcome) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        // Dropping it could panic again.
        std::mem::forget(payload);
        BROKEN
    });
    let Err((status, errno)) = outcome else { return SUCCESS };
    if !errnop.is_null() {
        // SAFETY: not NULL, so it may be written, by every entry's contract. It is errno's own address.
        unsafe { *errnop = errno };
    }
    status
}

/// What glibc is told about a refusal; what an administrator should know is logged.
fn refuse(refusal: Refusal) -> Result<Passwd, (Status, c_int)> {
    match refusal {
        Refusal::NotFound => Err((NOT_FOUND, libc::ENOENT)),
        Refusal::Unavailable(line) => {
            log(libc::LOG_ERR, &line);
            Err((UNAVAILABLE, libc::EIO))
        }
    }
}

/// Writes an entry for glibc: the strings into the buffer, pointers to them into the result. With too small
/// a buffer nothing is written, and glibc comes again with a larger one.
///
/// # Safety
/// `result` is NULL or may be written; `buffer` is NULL or may be written for `length` bytes.
unsafe fn fill(entry: &Passwd, result: *mut passwd, buffer: *mut c_char, length: size_t) -> Outcome {
    let fields = [entry.name.as_str(), "*", entry.gecos, entry.dir.as_str(), entry.shell];
    if result.is_null() || fields.iter().any(|field| field.contains('\0')) {
        return BROKEN;
    }
    let mut strings: Vec<u8> = Vec::new();
    let offsets = fields.map(|field| {
        let at = strings.len();
        strings.extend_from_slice(field.as_bytes());
        strings.push(0);
        at
    });
    if buffer.is_null() || strings.len() > length {
        return Err((TRY_AGAIN, libc::ERANGE));
    }
    // SAFETY: the buffer may be written for `length` bytes, which is no less than is copied; it is the
    // caller's and so does not overlap a vector of ours. The offsets lie within what is copied.
    unsafe {
        std::ptr::copy_nonoverlapping(strings.as_ptr().cast(), buffer, strings.len());
        let [name, password, gecos, dir, shell] = offsets.map(|at| buffer.add(at));
        result.write(passwd {
            pw_name: name,
            pw_passwd: password,
            pw_uid: entry.ids.uid(),
            pw_gid: entry.ids.gid(),
            pw_gecos: gecos,
            pw_dir: dir,
            pw_shell: shell,
        });
    }
    Ok(())
}

/// Writes a line to the system log, where sshd and PAM write, once in a row.
fn log(priority: c_int, line: &str) {
    let Ok(mut logged) = LOGGED.try_lock() else { return };
    let Ok(text) = CString::new(Line::of(Event::Lookup, line).to_string()) else { return };
    if *logged == line {
        return;
    }
    // SAFETY: the format is a constant with one %s, for which a C string is given; the name given to
    // openlog(3), which keeps the pointer, is static. closelog(3) forgets it: sshd and PAM open the log anew
    // for each line.
    unsafe {
        libc::openlog(c"nss_jupyterhub".as_ptr(), libc::LOG_PID, libc::LOG_AUTHPRIV);
        libc::syslog(libc::LOG_AUTHPRIV | priority, c"%s".as_ptr(), text.as_ptr());
        libc::closelog();
    }
    line.clone_into(&mut logged);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use accounts::LoginName;
    use accounts::uid::Ids;
    use proptest::prelude::*;
    use std::ptr::null_mut;

    fn entry() -> Passwd {
        Passwd::new(
            &LoginName::parse("alice+gpu").unwrap(),
            Ids::new(1000, 100).unwrap(),
            "/home/alice".to_owned(),
        )
    }

    fn empty() -> passwd {
        // SAFETY: a passwd of zeroes holds NULL pointers and numbers.
        unsafe { std::mem::zeroed() }
    }

    fn text(pointer: *const c_char) -> String {
        // SAFETY: the tests pass strings that fill() has just written.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn an_entry_has_all_its_fields() {
        let mut result = empty();
        let mut buffer = [1 as c_char; 256];
        // SAFETY: result and buffer are ours and as large as stated.
        let outcome = unsafe { fill(&entry(), &mut result, buffer.as_mut_ptr(), buffer.len()) };
        assert_eq!(outcome, Ok(()));
        assert_eq!((result.pw_uid, result.pw_gid), (1000, 100));
        assert_eq!(
            [result.pw_name, result.pw_passwd, result.pw_gecos, result.pw_dir, result.pw_shell]
                .map(|p| text(p)),
            ["alice+gpu", "*", "JupyterHub user", "/home/alice", "/usr/lib/jupyterhub-openssh/session"]
        );
    }

    #[test]
    fn a_panic_is_unavailable() {
        let mut errno = 0;
        assert_eq!(guard(&mut errno, || panic!("for the test")), UNAVAILABLE);
        assert_eq!(errno, libc::EIO);
        assert_eq!(guard(null_mut(), || NO_ENTRY), NOT_FOUND);
        assert_eq!(guard(null_mut(), || Ok(())), SUCCESS);
    }

    #[test]
    fn null_pointers_and_other_programs_get_no_answer() {
        let mut result = empty();
        let mut buffer = [0 as c_char; 16];
        let mut errno = 0;
        // SAFETY: pointers are NULL or ours, as large as stated.
        unsafe {
            let null = _nss_jupyterhub_getpwnam_r(std::ptr::null(), null_mut(), null_mut(), 0, null_mut());
            assert_eq!(null, NOT_FOUND);
            for name in [c"alice", c"root", c"", c"\xff", c"a:b"] {
                let status = _nss_jupyterhub_getpwnam_r(
                    name.as_ptr(),
                    &mut result,
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    &mut errno,
                );
                assert_eq!((status, errno), (NOT_FOUND, libc::ENOENT), "{name:?}");
            }
            for uid in [0, 1, 999, 65_534, u32::MAX] {
                let status = _nss_jupyterhub_getpwuid_r(uid, null_mut(), null_mut(), 0, null_mut());
                assert_eq!(status, NOT_FOUND, "{uid}");
            }
            let null = _nss_jupyterhub_initgroups_dyn(
                c"alice".as_ptr(),
                100,
                null_mut(),
                null_mut(),
                null_mut(),
                0,
                null_mut(),
            );
            assert_eq!(null, NOT_FOUND);
            assert_eq!(fill(&entry(), null_mut(), buffer.as_mut_ptr(), 16), BROKEN);
            assert_eq!(fill(&entry(), &mut result, null_mut(), 0), Err((TRY_AGAIN, libc::ERANGE)));
        }
        assert_eq!(_nss_jupyterhub_setpwent(0), SUCCESS);
        assert_eq!(_nss_jupyterhub_getpwent_r(&mut result, null_mut(), 0, &mut errno), NOT_FOUND);
        assert_eq!(_nss_jupyterhub_getgrgid_r(990, null_mut(), null_mut(), 0, &mut errno), NOT_FOUND);
    }

    /// A list of gids as glibc keeps it.
    struct List {
        used: c_long,
        room: c_long,
        gids: *mut gid_t,
    }

    impl List {
        fn new(gids: &[gid_t]) -> Self {
            // SAFETY: room for as many gids as are copied, and at least one.
            let list = unsafe { libc::malloc(size_of_val(gids).max(4)) }.cast::<gid_t>();
            assert!(!list.is_null());
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(gids.as_ptr(), list, gids.len()) };
            let count = c_long::try_from(gids.len()).unwrap();
            Self { used: count, room: count, gids: list }
        }

        fn add(&mut self, gid: gid_t, limit: c_long) -> Outcome {
            // SAFETY: the list is malloc's, with as many gids as stated.
            unsafe { add_group(gid, &mut self.used, &mut self.room, &mut self.gids, limit) }
        }

        fn gids(&self) -> Vec<gid_t> {
            // SAFETY: the first `used` gids are set.
            unsafe { std::slice::from_raw_parts(self.gids, usize::try_from(self.used).unwrap()) }.to_vec()
        }
    }

    impl Drop for List {
        fn drop(&mut self) {
            // SAFETY: the list is malloc's.
            unsafe { libc::free(self.gids.cast()) };
        }
    }

    #[test]
    fn the_group_is_added_once_and_within_the_limit() {
        let mut list = List::new(&[100]);
        assert_eq!(list.add(990, -1), Ok(()));
        assert_eq!(list.add(990, -1), Ok(()));
        assert_eq!(list.gids(), [100, 990]);
        for gid in 0..200 {
            assert_eq!(list.add(2000 + gid, 65_536), Ok(()));
        }
        assert_eq!(list.gids().len(), 202);
        let mut full = List::new(&[1, 2, 3]);
        assert_eq!(full.add(990, 3), Ok(()));
        assert_eq!(full.gids(), [1, 2, 3]);
        assert_eq!(full.add(990, 4), Ok(()));
        assert_eq!((full.gids(), full.room), (vec![1, 2, 3, 990], 4));
        full.used = 9;
        assert_eq!(full.add(991, -1), BROKEN);
        full.used = -1;
        assert_eq!(full.add(991, -1), BROKEN);
        full.used = 0;
    }

    #[test]
    fn groups_follow_the_entry_that_was_given() {
        let ids = Ids::new(1000, 100).unwrap();
        let hubuser = Passwd::new(&LoginName::parse("hubuser").unwrap(), ids, "/home/hubuser".to_owned());
        assert!(ANSWERS.remember("hubuser", &hubuser, 990));
        // In sshd `files` has found the name in adm (4), docker (998) and staff (3000) by then.
        let mut list = List::new(&[100, 4, 3000, 998]);
        let mut call = |name: &CStr, primary| {
            let mut errno = 0;
            // SAFETY: the list is as glibc's.
            unsafe {
                _nss_jupyterhub_initgroups_dyn(
                    name.as_ptr(),
                    primary,
                    &mut list.used,
                    &mut list.room,
                    &mut list.gids,
                    -1,
                    &mut errno,
                )
            }
        };
        assert_eq!(call(c"root", 0), NOT_FOUND);
        assert_eq!(call(c"hubuser", 0), NOT_FOUND);
        assert_eq!(call(c"hubuser", 100), SUCCESS);
        assert_eq!(list.gids(), [100, 3000, 990]);
    }

    proptest! {
        #[test]
        fn a_buffer_is_never_overrun(length in 0_usize..200) {
            let mut result = empty();
            let mut buffer = [0x55 as c_char; 220];
            // SAFETY: the buffer is larger than stated.
            let outcome = unsafe { fill(&entry(), &mut result, buffer.as_mut_ptr(), length) };
            prop_assert!(buffer[length..].iter().all(|byte| *byte == 0x55));
            if outcome.is_ok() {
                prop_assert_eq!(text(result.pw_shell), "/usr/lib/jupyterhub-openssh/session");
            } else {
                prop_assert_eq!(outcome, Err((TRY_AGAIN, libc::ERANGE)));
                prop_assert!(result.pw_name.is_null() && buffer.iter().all(|byte| *byte == 0x55));
            }
        }
    }
}
