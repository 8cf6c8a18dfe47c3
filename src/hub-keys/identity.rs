//! Makes this process the system user [`KEYS_USER`], whoever started it.
//!
//! sshd runs AuthorizedKeysCommand as the user who wants to log in. That user may not read the
//! service token, so the
//! program's file is set-user-ID and set-group-ID (execve(2)).

use common::paths::KEYS_USER;
use host::sandbox::limits;
use host::sys::process;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, chdir, getresgid, getresuid, seteuid, setresgid, setresuid};
use std::convert::Infallible;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Drops everything inherited from the caller: descriptors other than the standard ones,
/// environment variables, the working directory (now `/`),
/// the umask, timers, ignored or blocked signals, and limits that would make this program fail.
///
/// No safe function can remove variables from a running process, because another thread could be
/// reading them.
/// So the program executes itself again without them; `authorized-keys` sets none when it starts
/// it.
///
/// # Errors
/// A system call fails; `QuotaExceeded` if the caller's limits are too low.
pub fn forget_caller() -> io::Result<()> {
    process::forget_callers_signals()?;
    process::close_from(3)?;
    limits::raise()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    if env::vars_os().next().is_some() {
        restart().map(|never| match never {})?;
    }
    // OpenSSL then looks up trusted certificates by their hash in /etc/ssl/certs as it needs them.
    // Otherwise native-tls makes it parse the file of all of them: 50 ms for each key that a client
    // offers.
    process::set_variable("SSL_CERT_FILE", "/dev/null")
}

fn restart() -> io::Result<Infallible> {
    // This is the running program, whatever its file name refers to by now.
    Err(Command::new("/proc/self/exe").args(env::args_os().skip(1)).env_clear().exec())
}

/// Becomes [`KEYS_USER`] for good, and returns the uid of the user who started this program.
///
/// The caller's supplementary groups stay unless that is root: dropping them takes a privilege that
/// this program never has.
/// They have no effect, because this program opens no file that the caller names.
///
/// # Errors
/// The program's file lacks the set-ID bits, or the system ignores them. One line for the log; the
/// program must then end.
pub fn become_keys_user() -> Result<u32, String> {
    let user = User::from_name(KEYS_USER)
        .map_err(|why| format!("cannot look up the system user {KEYS_USER}: {}", why.desc()))?
        .ok_or_else(|| format!("the system user {KEYS_USER} is missing; reinstall the package"))?;
    become_user(user.uid, user.gid)
}

fn become_user(uid: Uid, gid: Gid) -> Result<u32, String> {
    let failed = |why: io::Error| format!("cannot become the system user {KEYS_USER}: {why}");
    let (uids, gids) =
        (getresuid().map_err(|e| failed(e.into()))?, getresgid().map_err(|e| failed(e.into()))?);
    if uids.real.is_root() {
        // Started by root, with or without the set-ID bits: root gives up its rights the usual way.
        seteuid(uids.real).map_err(|e| failed(e.into()))?;
        process::drop_privileges(uid.as_raw(), gid.as_raw()).map_err(failed)?;
        return Ok(0);
    }
    if uids.effective != uid || gids.effective != gid || uid.is_root() {
        return Err(format!(
            "this program does not run as the system user {KEYS_USER}: its file must belong to {KEYS_USER}:{KEYS_USER} \
             with mode 6755, on a file system without nosuid, and its caller must not run under no_new_privs; \
             reinstall the package"
        ));
    }
    setresgid(gid, gid, gid).map_err(|e| failed(e.into()))?;
    setresuid(uid, uid, uid).map_err(|e| failed(e.into()))?;
    // After the change of uid, which would reset it.
    process::harden().map_err(failed)?;
    prove(uid, gid, uids.real, gids.real).map_err(failed)?;
    Ok(uids.real.as_raw())
}

/// Checks that this process is only that user, and cannot get the caller's ids back.
fn prove(uid: Uid, gid: Gid, caller: Uid, callers_group: Gid) -> io::Result<()> {
    let left = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned()));
    if caller != uid && setresuid(caller, caller, caller).is_ok() {
        return left("the caller's uid could be taken back");
    }
    if callers_group != gid && setresgid(callers_group, callers_group, callers_group).is_ok() {
        return left("the caller's gid could be taken back");
    }
    let (uids, gids) = (getresuid()?, getresgid()?);
    if [uids.real, uids.effective, uids.saved] != [uid; 3]
        || [gids.real, gids.effective, gids.saved] != [gid; 3]
    {
        return left("the uids or gids are not the ones asked for");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::sys::process::in_child;
    use nix::sys::prctl;

    const KEYS: (Uid, Gid) = (Uid::from_raw(54_321), Gid::from_raw(54_321));
    const ALICE: (Uid, Gid) = (Uid::from_raw(20_001), Gid::from_raw(20_002));

    fn is_root() -> bool {
        Uid::effective().is_root()
    }

    /// Sets the ids that execve(2) of a set-ID file gives to alice's process.
    fn start_as(uid: Uid, gid: Gid) {
        setresgid(ALICE.1, gid, gid).unwrap();
        setresuid(ALICE.0, uid, uid).unwrap();
    }

    #[test]
    fn a_user_who_starts_it_is_known_and_gone() {
        if !is_root() {
            return;
        }
        assert!(in_child(|| {
            start_as(KEYS.0, KEYS.1);
            assert_eq!(become_user(KEYS.0, KEYS.1), Ok(20_001));
            assert_eq!(getresuid().unwrap().real, KEYS.0);
            assert!(!prctl::get_dumpable().unwrap());
        }));
    }

    #[test]
    fn without_the_mark_it_goes_no_further() {
        if !is_root() {
            return;
        }
        for (uid, gid) in [(ALICE.0, ALICE.1), (KEYS.0, ALICE.1), (ALICE.0, KEYS.1)] {
            assert!(in_child(|| {
                start_as(uid, gid);
                assert!(become_user(KEYS.0, KEYS.1).is_err_and(|why| why.contains("mode 6755")));
            }));
        }
        // A system user with root's uid would be worse than none.
        assert!(in_child(|| assert!(become_user(Uid::from_raw(0), KEYS.1).is_err())));
    }

    #[test]
    fn root_who_starts_it_is_gone_as_well() {
        if !is_root() {
            return;
        }
        for marked in [true, false] {
            assert!(in_child(|| {
                if marked {
                    setresgid(Gid::from_raw(0), KEYS.1, KEYS.1).unwrap();
                    setresuid(Uid::from_raw(0), KEYS.0, KEYS.0).unwrap();
                }
                assert_eq!(become_user(KEYS.0, KEYS.1), Ok(0));
                assert_eq!(getresuid().unwrap().saved, KEYS.0);
                assert!(setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err());
            }));
        }
    }
}
