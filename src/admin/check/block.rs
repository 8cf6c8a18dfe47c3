//! Judges what sshd does for hub users, from the output of `sshd -T -C user=…`. Pure.

use super::Finding;
use common::paths::{AUTHORIZED_KEYS_PROGRAM, GROUP};
use host::config::Jail;
pub use host::confinement::effective::Effective;
use host::confinement::effective::{Rule, confining, rule};
use host::confinement::text::matches;

/// The topic of findings about sshd.
pub const TOPIC: &str = "sshd";
pub use host::confinement::text::DROP_IN;

/// Finds what is wrong with the settings of hub users, while our Match block is in force.
///
/// `login` is the login to follow, unless it is a local account's. `keys_on` is true if `[keys]` is
/// switched on.
#[must_use]
pub fn hub_user(found: &Effective, login: Option<&str>, keys_on: bool, jail: Jail) -> Vec<Finding> {
    // If one of these rules is broken, every login is refused.
    let confining = confining(jail).filter(|rule| !rule.holds(found)).map(|rule| {
        let what = format!("no hub user is let in: {}", rule.broken(found));
        Finding::error(TOPIC, what, change(rule.keyword))
    });
    let errors = RULES
        .iter()
        .filter(|rule| !rule.holds(found))
        .map(|rule| Finding::error(TOPIC, rule.broken(found), change(rule.keyword)));
    let of_keys = OF_KEYS.iter().filter(|rule| !rule.holds(found)).map(|rule| {
        let finding = if keys_on { Finding::error } else { Finding::warning };
        finding(TOPIC, rule.broken(found), change(rule.keyword))
    });
    let mut findings: Vec<Finding> = confining.chain(errors).chain(of_keys).collect();
    findings.extend(environment(found));
    findings.extend(methods(found, keys_on));
    findings.extend(admission(found, login));
    findings.extend(principals(found));
    findings
}

/// Warns if the user or the client can set dangerous environment variables for programs on this
/// host.
fn environment(found: &Effective) -> Vec<Finding> {
    /// Variables of ld.so(8) that load more code or change what the C library does.
    const LOADER: [&str; 4] = ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GLIBC_TUNABLES"];
    let mut findings = Vec::new();
    let value = found.get("permituserenvironment");
    // Neither yes nor no: a list of patterns.
    let any = |pattern: &str| LOADER.iter().any(|name| matches(pattern, name));
    if value == "yes" || value.split(',').any(any) {
        findings.push(Finding::warning(
            TOPIC,
            format_args!(
                "PermitUserEnvironment is {value}: what hub users write into .ssh/environment of their homes reaches the program \
                 that confines them"
            ),
            "Set PermitUserEnvironment to no in /etc/ssh/sshd_config, or to the names that local accounts need, then: sshd -t && \
             systemctl reload ssh",
        ));
    }
    if let Some(pattern) = found.words("acceptenv").find(|pattern| any(pattern)) {
        findings.push(Finding::warning(
            TOPIC,
            format_args!(
                "AcceptEnv lets {pattern} in from hub users: with {} they reach the program that confines them",
                LOADER[0]
            ),
            change("AcceptEnv"),
        ));
    }
    findings
}

/// Further rules. If one is broken, hub users can do what they may not, or cannot log in.
const RULES: [Rule; 6] = [
    rule("UsePAM", &["yes"], "no token can be checked, and no session gets its jail"),
    rule("PAMServiceName", &["", "sshd"], "the PAM module serves the service sshd only"),
    rule("PermitRootLogin", &["no"], "a hub user with uid 0 would not be refused"),
    rule("PermitEmptyPasswords", &["no"], "PAM would be asked with an empty token"),
    rule("KerberosAuthentication", &["", "no"], "tokens are tried as Kerberos passwords first"),
    rule(
        "AuthorizedKeysFile",
        &["none"],
        "keys count that stand in a directory of this host named like the jail's home",
    ),
];

/// The rules for hosts where keys are switched on.
const OF_KEYS: [Rule; 2] = [
    rule("AuthorizedKeysCommand", &[AUTHORIZED_KEYS_PROGRAM], "no key of a hub user is found"),
    rule("AuthorizedKeysCommandUser", &["%u"], "keys are not looked for with the user's own rights"),
];

/// The remedy for a keyword with a wrong value: find what sets it first, as sshd uses the first
/// value.
fn change(keyword: &str) -> String {
    format!(
        "Remove what sets it before {DROP_IN} does (grep -riE '{keyword}' /etc/ssh/sshd_config /etc/ssh/sshd_config.d), then: \
         sshd -t && systemctl reload ssh"
    )
}

/// Checks how hub users may authenticate: only by key and token, and by at least one of them.
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
            change("KbdInteractiveAuthentication|PasswordAuthentication|PubkeyAuthentication")
        } else {
            "Switch keys on (keys.service_token_file in config.toml), or allow keyboard-interactive:pam"
                .to_owned()
        };
        Finding::error(TOPIC, what, remedy)
    })
}

/// Checks AllowUsers and the like, which hold for hub users too.
fn admission(found: &Effective, login: Option<&str>) -> Vec<Finding> {
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
    // A pattern with an @ is also about the client, which isn't known here.
    let denies =
        |pattern: &&str| !pattern.contains('@') && login.is_some_and(|login| matches(pattern, login));
    if let (Some(login), Some(pattern)) = (login, found.words("denyusers").find(denies)) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("{login} cannot log in: DenyUsers has {pattern}"),
            "Remove it from DenyUsers, then: sshd -t && systemctl reload ssh",
        ));
    }
    for keyword in ["DenyUsers", "AllowUsers"] {
        findings.extend(
            found.words(&keyword.to_ascii_lowercase()).find_map(|pattern| at_a_host(keyword, pattern)),
        );
    }
    findings
}

/// Warns about a pattern that may be meant for a hub user with an @ in the name. sshd takes it for
/// a user and the client's host, which is an address because sshd looks up no names (UseDNS).
fn at_a_host(keyword: &str, pattern: &str) -> Option<Finding> {
    let (user, host) = pattern.split_once('@')?;
    let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains([':', '*', '?', '/']);
    is_name.then(|| {
        let does = if keyword == "DenyUsers" { "deny" } else { "allow" };
        Finding::warning(
            TOPIC,
            format_args!(
                "{keyword} has {pattern}, which to sshd is {user} coming from the host {host}: it does not {does} a hub user of that name"
            ),
            format_args!(
                "If a hub user is meant: {} in [login] of config.toml, or with ? for the @: {keyword} {user}?{host}",
                if keyword == "DenyUsers" { "deny_users" } else { "allow_users" }
            ),
        )
    })
}

/// Finds an authority for certificates without a command that says which users they are for.
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
