//! Installs a filter of system calls (seccomp(2)).
#![allow(unsafe_code)]

use std::io;

/// Installs `program` for all threads of this process and for what they start, for good. It adds to
/// the filters already installed: the strictest answer of all counts. With `logged` the kernel logs
/// each refused call; calls that kill are always logged.
///
/// # Errors
/// seccomp(2) fails; `EACCES` without no_new_privs.
pub(crate) fn install(program: &[seccompiler::sock_filter], logged: bool) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> = program
        .iter()
        .map(|step| libc::sock_filter { code: step.code, jt: step.jt, jf: step.jf, k: step.k })
        .collect();
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let whole = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let log = if logged { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: `whole` names the steps of `program`, which outlive the call; the kernel copies and
    // checks them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC | log,
            &raw const whole,
        )
    };
    match result {
        0 => Ok(()),
        // The id of a thread that could not be synchronised.
        1.. => Err(io::Error::other("a thread has a filter of its own")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True if this kernel has filters that can end a process (Linux 4.14). Emulators of another
/// processor have none.
#[must_use]
pub(crate) fn is_available() -> bool {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: reads the number that the pointer names.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Makes any system call, for tests of filters. Its arguments must be harmless if the call is let
/// through.
#[cfg(test)]
pub(crate) fn call(
    number: libc::c_long,
    arguments: [libc::c_long; 5],
) -> Result<libc::c_long, nix::errno::Errno> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: for tests only, in a child that does nothing else: the callers pass null pointers and
    // small integers.
    nix::errno::Errno::result(unsafe { libc::syscall(number, a, b, c, d, e) })
}
