//! `jupyterhub-openssh status`: what is on this bastion. One file a topic; what is asked of it may never answer,
//! and is then left aside.

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
use wire::control::{AdminReply, AdminRequest};

/// Everything that was asked for is shown.
const FINE: u8 = 0;
/// Something could not be found out.
const INCOMPLETE: u8 = 1;
/// Between two looks at the sessions.
const REDRAW: Duration = Duration::from_secs(2);
/// Moves to the top left corner and clears from there (ECMA-48, CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// What there is to say on one topic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    /// Lines to show, without control characters.
    lines: Vec<String>,
    /// Something that was asked for is not among them.
    incomplete: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Sessions and homes; with users' names only their homes.
    Everything,
    /// Sessions.
    Sessions,
    /// The same, again and again.
    Watch,
    /// The same, once and for programs.
    Json,
}

/// Shows the state of this bastion, or the homes of the named users on it, and returns the exit status: 0 when all could
/// be shown, otherwise 1.
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
        // Whoever reads this may have stopped reading (EPIPE).
        let _ = writeln!(out, "{line}");
    }
    if section.incomplete { INCOMPLETE } else { FINE }
}

/// Until Ctrl-C, or until nobody reads any more. Not on a terminal the tables follow each other.
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

/// Whether this process may ask gateways: root may, and where sshd itself runs as an ordinary user, that one.
fn is_administrator() -> bool {
    let rights = Rights::of_this_process();
    rights == Rights::Root || Config::load().is_ok_and(|config| rights.suit(&config).is_ok())
}

/// Ends the session of this name, or all of them, and returns the exit status: 0 when their gateways do so.
#[must_use]
pub fn disconnect(session: Option<&str>) -> u8 {
    let fail = |text: String| {
        let _ = writeln!(io::stderr(), "{text}");
        INCOMPLETE
    };
    if !is_administrator() {
        return fail("Only root can end sessions.\nUse sudo.".to_owned());
    }
    // A gateway whose session is about to begin hears it then.
    let answers = match ask::ask(session, AdminRequest::Disconnect, |_| ask::PATIENCE) {
        Ok(mut answers) => {
            // Of all sessions those are not meant that have yet to become one.
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

/// What has become of ending a session, or all.
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
        // It may be anybody's: once the session that was meant is ending, it is.
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
