//! Resource limits of a process (getrlimit(2)). RLIMIT_NPROC is not among them: the kernel counts
//! the threads of all processes of a uid against it, and all gateways share one uid.

use nix::sys::resource::{Resource, setrlimit};
use std::io;

/// Private writable memory, in bytes. A gateway uses 4 MB in the end-to-end tests, and at most 8
/// MB. But a message of the user's server may have 26 MiB, with a few copies, on several channels
/// at once.
const DATA: u64 = 1 << 30;
/// Open descriptors: four for each of 64 channels, and what libraries need.
const DESCRIPTORS: u64 = 1024;
/// Longest file to write, in bytes; hub-keys' cache needs 512 KiB. Writing more ends the process
/// (SIGXFSZ).
const FILE: u64 = 1 << 20;

/// What hub-keys needs, which users may start with their own limits: with less, its failures would
/// look like failures of a source.
const NEEDED: [(Resource, u64); 5] = [
    (Resource::RLIMIT_NOFILE, 64),
    (Resource::RLIMIT_FSIZE, FILE),
    (Resource::RLIMIT_DATA, 64 << 20),
    (Resource::RLIMIT_AS, 512 << 20),
    // In seconds.
    (Resource::RLIMIT_CPU, 10),
];

/// Raises soft limits that a caller has lowered.
///
/// # Errors
/// A limit cannot be read or set; `QuotaExceeded` if the caller's hard limits are lower than
/// needed.
pub fn raise() -> io::Result<()> {
    for (resource, least) in NEEDED {
        let (soft, hard) = nix::sys::resource::getrlimit(resource)?;
        if hard < least {
            let why = format!("the caller's limits are too low ({resource:?}: {hard})");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        if soft < hard {
            setrlimit(resource, hard, hard)?;
        }
    }
    Ok(())
}

/// Sets our limits for good, but never raises a lower one. Core files are switched off with
/// [`crate::sys::process::hide`].
///
/// # Errors
/// A limit cannot be read or set.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::process::in_child;
    use nix::sys::resource::getrlimit;

    #[test]
    fn a_callers_soft_limits_are_raised_and_its_hard_ones_are_enough_or_the_end() {
        for (resource, least) in NEEDED {
            assert!(in_child(|| {
                setrlimit(resource, least - 1, least).unwrap();
                raise().unwrap();
                assert_eq!(getrlimit(resource).unwrap(), (least, least));
                // Less than a second of processor time would end this process.
                setrlimit(resource, least - 1, least - 1).unwrap();
                assert_eq!(raise().unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
            }));
        }
    }
}
