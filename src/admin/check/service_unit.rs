//! Checks systemd's limits on ssh.service, in which all connections run.

use super::Finding;
use super::run::run;
use std::path::Path;
use std::time::Duration;

const TOPIC: &str = "systemd";
/// Tasks (processes and threads) of one connection.
const TASKS: u64 = 5;
/// Connections that should have room.
const SESSIONS: u64 = 200;

/// Asks systemd. Without systemd there are no findings.
pub fn check() -> Vec<Finding> {
    if !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let arguments = ["show", "ssh.service", "--property=TasksMax,OOMPolicy"];
    match run("/usr/bin/systemctl", &arguments, Duration::from_secs(3)) {
        Ok(said) if said.success => judge(&said.out),
        // No warning: the limits matter only with many connections at once.
        _ => vec![Finding::info(
            TOPIC,
            "the limits of ssh.service could not be read",
            "systemctl show ssh.service",
        )],
    }
}

fn judge(text: &str) -> Vec<Finding> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let mut findings = Vec::new();
    if let Some(most) =
        value("TasksMax").and_then(|text| text.parse::<u64>().ok()).filter(|most| *most < TASKS * SESSIONS)
    {
        findings.push(Finding::info(
            TOPIC,
            format_args!(
                "ssh.service has room for some {} sessions (TasksMax {most}, {TASKS} tasks a session)",
                most / TASKS
            ),
            "For more: systemctl set-property ssh.service TasksMax=4000",
        ));
    }
    if value("OOMPolicy").is_some_and(|policy| policy != "continue") {
        findings.push(Finding::info(
            TOPIC,
            "when memory runs out and one process of ssh.service is killed, all sessions and sshd end (OOMPolicy)",
            "systemctl edit ssh.service, and write two lines: [Service] and OOMPolicy=continue",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_limits_are_told() {
        assert_eq!(judge("TasksMax=153\nOOMPolicy=stop").len(), 2);
        assert!(judge("TasksMax=153").iter().all(|found| found.text().contains("some 30 sessions")));
        assert!(judge("TasksMax=infinity\nOOMPolicy=continue").is_empty());
        assert!(judge("TasksMax=18446744073709551615\n").is_empty());
        assert!(judge("").is_empty() && judge("TasksMax\n=\n").is_empty());
    }
}
