//! What sshd does for a user, from the output of `sshd -T -C user=…`. Pure.

use super::Finding;
use crate::config::Jail;
use accounts::paths::{AUTHORIZED_KEYS_PROGRAM, GROUP, JAIL_DIR, SESSION_SHELL};
use std::collections::HashMap;

pub const TOPIC: &str = "sshd";
/// The package's file.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-jupyterhub.conf";

/// sshd's effective configuration: keywords in lower case, each with its values in order.
#[derive(Debug, Default)]
pub struct Effective(HashMap<String, Vec<String>>);

impl Effective {
    /// Reads what `sshd -T` prints: a keyword and its value in a line, some keywords in several.
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

    /// The first value of a keyword in lower case; empty when this sshd doesn't know it.
    #[must_use]
    pub fn get(&self, keyword: &str) -> &str {
        self.0.get(keyword).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// All values of a keyword, those that stand in one line apart.
    pub fn words(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.0.get(keyword).into_iter().flatten().flat_map(|value| value.split_whitespace())
    }

    /// Whether the package's Match block is in force.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.get("forcecommand") == SESSION_SHELL || self.get("chrootdirectory") == JAIL_DIR
    }
}

/// What is wrong with what a hub user gets, when the block is in force. `keys_on`: `[keys]` is switched on.
#[must_use]
pub fn hub_user(found: &Effective, keys_on: bool, jail: Jail) -> Vec<Finding> {
    let confinement = match jail {
        Jail::Namespaces => [
            rule(
                "ForceCommand",
                &[SESSION_SHELL, "internal-sftp"],
                "hub users could run programs on this host",
            ),
            rule("ChrootDirectory", &[JAIL_DIR], "hub users would see this host's files"),
        ],
        Jail::None => [
            rule("ForceCommand", &[SESSION_SHELL], "hub users could read what sshd's own user can"),
            rule("ChrootDirectory", &["none"], "sshd can do that as root only, and ends each session"),
        ],
    };
    let rules = RULES.iter().chain(&confinement);
    let mut findings: Vec<Finding> = rules.filter_map(|rule| broken(rule, found, keys_on)).collect();
    findings.extend(methods(found, keys_on));
    findings.extend(admission(found));
    findings.extend(principals(found));
    findings
}

/// How bad it is when a rule is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// Hub users can do what they may not, or cannot log in.
    Always,
    /// Only where keys are switched on.
    WithKeys,
}

/// A keyword that must have one of these values.
struct Rule {
    /// As people write it.
    keyword: &'static str,
    allowed: &'static [&'static str],
    otherwise: &'static str,
    harm: Harm,
}

