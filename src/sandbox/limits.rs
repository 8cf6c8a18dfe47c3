//! Limits of a process (getrlimit(2)). Not RLIMIT_NPROC: the kernel counts the threads of all processes of a uid against
//! it, and all gateways share one.

use nix::sys::resource::{Resource, setrlimit};
use std::io;

/// Private writable memory, in bytes. In the end-to-end tests a gateway has 4 MB, and 8 MB at most. But messages of the user's
/// server may have 32 MiB, and there are a few copies of one, in several terminals at once.
const DATA: u64 = 1 << 30;
/// Open descriptors: four of each of 64 sessions, and what libraries need.
const DESCRIPTORS: u64 = 1024;
/// The longest file that is written, in bytes: 512 KiB in hub-keys' cache. A longer one ends the process (SIGXFSZ).
const FILE: u64 = 1 << 20;

/// Sets them for good. Core files are switched off with [`crate::sys::process::hide`].
///
/// # Errors
/// The system's. None when a lower limit is in force already.
pub fn apply() -> io::Result<()> {
    for (resource, most) in [
        (Resource::RLIMIT_DATA, DATA),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS),
        (Resource::RLIMIT_FSIZE, FILE),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        let (_, hard) = nix::sys::resource::getrlimit(resource)?;
        let limit = most.min(hard);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}
