//! `jupyterhub-openssh status` and `disconnect`: the sessions and homes of this host.
//!
//! Each topic is a file. Gateways and file servers may never answer; the report then says so and
//! goes on.

mod ask;
mod columns;
mod homes;
pub(crate) mod names;
pub(crate) mod patience;
mod sessions;
mod size;
mod time;

use ask::{Answer, Gateway};
use host::config::Config;
use host::rights::Rights;
pub use sessions::count as count_sessions;
use std::io::{self, IsTerminal, Write};
use std::thread::sleep;
use std::time::Duration;
use wire::admin::{AdminReply, AdminRequest};

/// Exit status: everything is shown.
const FINE: u8 = 0;
/// Exit status: something could not be found out.
const INCOMPLETE: u8 = 1;
/// The pause between two lists of `--watch`.
const REDRAW: Duration = Duration::from_secs(2);
/// Clears a terminal: moves to the top left corner and erases from there (ECMA-48, CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// The report on a topic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    /// Lines to show, without control characters.
    lines: Vec<String>,
    /// True if something is missing from them.
    incomplete: bool,
}

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Sessions and homes; if users are named, only their homes.
    Everything,
    /// Sessions.
    Sessions,
    /// Sessions, repeatedly.
    Watch,
    /// Sessions, as JSON.
    Json,
}

/// Shows the sessions and homes of this host, or the named users' homes, and returns the exit
/// status.
#[must_use]
pub fn run(show: Show, users: &[String]) -> u8 {
    match show {
        Show::Everything if users.is_empty() => {
            let sessions = print(&sessions::section());
            let _ = writeln!(io::stdout());
            sessions.max(print(&homes(users)))
        }
        Show::Everything => print(&homes(users)),
        Show::Sessions => print(&sessions::section()),
        Show::Watch => watch(),
        Show::Json => print(&sessions::json()),
    }
}

fn homes(users: &[String]) -> Section {
    match Config::load() {
        Ok(config) => homes::section(config.settings.homes.as_ref(), users),
        Err(e) => Section { lines: vec![format!("configuration: {e}")], incomplete: true },
    }
}

fn print(section: &Section) -> u8 {
    let mut out = io::stdout().lock();
    for line in &section.lines {
        // The reader may be gone (EPIPE).
        let _ = writeln!(out, "{line}");
    }
    if section.incomplete { INCOMPLETE } else { FINE }
}

/// Shows the sessions repeatedly, until Ctrl-C or until the reader is gone. Off a terminal, nothing
/// is erased.
fn watch() -> u8 {
    let start = if io::stdout().is_terminal() { CLEAR } else { "" };
    loop {
        let section = sessions::section();
        let text = section.lines.iter().fold(start.to_owned(), |text, line| text + line + "\n");
        let mut out = io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return FINE;
        }
        drop(out);
        sleep(REDRAW);
    }
}

/// True if this process may ask gateways: as root, or as the user of an sshd that runs without
/// root.
fn is_administrator() -> bool {
    let rights = Rights::of_this_process();
    rights == Rights::Root || Config::load().is_ok_and(|config| rights.suit(&config).is_ok())
}

/// Ends a session by its name, or all sessions, and returns the exit status: 0 if their gateways
/// agree.
#[must_use]
pub fn disconnect(session: Option<&str>) -> u8 {
    let fail = |text: String| {
        let _ = writeln!(io::stderr(), "{text}");
        INCOMPLETE
    };
    if !is_administrator() {
        return fail("Only root can end sessions.\nUse sudo.".to_owned());
    }
    // A gateway that still waits for its session reads this afterwards.
    let answers = match ask::ask_gateways(session, AdminRequest::Disconnect, |_| ask::PATIENCE) {
        Ok(mut answers) => {
            // A login that is no session yet doesn't count among all sessions.
            answers.retain(|(gateway, answer)| session.is_some() || sessions::is_session(gateway, answer));
            answers
        }
        Err(e) => return fail(format!("The sessions cannot be listed: {e}.\nIs /proc mounted?")),
    };
    match outcome(session, &answers) {
        Outcome::Ending => FINE,
        Outcome::Unknown => {
            fail("There is no such session.\n`jupyterhub-openssh status` lists them.".to_owned())
        }
        Outcome::Deaf => fail(
            "A session's gateway does not answer.\nEnd it yourself: `pgrep -af jupyterhub-openssh` lists them with their sessions, then `kill PID`."
                .to_owned(),
        ),
    }
}

/// Formats the result of ending a session, or all.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ending,
    Unknown,
    Deaf,
}

fn outcome(session: Option<&str>, answers: &[(Gateway, Answer)]) -> Outcome {
    let ending = answers.iter().any(|(_, answer)| matches!(answer, Answer::Said(AdminReply::Ending)));
    let deaf = |answer: &Answer| match answer {
        Answer::Said(AdminReply::Ending) => false,
        // It may not be a gateway. If the session that was meant is ending, it isn't.
        Answer::Crowded => session.is_none() || !ending,
        Answer::Said(_) | Answer::Silent => true,
    };
    match session {
        _ if answers.iter().any(|(_, answer)| deaf(answer)) => Outcome::Deaf,
        Some(_) if !ending => Outcome::Unknown,
        _ => Outcome::Ending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_disconnect() {
        let of = |session, answers: Vec<Answer>| {
            let answers: Vec<_> =
                answers.into_iter().map(|answer| (Gateway::example("0a"), answer)).collect();
            outcome(session, &answers)
        };
        let (one, ending) = (Some("0a0a0a0a"), || Answer::Said(AdminReply::Ending));
        assert_eq!((of(None, vec![]), of(one, vec![])), (Outcome::Ending, Outcome::Unknown));
        assert_eq!((of(None, vec![ending()]), of(one, vec![ending()])), (Outcome::Ending, Outcome::Ending));
        assert_eq!(of(one, vec![ending(), Answer::Crowded]), Outcome::Ending);
        assert_eq!(of(None, vec![ending(), Answer::Crowded]), Outcome::Deaf);
        assert_eq!(of(one, vec![Answer::Crowded]), Outcome::Deaf);
        assert_eq!(of(one, vec![ending(), Answer::Silent]), Outcome::Deaf);
    }
}
