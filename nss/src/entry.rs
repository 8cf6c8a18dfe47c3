//! The C functions that glibc calls (`nss/nss.h`, and "NSS Modules Interface" in its manual).
//!
//! They check and fill the C side's pointers; what to answer is decided in [`lookup`]. Each one
//! catches a panic and answers UNAVAIL: unwinding would take down sshd, or whatever process has
//! called. Together with [`sys`] this is all unsafe code of the module.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use common::Passwd;
use common::logfmt::{Event, Line};
use common::uid;
use libc::{gid_t, group, passwd, size_t, uid_t};

use crate::answered::Answers;
use crate::env::Env;
use crate::lookup::{self, Refusal};
use crate::sys;

/// `enum nss_status`.
type Status = c_int;
const TRY_AGAIN: Status = -2;
const UNAVAILABLE: Status = -1;
const NOT_FOUND: Status = 0;
const SUCCESS: Status = 1;

/// The result of a call: on failure a status and an errno.
///
/// EIO makes no caller retry, as EAGAIN and EINTR would; ERANGE goes with TRYAGAIN only.
type Outcome = Result<(), (Status, c_int)>;
const NO_ENTRY: Outcome = Err((NOT_FOUND, libc::ENOENT));
const BROKEN: Outcome = Err((UNAVAILABLE, libc::EIO));

/// The answers that this process was given. A forked child has them too.
static ANSWERS: Answers = Answers::new();
/// The last line logged: sshd asks for the same user several times.
static LOGGED: Mutex<String> = Mutex::new(String::new());

/// Looks up a user by name, for getpwnam(3).
///
/// # Safety
/// As glibc calls it: `name` is NULL or a C string, `result` is NULL or may be written, `buffer` is
/// NULL or may be written for `length` bytes, `errnop` is NULL or may be written.
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

/// Looks up a user by uid, for getpwuid(3).
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

/// Completes the list of a user's groups, for initgroups(3).
///
/// Adds group `jupyterhub` for hub users, and removes the system's groups in which the services
/// before this one have found their name. Who is a hub user, [`answered`](crate::answered) knows.
///
/// # Safety
/// As glibc calls it: `user` is NULL or a C string; `groupsp` points to memory of malloc(3) for
/// `*size` gids, the first `*start` of which are set; all pointers are NULL or may be written.
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

/// Removes the gids from glibc's list that `keep` denies, and returns them.
///
/// After the call glibc reads as many gids as `*start` says, and looks for duplicates only among
/// those that were added (`internal_getgrouplist`; tried with 2.36 and 2.41).
///
/// # Safety
/// No pointer is NULL but `list`, which has room for `room` gids; the first `*start` of them are
/// set.
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
    // SAFETY: not NULL, as there is room for `count` gids, which are set by the caller's contract.
    // Nobody else has the list during this call.
    let gids = unsafe { std::slice::from_raw_parts_mut(list, count) };
    let (kept, out): (Vec<gid_t>, Vec<gid_t>) = gids.iter().partition(|gid| keep(**gid));
    for (place, gid) in gids.iter_mut().zip(&kept) {
        *place = *gid;
    }
    // SAFETY: it may be written, by the caller's contract; no more are left than there were.
    unsafe { *start = used - c_long::try_from(out.len()).unwrap_or(0) };
    Ok(out)
}

/// Adds a gid to glibc's list, which grows by doubling, as in glibc's own modules, up to `limit` if
/// that is above 0.
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
    // SAFETY: the first `used` gids of the list are set, by the caller's contract; an empty list
    // may be NULL, of which no slice is made.
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
        // SAFETY: the list is NULL or malloc's, by the caller's contract. On failure it stays as it
        // is.
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

/// Finds no group by name, for getgrnam(3): ours is in /etc/group.
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

/// Finds no group by gid, for getgrgid(3): ours is in /etc/group.
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

/// Starts a list of users that is always empty: only the hub could list them.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_setpwent(_stay_open: c_int) -> Status {
    SUCCESS
}

/// Ends the list of users at once.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_getpwent_r(
    _result: *mut passwd,
    _buffer: *mut c_char,
    _length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || NO_ENTRY)
}

/// Closes the list of users, for which nothing was opened.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_endpwent() -> Status {
    SUCCESS
}

/// Starts a list of groups that is always empty.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_setgrent(_stay_open: c_int) -> Status {
    SUCCESS
}

/// Ends the list of groups at once.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_getgrent_r(
    _result: *mut group,
    _buffer: *mut c_char,
    _length: size_t,
    errnop: *mut c_int,
) -> Status {
    guard(errnop, || NO_ENTRY)
}

/// Closes the list of groups, for which nothing was opened.
#[unsafe(no_mangle)]
pub extern "C" fn _nss_jupyterhub_endgrent() -> Status {
    SUCCESS
}

/// Runs a call and returns its status; a panic becomes UNAVAIL.
fn guard(errnop: *mut c_int, call: impl FnOnce() -> Outcome) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        // Dropping it could panic again.
        std::mem::forget(payload);
        BROKEN
    });
    let Err((status, errno)) = outcome else { return SUCCESS };
    if !errnop.is_null() {
        // SAFETY: not NULL, so it may be written, by every entry's contract. It is errno's own
        // address.
        unsafe { *errnop = errno };
    }
    status
}

/// The status of a refusal. Logs what an administrator should know.
fn refuse(refusal: Refusal) -> Result<Passwd, (Status, c_int)> {
    match refusal {
        Refusal::NotFound => Err((NOT_FOUND, libc::ENOENT)),
        Refusal::Unavailable(line) => {
            log(libc::LOG_ERR, &line);
            Err((UNAVAILABLE, libc::EIO))
        }
    }
}

/// Writes an entry for glibc: the strings to the buffer, and pointers to them to the result.
///
/// If the buffer is too small, nothing is written, and glibc calls again with a larger one.
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
    // SAFETY: the buffer may be written for `length` bytes, which is no less than is copied; it is
    // the caller's and so does not overlap a vector of ours. The offsets lie within what is copied.
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

/// Writes a line to the system log, unless it is the same as the last one.
fn log(priority: c_int, line: &str) {
    let Ok(mut logged) = LOGGED.try_lock() else { return };
    let Ok(text) = CString::new(Line::of(Event::Lookup, line).to_string()) else { return };
    if *logged == line {
        return;
    }
    sys::log(priority, &text);
    line.clone_into(&mut logged);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use common::LoginName;
    use common::uid::Ids;
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

    /// A list of gids as glibc passes it.
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
