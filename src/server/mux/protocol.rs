//! The protocol's numbers (docs/mux.md), at their only place in the code.
//!
//! `python` writes `src/server/agent/protocol.py` from them for the agent.

/// The longest payload of a packet, in bytes.
pub const MAX_PAYLOAD: usize = 32_768;
/// The longest description of a stream, in bytes.
pub(crate) const MAX_DESCRIPTION: usize = 262_144;
/// The most payload that a sender keeps unacknowledged, in bytes.
pub(crate) const LINK_WINDOW: usize = 393_216;
/// How much payload a receiver acknowledges at the latest, in bytes.
pub(crate) const ACK_BYTES: usize = 65_536;
/// How long a receiver may wait with an acknowledgement, in milliseconds.
pub(crate) const ACK_MILLISECONDS: u64 = 40;
/// How long a sender waits for progress before it repeats, in seconds.
pub(crate) const REPEAT_SECONDS: u64 = 10;
/// The least time between two RESUME without progress, in milliseconds.
pub(crate) const RESUME_MILLISECONDS: u64 = 1000;
/// How often the gateway says something at least, in seconds.
pub(crate) const PING_SECONDS: u64 = 10;
/// How long an agent hears nothing before it ends, in seconds.
#[cfg(test)]
pub(crate) const AGENT_PATIENCE_SECONDS: u64 = 100;
/// The most credit of a part, in bytes.
pub(crate) const MAX_CREDIT: usize = 1_048_576;

/// The kinds of packets, by the names and numbers of docs/mux.md.
#[allow(missing_docs)] // each is a line of the table there
pub mod kind {
    pub const ACK: u8 = 1;
    pub const RESUME: u8 = 2;
    pub const PING: u8 = 3;
    pub const PONG: u8 = 4;
    pub const BYE: u8 = 5;
    pub const HELLO: u8 = 6;
    pub const OPEN: u8 = 16;
    pub const OPENING: u8 = 17;
    pub const OPENED: u8 = 18;
    pub const REFUSED: u8 = 19;
    pub const DATA: u8 = 20;
    pub const EOF: u8 = 21;
    pub const CREDIT: u8 = 22;
    pub const STOP: u8 = 23;
    pub const RESIZE: u8 = 24;
    pub const SIGNAL: u8 = 25;
    pub const EXIT: u8 = 26;
    pub const CLOSE: u8 = 27;
}

/// The first kind that is numbered, as are all after it.
pub(crate) const FIRST_NUMBERED: u8 = kind::OPEN;

/// Every kind with its name.
#[cfg(test)]
pub(crate) const KINDS: [(&str, u8); 18] = [
    ("ACK", kind::ACK),
    ("RESUME", kind::RESUME),
    ("PING", kind::PING),
    ("PONG", kind::PONG),
    ("BYE", kind::BYE),
    ("HELLO", kind::HELLO),
    ("OPEN", kind::OPEN),
    ("OPENING", kind::OPENING),
    ("OPENED", kind::OPENED),
    ("REFUSED", kind::REFUSED),
    ("DATA", kind::DATA),
    ("EOF", kind::EOF),
    ("CREDIT", kind::CREDIT),
    ("STOP", kind::STOP),
    ("RESIZE", kind::RESIZE),
    ("SIGNAL", kind::SIGNAL),
    ("EXIT", kind::EXIT),
    ("CLOSE", kind::CLOSE),
];

/// Returns the same numbers for the agent, as Python.
#[must_use]
#[cfg(test)]
pub(crate) fn python() -> String {
    use std::fmt::Write;

    let bounds: [(&str, u64); 11] = [
        ("FIRST_NUMBERED", u64::from(FIRST_NUMBERED)),
        ("MAX_PAYLOAD", MAX_PAYLOAD as u64),
        ("MAX_DESCRIPTION", MAX_DESCRIPTION as u64),
        ("LINK_WINDOW", LINK_WINDOW as u64),
        ("ACK_BYTES", ACK_BYTES as u64),
        ("ACK_MILLISECONDS", ACK_MILLISECONDS),
        ("REPEAT_SECONDS", REPEAT_SECONDS),
        ("RESUME_MILLISECONDS", RESUME_MILLISECONDS),
        ("PING_SECONDS", PING_SECONDS),
        ("AGENT_PATIENCE_SECONDS", AGENT_PATIENCE_SECONDS),
        ("MAX_CREDIT", MAX_CREDIT as u64),
    ];
    let kinds = KINDS.iter().map(|(name, number)| (*name, u64::from(*number)));
    let mut text =
        "# Generated from src/server/mux/protocol.rs, which says what each means; a test holds them equal.\n"
            .to_owned();
    for (name, value) in kinds.chain(bounds) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_speaks_by_the_same_numbers() {
        assert_eq!(include_str!("../agent/protocol.py"), python());
    }

    #[test]
    fn the_specification_names_every_kind() {
        let text = include_str!("../../../docs/mux.md");
        for (name, number) in KINDS {
            assert!(text.contains(&format!("\n| {number} | {name} | ")), "{number} {name}");
        }
        assert!(text.contains("0–32 768"));
    }
}
