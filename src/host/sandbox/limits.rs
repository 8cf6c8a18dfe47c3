//! Limits of a process (getrlimit(2)). Not RLIMIT_NPROC: the kernel counts the threads of all processes of a uid against
//! it, and all gateways share one.

use nix::sys::resource::{Resource, setrlimit};
use std::io;

/// Private writable memory, in bytes. In the end-to-end tests a gateway has 4 MB, and 8 MB at most. But messages of the user's
/// server may have 26 MiB, and there are a few copies of one, in several terminals at once.
const DATA: u64 = 1 << 30;
/// Open descriptors: four of each of 64 sessions, and what libraries need.
const DESCRIPTORS: u64 = 1024;
/// The longest file that is written, in bytes: 512 KiB in hub-keys' cache. A longer one ends the process (SIGXFSZ).
const FILE: u64 = 1 << 20;

/// What a program needs that users may start and that is not theirs (hub-keys), to do its work: with less, what fails for want
/// of it would pass for the failure of somebody else.
const NEEDED: [(Resource, u64); 5] = [
    (Resource::RLIMIT_NOFILE, 64),
    (Resource::RLIMIT_FSIZE, FILE),
    (Resource::RLIMIT_DATA, 64 << 20),
    (Resource::RLIMIT_AS, 512 << 20),
    // In seconds.
    (Resource::RLIMIT_CPU, 10),
];

/// Raises the soft limits that a caller has lowered.
///
/// # Errors
/// The system's; `QuotaExceeded` when the caller's hard limits are lower than what is needed.
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
                // Of processor time less than a second would be this process's end.
                setrlimit(resource, least - 1, least - 1).unwrap();
                assert_eq!(raise().unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
            }));
        }
    }
}
