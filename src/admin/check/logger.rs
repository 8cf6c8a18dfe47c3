//! Checks that a logger listens. Users are told little about why they are refused; the reason is in
//! the log.

use super::Finding;
use host::log::{Listening, listening};
use std::path::Path;

const TOPIC: &str = "log";

/// Looks for a logger at /dev/log and at the journal's socket.
pub fn check() -> Vec<Finding> {
    vec![judge(listening(), Path::new("/run/systemd/system").exists())]
}

fn judge(listening: Listening, systemd: bool) -> Finding {
    let what = match listening {
        Listening { syslog: true, .. } => return Finding::fine(TOPIC, "a logger takes lines"),
        Listening { journal: true, .. } => {
            "nobody listens at /dev/log: what sshd and the modules say of logins is lost, such as why one was refused"
        }
        Listening { .. } => {
            "nobody listens at /dev/log: everything that is logged is lost, such as why a login was refused"
        }
    };
    let remedy = if systemd {
        "systemctl restart systemd-journald-dev-log.socket; or install a logger: apt install rsyslog"
    } else {
        "Install a logger, and start it: apt install rsyslog; rsyslogd"
    };
    Finding::warning(TOPIC, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_nobody_takes_are_worth_a_warning() {
        for (journal, syslog, said) in [
            (true, true, "a logger takes lines"),
            (false, true, "a logger takes lines"),
            (true, false, "what sshd and the modules say"),
            (false, false, "everything that is logged is lost"),
        ] {
            for systemd in [true, false] {
                let text = judge(Listening { journal, syslog }, systemd).text();
                assert!(text.contains(said), "{text}");
                assert_eq!(text.contains("systemctl"), systemd && !syslog, "{text}");
            }
        }
    }
}
