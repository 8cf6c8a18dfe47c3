//! What sshd would do for a user, from the output of `sshd -T -C user=…`, and whether that confines
//! the user. Pure.

use crate::config::Jail;
use common::paths::{JAIL_DIR, SESSION_SHELL};
use std::collections::HashMap;

/// sshd's effective configuration: keywords in lower case, each with its values in order.
#[derive(Debug, Default)]
pub struct Effective(HashMap<String, Vec<String>>);

impl Effective {
    /// Parses the output of `sshd -T`: a keyword and its value on each line; some keywords have
    /// several lines.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for line in text.lines() {
            let (keyword, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            if !keyword.is_empty() {
                values.entry(keyword.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
            }
        }
        Self(values)
    }

    /// Returns the first value of a keyword in lower case; empty if this sshd doesn't know the
    /// keyword.
    #[must_use]
    pub fn get(&self, keyword: &str) -> &str {
        self.0.get(keyword).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Returns all values of a keyword; several values on one line are split.
    pub fn words(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.0.get(keyword).into_iter().flatten().flat_map(|value| value.split_whitespace())
    }

    /// True if the package's Match block is in force.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.get("forcecommand") == SESSION_SHELL || self.get("chrootdirectory") == JAIL_DIR
    }

    /// Returns the rules that this configuration breaks. If there are none, sshd confines the hub
    /// user.
    pub(crate) fn opened(&self, jail: Jail) -> impl Iterator<Item = &'static Rule> {
        confining(jail).filter(|rule| !rule.holds(self))
    }
}

/// A keyword that must have one of these values.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The keyword in its usual spelling.
    pub keyword: &'static str,
    /// The allowed values, compared with the first word, because a command has arguments. An empty
    /// one: this sshd may not know the keyword.
    pub allowed: &'static [&'static str],
    /// What happens with any other value.
    pub otherwise: &'static str,
}

impl Rule {
    /// True if the keyword has one of the allowed values.
    #[must_use]
    pub fn holds(&self, found: &Effective) -> bool {
        let value = found.get(&self.keyword.to_ascii_lowercase());
        self.allowed.contains(&value.split_whitespace().next().unwrap_or_default())
    }

    /// Explains what another value leads to.
    #[must_use]
    pub fn broken(&self, found: &Effective) -> String {
        let value = found.get(&self.keyword.to_ascii_lowercase());
        let shown = if value.is_empty() { "not set" } else { value };
        let wanted = self.allowed.iter().find(|wanted| !wanted.is_empty()).unwrap_or(&"");
        format!("for hub users {} is {shown}, not {wanted}: {}", self.keyword, self.otherwise)
    }
}

/// Shortens a list of rules to one phrase.
#[must_use]
pub const fn rule(keyword: &'static str, allowed: &'static [&'static str], otherwise: &'static str) -> Rule {
    Rule { keyword, allowed, otherwise }
}

/// What confines a connection: a login that breaks one of these rules is refused. A files-only door
/// runs internal-sftp in the same jail.
const JAILED: [Rule; 2] = [
    rule("ForceCommand", &[SESSION_SHELL, "internal-sftp"], "only that is known to confine them"),
    rule(
        "ChrootDirectory",
        &[JAIL_DIR],
        "sessions are not in their jail, and sshd's own sftp would show this host's files",
    ),
];
/// The rules where sshd doesn't run as root.
const WITHOUT_JAIL: [Rule; 2] = [
    rule("ForceCommand", &[SESSION_SHELL], "hub users could read what sshd's own user can"),
    rule("ChrootDirectory", &["none"], "sshd can do that as root only, and ends each session"),
];
const LOCKS: [Rule; 7] = [
    rule("DisableForwarding", &["yes"], "a part is missing of what keeps hub users from this host's network"),
    rule("AllowTcpForwarding", &["no"], "a part is missing of what keeps hub users from this host's network"),
    rule(
        "AllowStreamLocalForwarding",
        &["no"],
        "a part is missing of what keeps hub users from this host's sockets",
    ),
    rule(
        "AllowAgentForwarding",
        &["no"],
        "before OpenSSH 10 DisableForwarding leaves it open (CVE-2025-32728)",
    ),
    rule("X11Forwarding", &["no"], "before OpenSSH 10 DisableForwarding leaves it open (CVE-2025-32728)"),
    rule("PermitTunnel", &["no"], "a part is missing of what keeps hub users from this host's network"),
    rule("PermitUserRC", &["no"], "sshd tries to execute a file of the user's home"),
];

/// Returns all rules that confine.
pub fn confining(jail: Jail) -> impl Iterator<Item = &'static Rule> {
    let first = match jail {
        Jail::Namespaces => &JAILED,
        Jail::None => &WITHOUT_JAIL,
    };
    first.iter().chain(&LOCKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: &str = "\
forcecommand /usr/lib/jupyterhub-openssh/session
chrootdirectory /run/jupyterhub-openssh/jail
disableforwarding yes
allowtcpforwarding no
allowstreamlocalforwarding no
allowagentforwarding no
x11forwarding no
permittunnel no
permituserrc no
authenticationmethods publickey
";

    fn opened(text: &str) -> Vec<&'static str> {
        Effective::parse(text).opened(Jail::Namespaces).map(|rule| rule.keyword).collect()
    }

    #[test]
    fn each_lock_counts() {
        assert!(opened(CONFINED).is_empty());
        // Settings that an administrator may choose.
        let door = CONFINED.replace("/usr/lib/jupyterhub-openssh/session", "internal-sftp -l INFO -u 0022");
        assert!(opened(&door).is_empty());
        for line in CONFINED.lines().filter(|line| !line.starts_with("auth")) {
            let Some((keyword, value)) = line.split_once(' ') else { continue };
            let other = if value == "yes" { "no" } else { "yes" };
            for text in [
                CONFINED.replace(line, ""),
                CONFINED.replace(line, &format!("{keyword} {other}")),
                CONFINED.replace(line, &format!("{keyword} {value}x")),
            ] {
                let found = opened(&text);
                assert!(found.len() == 1 && found[0].eq_ignore_ascii_case(keyword), "{keyword}: {found:?}");
            }
        }
        assert_eq!(opened("").len(), 9);
        assert_eq!(opened("\0\u{202e}\nforcecommand\n  chrootdirectory").len(), 9);
    }

    #[test]
    fn without_a_jail_other_values_confine() {
        let none = CONFINED.replace(JAIL_DIR, "none");
        assert_eq!(Effective::parse(&none).opened(Jail::None).count(), 0);
        assert_eq!(Effective::parse(CONFINED).opened(Jail::None).count(), 1);
        let door = none.replace("/usr/lib/jupyterhub-openssh/session", "internal-sftp");
        assert_eq!(Effective::parse(&door).opened(Jail::None).count(), 1);
    }
}
