//! Lists the live sessions, from the answers of their gateways.

use super::Section;
use super::ask::{self, Answer, Gateway, PATIENCE, SHORT_PATIENCE};
use super::columns::{Align, columns};
use super::size::human;
use super::time::{rfc3339, short};
use hub::text::printable;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::admin::{AdminReply, AdminRequest, ConnectionStatus};

/// Longest cell, in characters. Gateways are not trusted here: a user's server may have broken into
/// one.
const MAX_CELL: usize = 64;
/// Message: only root can list sessions.
const NOT_ROOT: &str = "Sessions: only root can see them. Use sudo.";

/// Most lines about gateways that do not answer, as any local user can pretend that there are many.
const MAX_SILENT: usize = 50;

/// A session, and its status if its gateway answers.
type Found = Vec<(Gateway, Option<ConnectionStatus>)>;

fn look() -> Result<Found, String> {
    if !super::is_administrator() {
        return Err(NOT_ROOT.to_owned());
    }
    let patience = |gateway: &Gateway| if gateway.logging_in { SHORT_PATIENCE } else { PATIENCE };
    let answers = ask::ask_gateways(None, AdminRequest::Status, patience)
        .map_err(|e| format!("Sessions: they cannot be listed: {e}. Is /proc mounted?"))?;
    let mut found: Found =
        answers.into_iter().filter(|(gateway, answer)| is_session(gateway, answer)).map(known).collect();
    // Sessions whose gateway has answered come first.
    found.sort_by_key(|(_, status)| status.is_none());
    Ok(found)
}

/// True unless this is a login that is no session yet.
pub(super) fn is_session(gateway: &Gateway, answer: &Answer) -> bool {
    !(gateway.logging_in && matches!(answer, Answer::Silent))
}

fn known((gateway, answer): (Gateway, Answer)) -> (Gateway, Option<ConnectionStatus>) {
    let status = match answer {
        Answer::Said(AdminReply::Status(status)) if status.session == gateway.session() => Some(status),
        _ => None,
    };
    (gateway, status)
}

/// Counts the live sessions.
///
/// # Errors
/// The list of sockets cannot be read, or there are no descriptors left.
pub fn count() -> io::Result<usize> {
    let answers = ask::ask_gateways(None, AdminRequest::Status, |_| SHORT_PATIENCE)?;
    // Whatever has a full queue may not be a gateway; local users could raise the number at will.
    let is_ours = |answer: &Answer| !matches!(answer, Answer::Crowded);
    Ok(answers.iter().filter(|(gateway, answer)| is_ours(answer) && is_session(gateway, answer)).count())
}

/// Formats the sessions as a table for people.
pub fn section() -> Section {
    match look() {
        Ok(found) => describe(&found, now()),
        Err(why) => Section { lines: vec![why], incomplete: true },
    }
}

