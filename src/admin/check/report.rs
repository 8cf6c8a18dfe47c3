//! Formats the findings: as lines for people, or as a JSON object for programs.

use super::finding::{Finding, Severity, worst};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Exit status if all is in order.
const FINE: u8 = 0;
/// Exit status if something may be wrong, or could not be found out.
const WARNINGS: u8 = 1;
/// Exit status if something is wrong.
const ERRORS: u8 = 2;

/// Version of the JSON object. Keys may be added without a new version; existing ones keep their
/// names and meanings.
const SCHEMA: u32 = 1;

/// The exit status for these findings.
#[must_use]
pub fn exit_status(findings: &[Finding]) -> u8 {
    match worst(findings) {
        Severity::Ok | Severity::Info => FINE,
        Severity::Unknown | Severity::Warning => WARNINGS,
        Severity::Error => ERRORS,
    }
}

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    program_version: &'a str,
    user: Option<&'a str>,
    severity: Severity,
    exit_status: u8,
    findings: &'a [Finding],
}

/// Writes the object of `--json`, in one line. `user` is the login that was followed.
#[must_use]
pub fn json(findings: &[Finding], user: Option<&str>) -> String {
    let report = Report {
        schema: SCHEMA,
        program_version: env!("CARGO_PKG_VERSION"),
        user,
        severity: worst(findings),
        exit_status: exit_status(findings),
        findings,
    };
    // Cannot fail, because it has numbers and texts only.
    serde_json::to_string(&report).unwrap_or_default()
}

/// Writes a finding for people: one line with what was found, and one with what to do.
#[must_use]
pub fn lines(finding: &Finding, colours: bool) -> String {
    let style = match finding.severity {
        _ if !colours => Style::new(),
        Severity::Ok => AnsiColor::Green.on_default(),
        Severity::Info => AnsiColor::Cyan.on_default(),
        Severity::Unknown | Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Error => AnsiColor::Red.on_default().bold(),
    };
    let severity = finding.severity.as_str();
    let mut text = format!("{style}{severity:<8}{style:#} {}: {}\n", finding.topic, finding.what);
    if let Some(remedy) = &finding.remedy {
        text += &format!("{:9}> {remedy}\n", "");
    }
    text
}

/// Writes the last line for people, which counts the findings.
#[must_use]
pub fn summary(findings: &[Finding]) -> String {
    let count = |severity: Severity, one: &str, many: &str| match findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
    {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {many}")),
    };
    let parts: Vec<String> = [
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Unknown, "thing that could not be found out", "things that could not be found out"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "Everything is in order.".to_owned() } else { format!("{}.", parts.join(", ")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_the_worst() {
        assert_eq!(exit_status(&[]), FINE);
        assert_eq!(exit_status(&[Finding::info("x", "", "")]), FINE);
        assert_eq!(exit_status(&[Finding::unknown("x", "", ""), Finding::fine("x", "")]), WARNINGS);
        assert_eq!(exit_status(&[Finding::error("x", "", ""), Finding::warning("x", "", "")]), ERRORS);
    }

    #[test]
    fn the_object_has_these_keys() {
        let found = [Finding::fine("hub", "good"), Finding::error("sshd", "say \"no\"", "do it")];
        let value: serde_json::Value = serde_json::from_str(&json(&found, Some("alice"))).unwrap();
        let expected = serde_json::json!({
            "schema": 1, "program_version": env!("CARGO_PKG_VERSION"), "user": "alice", "severity": "error",
            "exit_status": 2, "findings": [
                {"topic": "hub", "severity": "ok", "what": "good", "remedy": null},
                {"topic": "sshd", "severity": "error", "what": "say \"no\"", "remedy": "do it"},
            ],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn people_read_lines() {
        let found = Finding::warning("hub", "slow", "wait");
        assert_eq!(lines(&found, false), "warning  hub: slow\n         > wait\n");
        assert!(lines(&found, true).starts_with("\x1b[33mwarning \x1b[0m hub: slow"));
        assert_eq!(lines(&Finding::fine("hub", "up"), false), "ok       hub: up\n");
        assert_eq!(summary(&[Finding::fine("x", "")]), "Everything is in order.");
        let two = [found.clone(), Finding::error("x", "", ""), found];
        assert_eq!(summary(&two), "1 error, 2 warnings.");
    }
}
