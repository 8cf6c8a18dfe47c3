//! A finding: what a check found, how bad it is, and what to do.

use host::homes::bounded;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text of a finding, in bytes: parts of it come from files, programs and the network.
const MAX_TEXT: usize = 1000;

/// How bad a finding is. Part of the output of `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All is in order.
    Ok,
    /// Worth knowing; nothing is wrong.
    Info,
    /// It could not be found out whether all is in order.
    Unknown,
    /// May be unintended, or may keep users out some day.
    Warning,
    /// Keeps users out or away from their files, or lets somebody do more than they may.
    Error,
}

impl Severity {
    /// The word in the output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding. Its texts are single lines without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The part that it is about, a word from the list in jupyterhub-openssh(8).
    pub topic: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it, with the command to type where there is one.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(topic: &str, severity: Severity, what: impl fmt::Display, remedy: Option<String>) -> Self {
        // Parts may come from files and programs whose lines end in CR LF.
        let line = |text: &str| bounded(text.replace("\r\n", "\n").trim_end(), MAX_TEXT);
        Self {
            topic: topic.to_owned(),
            severity,
            what: line(&what.to_string()),
            remedy: remedy.map(|text| line(&text)),
        }
    }

    /// Makes a finding that something is in order.
    pub fn fine(topic: &str, what: impl fmt::Display) -> Self {
        Self::new(topic, Severity::Ok, what, None)
    }

    /// Makes a finding that is worth knowing, with what could be done.
    pub fn info(topic: &str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::new(topic, Severity::Info, what, Some(remedy.to_string()))
    }

    /// Makes a finding that something could not be found out.
    pub fn unknown(topic: &str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::new(topic, Severity::Unknown, what, Some(remedy.to_string()))
    }

    /// Makes a finding that something may be unintended.
    pub fn warning(topic: &str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::new(topic, Severity::Warning, what, Some(remedy.to_string()))
    }

    /// Makes a finding that something keeps users out, or lets somebody do more than they may.
    pub fn error(topic: &str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::new(topic, Severity::Error, what, Some(remedy.to_string()))
    }

    /// True if the finding is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The whole finding in one line, for tests.
    #[cfg(test)]
    pub fn text(&self) -> String {
        let remedy = self.remedy.as_ref().map(|text| format!(". {text}")).unwrap_or_default();
        format!("{}: {}{remedy}", self.topic, self.what)
    }
}

/// The worst of them; nothing found is in order.
#[must_use]
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_single_lines_of_limited_length() {
        let found = Finding::error("x", format!("a\nb\x1b[2J{}", "ü".repeat(2000)), "c\rd");
        assert!(found.what.starts_with("a; b\\u{1b}[2Jü") && found.what.len() <= MAX_TEXT);
        assert_eq!(found.remedy.as_deref(), Some("c\\u{d}d"));
        let found = Finding::unknown("x", "said: a\r\nb\r\n", "c\r");
        assert_eq!((found.what.as_str(), found.remedy.as_deref()), ("said: a; b", Some("c")));
    }

    #[test]
    fn the_worst_counts_and_unknown_is_worse_than_fine() {
        assert_eq!(worst(&[]), Severity::Ok);
        let mut found = vec![Finding::info("x", "", ""), Finding::fine("x", "")];
        assert_eq!(worst(&found), Severity::Info);
        found.push(Finding::unknown("x", "", ""));
        assert_eq!(worst(&found), Severity::Unknown);
        found.insert(0, Finding::error("x", "", ""));
        assert_eq!(worst(&found), Severity::Error);
    }
}