/// Formats the sessions as a JSON document for programs.
pub fn json() -> Section {
    match look() {
        Ok(found) => {
            let incomplete = found.iter().any(|(_, status)| status.is_none());
            let text = serde_json::to_string_pretty(&document(&found));
            Section { lines: text.into_iter().collect(), incomplete }
        }
        Err(why) => Section { lines: vec![json!({ "error": why }).to_string()], incomplete: true },
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn describe(found: &Found, now: u64) -> Section {
    let mut section = Section::default();
    if found.is_empty() {
        section.lines.push("Sessions: none.".to_owned());
        return section;
    }
    let heading = ["SESSION", "USER", "FROM", "SINCE", "IDLE", "IN", "OUT", "CHANNELS"].map(str::to_owned);
    let mut rows = vec![heading];
    rows.extend(found.iter().filter_map(|(_, status)| status.as_ref()).map(|status| row(status, now)));
    let silent: Vec<_> = found.iter().filter(|(_, status)| status.is_none()).collect();
    rows.extend(silent.iter().take(MAX_SILENT).map(|(gateway, _)| {
        let mut row: [String; 8] = Default::default();
        (row[0], row[7]) = (gateway.session().to_owned(), "its gateway does not answer".to_owned());
        row
    }));
    use Align::{Left, Right};
    section.lines = columns([Left, Left, Left, Right, Right, Right, Right, Left], &rows);
    if let Some(more @ 1..) = silent.len().checked_sub(MAX_SILENT) {
        section.lines.push(format!("And {more} more that do not answer. Whose sockets they are: ss -xlp"));
    }
    section.incomplete = !silent.is_empty();
    section
}

fn row(status: &ConnectionStatus, now: u64) -> [String; 8] {
    let user = match status.server.as_str() {
        "" => status.user.clone(),
        server => format!("{}+{server}", status.user),
    };
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    status.channels.iter().for_each(|channel| *kinds.entry(&channel.kind).or_default() += 1);
    let kinds = kinds.iter().map(|(kind, number)| match number {
        1 => (*kind).to_owned(),
        number => format!("{number} {kind}"),
    });
    let cells = [
        status.session.clone(),
        user,
        status.peer.clone(),
        short(now.saturating_sub(status.since)),
        status.idle.map_or_else(|| "-".to_owned(), short),
        human(status.bytes_in),
        human(status.bytes_out),
        kinds.collect::<Vec<_>>().join(", "),
    ];
    cells.map(|cell| printable(&cell, MAX_CELL))
}

fn document(found: &Found) -> serde_json::Value {
    let session = |status: &ConnectionStatus| {
        json!({
            "session": status.session,
            "user": status.user,
            "server": status.server,
            "peer": status.peer,
            "since": rfc3339(status.since),
            "idle_seconds": status.idle,
            "bytes_in": status.bytes_in,
            "bytes_out": status.bytes_out,
            "channels": status.channels.iter().map(|channel| json!({
                "channel": channel.channel,
                "kind": channel.kind,
                "seconds": channel.seconds,
                "bytes_in": channel.bytes_in,
                "bytes_out": channel.bytes_out,
            })).collect::<Vec<_>>(),
        })
    };
    let silent = found.iter().filter(|(_, status)| status.is_none()).map(|(gateway, _)| gateway.session());
    json!({
        "sessions": found.iter().filter_map(|(_, status)| status.as_ref()).map(session).collect::<Vec<_>>(),
        "unanswered": silent.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use wire::admin::ChannelStatus;

    fn found() -> Found {
        let channel = |kind: &str| ChannelStatus { kind: kind.to_owned(), ..ChannelStatus::default() };
        let status = ConnectionStatus {
            session: "0a0a0a0a".to_owned(),
            user: "alice".to_owned(),
            server: "gpu".to_owned(),
            peer: "192.0.2.7\x1b[2J".to_owned(),
            since: 1000,
            idle: Some(61),
            bytes_in: 1024,
            bytes_out: 0,
            channels: vec![channel("shell"), channel("command"), channel("command")],
        };
        vec![(Gateway::example("0a"), Some(status)), (Gateway::example("1b"), None)]
    }

    #[test]
    fn sessions_are_a_table() {
        let section = describe(&found(), 1000 + 7260);
        assert_eq!(
            section.lines,
            [
                "SESSION   USER       FROM       SINCE  IDLE  IN  OUT  CHANNELS",
                "0a0a0a0a  alice+gpu  192.0.2.7   2h1m  1m1s  1K    0  2 command, shell",
                "1b1b1b1b                                              its gateway does not answer",
            ]
        );
        assert!(section.incomplete);
        let many: Found =
            found().into_iter().chain((0..60).map(|_| (Gateway::example("2c"), None))).collect();
        let lines = describe(&many, 1000).lines;
        assert_eq!(
            (lines.len(), lines.last().unwrap().as_str()),
            (53, "And 11 more that do not answer. Whose sockets they are: ss -xlp")
        );
        assert_eq!(
            describe(&Vec::new(), 0),
            Section { lines: vec!["Sessions: none.".into()], incomplete: false }
        );
    }

    #[test]
    fn only_what_does_not_answer_may_be_logging_in() {
        let mut logging_in = Gateway::example("0a");
        logging_in.logging_in = true;
        let said = || Answer::Said(AdminReply::Ending);
        assert!(is_session(&logging_in, &said()) && is_session(&logging_in, &Answer::Crowded));
        assert!(!is_session(&logging_in, &Answer::Silent));
        assert!(is_session(&Gateway::example("0a"), &Answer::Silent));
        // What a gateway says of another session is no answer.
        assert_eq!(
            known((logging_in, Answer::Said(AdminReply::Status(ConnectionStatus::default())))).1,
            None
        );
    }

    #[test]
    fn sessions_are_a_document() {
        let document = document(&found());
        assert_eq!(document["sessions"][0]["since"], "1970-01-01T00:16:40Z");
        assert_eq!(document["sessions"][0]["channels"].as_array().unwrap().len(), 3);
        assert_eq!(document["unanswered"], json!(["1b1b1b1b"]));
    }
}
