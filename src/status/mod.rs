//! `jupyterhub-openssh status`: what is on this bastion. One file a topic; what is asked of it may never answer,
//! and is then left aside.

mod columns;
mod homes;
pub(crate) mod names;
pub(crate) mod patience;
mod size;

use crate::config::Config;
use std::io::{self, Write};

/// Everything that was asked for is shown.
const FINE: u8 = 0;
/// Something could not be found out.
const INCOMPLETE: u8 = 1;

/// What there is to say on one topic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    /// Lines to show, without control characters.
    lines: Vec<String>,
    /// Something that was asked for is not among them.
    incomplete: bool,
}

/// Shows the state of this bastion, or of the named users on it, and returns the exit status: 0 when all could be
/// shown, otherwise 1.
#[must_use]
pub fn run(users: &[String]) -> u8 {
    let section = match Config::load() {
        Ok(config) => homes::section(config.settings.homes.as_ref(), users),
        Err(e) => Section { lines: vec![format!("configuration: {e}")], incomplete: true },
    };
    let mut out = io::stdout().lock();
    for line in &section.lines {
        // Whoever reads this may have stopped reading (EPIPE).
        let _ = writeln!(out, "{line}");
    }
    if section.incomplete { INCOMPLETE } else { FINE }
}
