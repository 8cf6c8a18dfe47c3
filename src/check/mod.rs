//! `jupyterhub-openssh check`: tells the administrator what is wrong with this bastion. One file a topic.

mod configuration;

use std::io::{self, Write};

/// Everything is in order.
const FINE: u8 = 0;
/// Something keeps hub users out.
const BROKEN: u8 = 1;

/// Runs every check, says what was found, and returns the exit status: 0 when all is well, otherwise 1.
#[must_use]
pub fn run() -> u8 {
    let (line, status) = match configuration::check() {
        Ok(line) => (line, FINE),
        Err(line) => (line, BROKEN),
    };
    // Whoever reads this may have stopped reading (EPIPE).
    let _ = writeln!(io::stdout(), "{line}");
    status
}