const fn rule(keyword: &'static str, allowed: &'static [&'static str], otherwise: &'static str) -> Rule {
    Rule { keyword, allowed, otherwise, harm: Harm::Always }
}

const RULES: [Rule; 15] = [
    rule("UsePAM", &["yes"], "no token can be checked, and no session gets its jail"),
    rule("PAMServiceName", &["", "sshd"], "the PAM module serves the service sshd only"),
    rule("DisableForwarding", &["yes"], "hub users reach the network of this host"),
    rule("AllowTcpForwarding", &["no"], "hub users reach the network of this host"),
    rule("AllowStreamLocalForwarding", &["no"], "hub users reach sockets of this host"),
    rule(
        "AllowAgentForwarding",
        &["no"],
        "before OpenSSH 10 DisableForwarding leaves it open (CVE-2025-32728)",
    ),
    rule("X11Forwarding", &["no"], "before OpenSSH 10 DisableForwarding leaves it open (CVE-2025-32728)"),
    rule("PermitTunnel", &["no"], "hub users reach the network of this host"),
    rule("PermitUserRC", &["no"], "a file in a user's home would be executed here"),
    rule("PermitRootLogin", &["no"], "a hub user with uid 0 would not be refused"),
    rule("PermitEmptyPasswords", &["no"], "PAM would be asked with an empty token"),
    rule("KerberosAuthentication", &["", "no"], "tokens are tried as Kerberos passwords first"),
    rule(
        "AuthorizedKeysFile",
        &["none"],
        "keys count that stand in a directory of this host named like the jail's home",
    ),
    Rule {
        keyword: "AuthorizedKeysCommand",
        allowed: &[AUTHORIZED_KEYS_PROGRAM],
        otherwise: "no key of a hub user is found",
        harm: Harm::WithKeys,
    },
    Rule {
        keyword: "AuthorizedKeysCommandUser",
        allowed: &["%u"],
        otherwise: "keys are not looked for with the user's own rights",
        harm: Harm::WithKeys,
    },
];

fn broken(rule: &Rule, found: &Effective, keys_on: bool) -> Option<Finding> {
    let value = found.get(&rule.keyword.to_ascii_lowercase());
    // A command has arguments.
    let word = value.split_whitespace().next().unwrap_or_default();
    if rule.allowed.contains(&word) {
        return None;
    }
    let shown = if value.is_empty() { "not set" } else { value };
    let wanted = rule.allowed.iter().find(|wanted| !wanted.is_empty()).unwrap_or(&"");
    let what = format!("for hub users {} is {shown}, not {wanted}: {}", rule.keyword, rule.otherwise);
    let remedy = change(rule.keyword);
    Some(match rule.harm {
        Harm::WithKeys if !keys_on => Finding::warning(TOPIC, what, remedy),
        _ => Finding::error(TOPIC, what, remedy),
    })
}

/// How to find what sets a keyword: for sshd the first value counts.
fn change(keyword: &str) -> String {
    format!(
        "Remove what sets it before {DROP_IN} does (grep -ri {keyword} /etc/ssh/sshd_config /etc/ssh/sshd_config.d), then: \
         sshd -t && systemctl reload ssh"
    )
}

/// How hub users may authenticate: by nothing else than a key and a token, and by one of these at least.
fn methods(found: &Effective, keys_on: bool) -> Option<Finding> {
    const KEYWORD: &str = "authenticationmethods";
    let on = |keyword: &str| found.get(keyword) == "yes";
    let value = || found.words(KEYWORD).collect::<Vec<_>>().join(" ");
    let mut usable = 0;
    for list in found.words(KEYWORD) {
        let mut possible = true;
        for method in list.split(',') {
            possible &= match method {
                "publickey" => on("pubkeyauthentication") && keys_on,
                "keyboard-interactive" | "keyboard-interactive:pam" => on("kbdinteractiveauthentication"),
                "password" => on("passwordauthentication"),
                _ => {
                    let what = format!(
                        "hub users may log in by \"{method}\" (AuthenticationMethods {}): then nobody has asked the hub",
                        value()
                    );
                    return Some(Finding::error(TOPIC, what, change("AuthenticationMethods")));
                }
            };
        }
        usable += usize::from(possible);
    }
    (usable == 0).then(|| {
        let what = format!("no hub user can log in: none of AuthenticationMethods {} is possible", value());
        let remedy = if keys_on {
            change("KbdInteractiveAuthentication, PasswordAuthentication, PubkeyAuthentication")
        } else {
            "Switch keys on (keys.service_token_file in config.toml), or allow keyboard-interactive:pam"
                .to_owned()
        };
        Finding::error(TOPIC, what, remedy)
    })
}

/// AllowUsers and the like, which hold for hub users as for everybody.
fn admission(found: &Effective) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut allowed = found.words("allowgroups").peekable();
    if allowed.peek().is_some() && !allowed.any(|pattern| matches(pattern, GROUP)) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("no hub user can log in: AllowGroups leaves out {GROUP}"),
            format_args!(
                "Add {GROUP} to AllowGroups in /etc/ssh/sshd_config, then: sshd -t && systemctl reload ssh"
            ),
        ));
    }
    if found.words("denygroups").any(|pattern| matches(pattern, GROUP)) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("no hub user can log in: DenyGroups has {GROUP}"),
            "Remove it from DenyGroups, then: sshd -t && systemctl reload ssh",
        ));
    }
    if found.words("allowusers").next().is_some() {
        findings.push(Finding::warning(
            TOPIC,
            "AllowUsers is set: hub users whom it doesn't name cannot log in",
            "Use AllowGroups instead, with the administrators' group and jupyterhub",
        ));
    }
    findings
}

/// sshd's patterns: `*`, `?`, and `!` before one that excludes.
fn matches(pattern: &str, name: &str) -> bool {
    fn glob(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                glob(rest, name) || name.split_first().is_some_and(|(_, left)| glob(pattern, left))
            }
            (Some((b'?', rest)), Some((_, left))) => glob(rest, left),
            (Some((one, rest)), Some((other, left))) => one == other && glob(rest, left),
            _ => false,
        }
    }
    // Bounded: each star doubles the work.
    pattern.bytes().filter(|b| *b == b'*').count() <= 8 && glob(pattern.as_bytes(), name.as_bytes())
}

/// An authority of certificates without a command that says whom they are for.
fn principals(found: &Effective) -> Option<Finding> {
    let authority = found.get("trustedusercakeys");
    if matches!(authority, "" | "none") {
        return None;
    }
    matches!(found.get("authorizedprincipalscommand"), "" | "none").then(|| {
        Finding::error(
            TOPIC,
            format_args!("certificates of {authority} are accepted, but AuthorizedPrincipalsCommand is not in force"),
            "Let it stand before AuthorizedKeysCommand (OpenSSH before 9.9 ignores it behind that), then: sshd -t && \
             systemctl reload ssh",
        )
    })
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
