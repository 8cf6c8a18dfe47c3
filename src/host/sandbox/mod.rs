//! What a process of ours may still do when it is set up, whatever it is then made to run: which system calls
//! ([`tables`]), which files and ports ([`reach`]), how much memory and how many descriptors ([`limits`]).
//!
//! | process | system calls | files, ports | limits |
//! |---|---|---|---|
//! | gateway, keeper, hub-keys | only what is listed; the dangerous kill | Landlock | yes |
//! | the jail's process 1 | the handful that it needs | Landlock: none | yes |
//! | session and what it becomes | all but the dangerous | the jail | sshd's |
//! | without a jail: the watcher | as process 1's, and to end its sshd | Landlock: none | yes |
//! | without a jail: session | all but the dangerous | Landlock: none, once it has its gateway | sshd's |
//! | without a jail: gateway | as ever | Landlock: without most of /etc | yes |
//!
//! A call that isn't listed is refused with ENOSYS, as by a kernel that is too old for it, and libraries know what to do
//! then; killing would cost a user's work whenever a new libc tries something new. Calls that no library makes and every
//! exploit wants (another program, another process's memory, namespaces, mounts) kill the process. The kernel
//! logs both: `journalctl -k -g type=1326`, see audit(8).

pub(crate) mod calls;
pub mod limits;
pub(crate) mod reach;
pub(crate) mod tables;

use crate::config::{Config, ConfigError};
use crate::log::{Event, Line, Log};
use crate::sys::seccomp;
pub use reach::Reach;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What could not be had: lines for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    /// In the ordinary course of things, on an older kernel.
    pub note: Option<&'static str>,
    /// Something that an administrator should look at.
    pub warning: Option<&'static str>,
}

/// Confines a process that speaks with the network, before it does. It has one thread, no privileges, and
/// no_new_privs.
///
/// # Errors
/// The system's: it must not go on then.
pub fn confine(reach: &Reach) -> io::Result<Confined> {
    limits::apply()?;
    let none = "this kernel has no Landlock: files and ports of gateways are not restricted";
    let note = (!reach.enforce()?).then_some(none);
    let unfiltered = "this kernel filters no system calls: what a gateway may do is not restricted";
    let warning = (!filter(calls::network)?).then_some(unfiltered);
    Ok(Confined { note, warning })
}

/// The same for the jail's process 1, which opens nothing any more.
///
/// # Errors
/// The system's: it must not go on then.
pub fn confine_watcher() -> io::Result<()> {
    limits::apply()?;
    Reach::nothing().enforce()?;
    filter(|| calls::watcher(None)).map(drop)
}

/// The same where there is no jail, whose end would end the session: it may end the sshd that `sshd` stands for (a pidfd).
///
/// # Errors
/// The system's: it must not go on then.
pub fn confine_watcher_without_jail(sshd: BorrowedFd<'_>) -> io::Result<()> {
    limits::apply()?;
    Reach::nothing().with_signals().enforce()?;
    filter(|| calls::watcher(Some(sshd.as_raw_fd()))).map(drop)
}

/// Takes from a session, and from the program that it becomes, what neither needs. Call it after no_new_privs is set.
///
/// # Errors
/// The system's: it must not go on then.
pub fn confine_session() -> io::Result<()> {
    filter(calls::session).map(drop)
}

impl Confined {
    /// Tells the log.
    pub fn tell(&self, log: &mut Log) {
        self.note.iter().for_each(|note| log.info(Line::of(Event::Sandbox, note)));
        self.warning.iter().for_each(|warning| log.warning(Line::of(Event::Sandbox, warning)));
    }
}

/// For a gateway: what the configuration makes it need. Without one it does nothing but say so.
#[must_use]
pub fn reach_of(config: &Result<Config, ConfigError>) -> Reach {
    config.as_ref().map_or_else(|_| Reach::nothing(), Reach::of)
}

/// Puts a filter in force, unless this kernel has none: that is no reason to keep users out. False: it has none.
fn filter(put: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    if seccomp::is_available() { put().map(|()| true) } else { Ok(false) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
