//! Capabilities of the calling thread: capget(2) and capset(2), which neither nix nor glibc wrap.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: 64 bits in two halves (linux/capability.h).
const VERSION_3: u32 = 0x2008_0522;

/// Allows mounting (capabilities(7)).
pub(crate) const SYS_ADMIN: u32 = 21;
/// Allows changing to another uid.
#[cfg(test)]
pub(crate) const SETUID: u32 = 7;
/// Allows changing to another gid and the supplementary groups.
#[cfg(test)]
pub(crate) const SETGID: u32 = 6;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the effective, permitted and inheritable sets; a change of uid leaves the inheritable
/// set alone.
pub(crate) fn clear() -> io::Result<()> {
    set([Half::default(); 2])
}

/// Gives up every capability but these (of the first 32), for good.
pub(crate) fn keep_only(kept: &[u32]) -> io::Result<()> {
    let bits = kept.iter().fold(0, |bits, one| bits | 1 << one);
    set([Half { effective: bits, permitted: bits, inheritable: 0 }, Half::default()])
}

/// True if all three sets are empty.
pub(crate) fn are_empty() -> io::Result<bool> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half { effective: 1, permitted: 1, inheritable: 1 }; 2];
    // SAFETY: capget(2) fills two halves for version 3; `halves` has room for two.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(halves == [Half::default(); 2])
}

fn set(halves: [Half; 2]) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: both point to what capset(2) expects for version 3: one header, two halves.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    Errno::result(result)?;
    Ok(())
}
