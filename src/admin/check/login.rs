//! Checks `[login]`: who may log in.

use super::Finding;
use common::UserName;
use host::config::{Config, Login};

const TOPIC: &str = "login";

/// Tells who may log in, and warns about names without effect.
pub fn check(config: &Config) -> Vec<Finding> {
    let login = &config.login;
    let mut findings = vec![Finding::fine(TOPIC, whom(login))];
    if login.server_tokens {
        findings.push(Finding::warning(
            TOPIC,
            "server_tokens is on: who can run something in a user's server can log in here as that user",
            "Set server_tokens = false unless programs in users' servers have to log in here",
        ));
    }
    let denied = |user: &&UserName| {
        login.deny_users.iter().any(|denied| denied.as_str().eq_ignore_ascii_case(user.as_str()))
    };
    if let Some(user) = login.allow_users.iter().find(denied) {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{user} is in allow_users and in deny_users, and is refused"),
            "Remove the name from one of them",
        ));
    }
    let capital = |user: &&UserName| user.as_str().bytes().any(|b| b.is_ascii_uppercase());
    if let Some(user) = login.allow_users.iter().find(capital) {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("allow_users names {user}, but most hubs make the names of their users lower-case"),
            "Write it as the hub's admin page shows it",
        ));
    }
    findings
}

/// Describes who may log in.
fn whom(login: &Login) -> String {
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let users = || count(login.allow_users.len(), "user");
    let groups = || format!("the members of {}", count(login.allow_groups.len(), "group"));
    let mut text = match (login.allow_users.is_empty(), login.allow_groups.is_empty()) {
        (true, true) => "everybody whom the hub knows may log in".to_owned(),
        (false, true) => format!("{} may log in", users()),
        (true, false) => format!("{} may log in", groups()),
        (false, false) => format!("{} and {} may log in", users(), groups()),
    };
    if !login.deny_users.is_empty() {
        text += &format!(", but not {} in deny_users", login.deny_users.len());
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    fn texts(keys: &str) -> Vec<String> {
        let config = Config::from_str(&format!("[login]\n{keys}"), Path::new("config.toml")).unwrap();
        let findings = check(&config);
        assert!(!findings.iter().any(|finding| finding.is_error()), "{findings:?}");
        findings.into_iter().map(|finding| finding.text()).collect()
    }

    #[test]
    fn who_may_is_told() {
        for (keys, expected) in [
            ("", "login: everybody whom the hub knows may log in"),
            (
                "deny_users = ['x', 'y']",
                "login: everybody whom the hub knows may log in, but not 2 in deny_users",
            ),
            ("allow_users = ['alice']", "login: 1 user may log in"),
            ("allow_groups = ['a', 'b']", "login: the members of 2 groups may log in"),
            (
                "allow_users = ['a', 'b']\nallow_groups = ['c']\ndeny_users = ['d']",
                "login: 2 users and the members of 1 group may log in, but not 1 in deny_users",
            ),
        ] {
            assert_eq!(texts(keys), [expected], "{keys}");
        }
    }

    #[test]
    fn names_that_never_count_are_named() {
        let found = texts("allow_users = ['alice', 'bob']\ndeny_users = ['Bob']");
        assert!(found.len() == 2 && found[1].starts_with("login: bob is in allow_users and"), "{found:?}");
        let found = texts("server_tokens = true");
        assert!(found.len() == 2 && found[1].starts_with("login: server_tokens is on: who can"), "{found:?}");
        let found = texts("allow_users = ['alice', 'Bob']");
        assert!(found.len() == 2 && found[1].starts_with("login: allow_users names Bob, but"), "{found:?}");
    }
}
