//! What jobs report, and to whom.

use super::calls::{Lost, Remote};
use super::own_server::NoTerminal;
use crate::access::Access;
use crate::job::{Jobs, Report};
use hub::progress::Progress;
use server::terminado::socket::TerminalSocket;
use std::panic::AssertUnwindSafe;

/// The channel number that stands for the link to the agent: channels count from 1.
pub const LINK: u64 = 0;

/// Which terminal a job works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The channel whose terminal it is, or [`LINK`].
    pub channel: u64,
    /// Which of its terminals: no two of a channel's have one number.
    pub terminal: u64,
}

/// A job's report.
pub struct Said {
    /// For whom.
    pub to: Address,
    /// What.
    pub news: News,
}

/// What a job reports of a terminal at the user's server.
pub enum News {
    /// The server is being started. More will follow.
    Progress(Progress),
    /// It was opened, or not.
    Opened(Result<Remote, NoTerminal>),
    /// Its dropped WebSocket is there again, or not.
    Reconnected(Result<TerminalSocket, Lost>),
    /// It was deleted; a line for the log if perhaps it was not.
    Deleted(Result<(), String>),
    /// The job has failed by a fault of ours.
    Failed,
}

/// Starts a job for a terminal. False: no thread can be had.
pub fn spawn(
    jobs: &Jobs<Said>,
    to: Address,
    access: &Access,
    name: &str,
    job: impl FnOnce(Access, &dyn Fn(News)) + Send + 'static,
) -> bool {
    let access = access.clone();
    let run = move |report: &Report<Said>| {
        let report = |news| report.send(Said { to, news });
        // A fault of ours in a job must not leave the user waiting for ever.
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| job(access, &report)));
        if ended.is_err() {
            report(News::Failed);
        }
    };
    jobs.spawn(name, run).is_ok()
}
