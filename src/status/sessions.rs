//! The live sessions, as their gateways tell of them.

use super::Section;
use super::ask::{self, Gateway};
use super::columns::{Align, columns};
use super::size::human;
use super::time::{rfc3339, short};
use crate::control::{AdminReply, AdminRequest, SessionStatus};
use crate::hub::text::printable;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest cell, in characters. What a gateway says is that of a process which a user's server may have broken into.
const MAX_CELL: usize = 64;
/// Why nothing is shown to others.
const NOT_ROOT: &str = "Sessions: only root can see them.";

/// What there is to know of one session; none: its gateway does not answer.
type Found = Vec<(Gateway, Option<SessionStatus>)>;

fn look() -> Result<Found, String> {
    if !super::is_administrator() {
        return Err(NOT_ROOT.to_owned());
    }
    let failed = |e: io::Error| format!("Sessions: they cannot be listed: {e}. Is /proc mounted?");
    let mut gateways = ask::gateways().map_err(failed)?;
    gateways.retain(|gateway| !gateway.logging_in);
    let answers = ask::ask(&gateways, AdminRequest::Status);
    let pair = |(gateway, answer): (Gateway, io::Result<AdminReply>)| match answer {
        // It has ended meanwhile.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => None,
        Ok(AdminReply::Status(status)) if status.session == gateway.session() => {
            Some((gateway, Some(status)))
        }
        Ok(_) | Err(_) => Some((gateway, None)),
    };
    Ok(gateways.into_iter().zip(answers).filter_map(pair).collect())
}

/// A table for people.
pub fn section() -> Section {
    match look() {
        Ok(found) => describe(&found, now()),
        Err(why) => Section { lines: vec![why], incomplete: true },
    }
}

/// The same for programs: one JSON document.
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
    for (gateway, status) in found {
        rows.push(match status {
            Some(status) => row(status, now),
            None => {
                section.incomplete = true;
                let mut row: [String; 8] = Default::default();
                (row[0], row[7]) = (gateway.session().to_owned(), "its gateway does not answer".to_owned());
                row
            }
        });
    }
    use Align::{Left, Right};
    section.lines = columns([Left, Left, Left, Right, Right, Right, Right, Left], &rows);
    section
}

fn row(status: &SessionStatus, now: u64) -> [String; 8] {
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
    let session = |status: &SessionStatus| {
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
    use crate::control::ChannelStatus;

    fn found() -> Found {
        let channel = |kind: &str| ChannelStatus { kind: kind.to_owned(), ..ChannelStatus::default() };
        let status = SessionStatus {
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
        assert_eq!(
            describe(&Vec::new(), 0),
            Section { lines: vec!["Sessions: none.".into()], incomplete: false }
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
