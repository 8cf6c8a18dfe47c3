//! `jupyterhub-openssh check`: tells the administrator what is wrong with this bastion. One file a topic.

mod configuration;
mod files;
mod homes;
mod keys;
mod login;
mod shares;

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

/// Nothing keeps users out, or from their files.
const FINE: u8 = 0;
/// Something does.
const BROKEN: u8 = 1;

/// How long a file system may take to answer: a file server that hangs must not hang the administrator too.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found: a line for the administrator.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    text: String,
    broken: bool,
}

impl Finding {
    /// Something is in order.
    fn fine(topic: &str, text: impl fmt::Display) -> Self {
        Self { text: format!("{topic}: {text}"), broken: false }
    }

    /// Something may be meant otherwise, but keeps nobody from anything.
    fn advice(topic: &str, problem: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { text: format!("{topic}: {problem}. {remedy}"), broken: false }
    }

    /// Something keeps users out, or from their files.
    fn broken(topic: &str, problem: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { text: format!("{topic}: {problem}. {remedy}"), broken: true }
    }
}

/// Runs every check, says what was found, and returns the exit status: 0 when nothing keeps users out or from their files,
/// otherwise 1.
#[must_use]
pub fn run() -> u8 {
    let (config, mut findings) = configuration::check();
    if let Some(config) = config {
        findings.extend(homes::check(&config));
        findings.extend(files::check(&config));
        findings.extend(shares::check(&config));
        findings.extend(login::check(&config));
        findings.extend(keys::check(&config));
    }
    let mut out = io::stdout().lock();
    for finding in &findings {
        // Whoever reads this may have stopped reading (EPIPE).
        let _ = writeln!(out, "{}", finding.text);
    }
    if findings.iter().any(|finding| finding.broken) { BROKEN } else { FINE }
}
