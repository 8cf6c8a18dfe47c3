//! What jobs report, and to whom.

use super::access::Access;
use super::job::{Jobs, Report};
use super::remote::{Lost, NoTerminal, Remote};
use hub::progress::Progress;
use server::terminado::control::ControlLink;
use server::terminado::socket::TerminalSocket;
use std::panic::AssertUnwindSafe;

/// The number that stands for the link to the agent: channels count from 1.
pub const LINK: u64 = 0;

/// What a job reports.
pub struct Said {
    /// The channel that it works for, or [`LINK`].
    pub channel: u64,
    /// What.
    pub news: News,
}

/// See [`Said`].
pub enum News {
    /// The server is being started.
    Progress(Progress),
    /// A terminal was opened, or not.
    Opened(Result<Remote, NoTerminal>),
    /// A dropped WebSocket is there again, or not.
    Reconnected(Result<TerminalSocket, Lost>),
    /// A control terminal was opened, or not.
    Control(Result<(Remote, ControlLink), NoTerminal>),
    /// The terminal was deleted; a line for the log if perhaps it was not.
    Deleted(Result<(), String>),
    /// The same of a control terminal.
    ControlDeleted(Result<(), String>),
    /// A job has failed by a fault of ours, and reports nothing else.
    Failed,
}

/// Starts a job for a channel. False: no thread can be had.
pub fn spawn(
    jobs: &Jobs<Said>,
    channel: u64,
    access: &Access,
    name: &str,
    job: impl FnOnce(Access, &dyn Fn(News)) + Send + 'static,
) -> bool {
    let access = access.clone();
    let run = move |report: &Report<Said>| {
        let report = |news| report.send(Said { channel, news });
        // A fault of ours in a job must not leave the user waiting for ever.
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| job(access, &report)));
        if ended.is_err() {
            report(News::Failed);
        }
    };
    jobs.spawn(name, run).is_ok()
}
