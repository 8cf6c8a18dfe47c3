//! The sandbox of our processes, for when they are broken into: which system calls they may make
//! ([`tables`]), which files and ports they may reach ([`reach`]), how much memory and how many
//! descriptors they may use ([`limits`]).
//!
//! | process | system calls | files, ports | limits |
//! |---|---|---|---|
//! | gateway, keeper, hub-keys | only listed ones; dangerous ones kill | Landlock | yes |
//! | the jail's process 1 | the handful that it needs | Landlock: none | yes |
//! | session and what it becomes | all but the dangerous | the jail | sshd's |
//! | without a jail: the watcher | as process 1's, and to end its sshd | Landlock: none | yes |
//! | without a jail: session | all but the dangerous | Landlock: none, once it has its gateway | sshd's |
//! | without a jail: gateway | as with a jail | Landlock: without most of /etc | yes |
//!
//! A call that is not listed fails with ENOSYS, as on a kernel too old for it, and libraries cope
//! with that; killing would cost a user's work whenever a new libc tries something new. Calls that
//! no library makes and every exploit wants (another program, another process's memory, namespaces,
//! mounts) kill the process.
//! The kernel logs both: `journalctl -k -g type=1326`, see audit(8).

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

/// Protections that this kernel lacks: lines for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    /// An ordinary gap on an older kernel.
    pub note: Option<&'static str>,
    /// Something that an administrator should look at.
    pub warning: Option<&'static str>,
}

/// Confines a process that uses the network, before it does. It must have one thread, no
/// privileges, and no_new_privs set.
///
/// # Errors
/// It could not be confined, and must not go on.
pub fn confine(reach: &Reach) -> io::Result<Confined> {
    limits::apply()?;
    let none = "this kernel has no Landlock: files and ports of gateways are not restricted";
    let note = (!reach.enforce()?).then_some(none);
    let unfiltered = "this kernel filters no system calls: what a gateway may do is not restricted";
    let warning = (!filter(calls::network)?).then_some(unfiltered);
    Ok(Confined { note, warning })
}

/// Confines the jail's process 1, which opens no more files.
///
/// # Errors
/// It could not be confined, and must not go on.
pub fn confine_watcher() -> io::Result<()> {
    limits::apply()?;
    Reach::nothing().enforce()?;
    filter(|| calls::watcher(None)).map(drop)
}

/// Confines the watcher of a connection without a jail. Unlike process 1 of a jail, whose end kills
/// the rest, it may end the sshd that `sshd` refers to (a pidfd).
///
/// # Errors
/// It could not be confined, and must not go on.
pub fn confine_watcher_without_jail(sshd: BorrowedFd<'_>) -> io::Result<()> {
    limits::apply()?;
    Reach::nothing().with_signals().enforce()?;
    filter(|| calls::watcher(Some(sshd.as_raw_fd()))).map(drop)
}

/// Takes from the session program, and from the program that it becomes, what neither needs. Call
/// it after no_new_privs is set.
///
/// # Errors
/// It could not be confined, and must not go on.
pub fn confine_session() -> io::Result<()> {
    filter(calls::session).map(drop)
}

impl Confined {
    /// Writes these lines to the log.
    pub fn tell(&self, log: &mut Log) {
        self.note.iter().for_each(|note| log.info(Line::of(Event::Sandbox, note)));
        self.warning.iter().for_each(|warning| log.warning(Line::of(Event::Sandbox, warning)));
    }
}

/// Returns what a gateway with this configuration must reach. Without one it only reports that.
#[must_use]
pub fn reach_of(config: &Result<Config, ConfigError>) -> Reach {
    config.as_ref().map_or_else(|_| Reach::nothing(), Reach::of)
}

/// Installs a filter; false if this kernel has none, which is no reason to keep users out.
fn filter(put: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
    if seccomp::is_available() { put().map(|()| true) } else { Ok(false) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
