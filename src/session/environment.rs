//! What of its environment a session passes on. Pure.

use std::collections::BTreeMap;

/// The client's own, from most to least wanted: sshd takes the first from the request for a terminal, sets the next two
/// itself, and has let the others through `AcceptEnv`, besides `LC_*`.
const NAMES: [&str; 5] = ["TERM", "SSH_CLIENT", "SSH_CONNECTION", "LANG", "COLORTERM"];
/// Most variables: there are 13 locales.
const MAX_VARIABLES: usize = 32;
/// Longest name of a locale, and longest value.
const MAX_NAME: usize = 32;
const MAX_VALUE: usize = 64;
/// Longest value of sshd's own: two addresses with zones, and two ports.
const MAX_ADDRESSES: usize = 256;

/// Those variables that mean something to a process in the user's server. The gateway checks each value again.
pub fn passed_on(all: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let rank = |name: &str| NAMES.iter().position(|known| *known == name);
    let mut wanted: Vec<(usize, String, String)> = all
        .filter(|(name, value)| {
            let most = if name.starts_with("SSH_") { MAX_ADDRESSES } else { MAX_VALUE };
            let harmless = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            name.len() <= MAX_NAME && value.len() <= most && harmless
        })
        .filter_map(|(name, value)| {
            let locale = name.starts_with("LC_").then_some(NAMES.len());
            Some((rank(&name).or(locale)?, name, value))
        })
        .collect();
    wanted.sort();
    wanted.truncate(MAX_VARIABLES);
    wanted.into_iter().map(|(_, name, value)| (name, value)).collect()
}

/// The same of this process.
pub fn own() -> BTreeMap<String, String> {
    passed_on(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{MAX_MESSAGE, SessionRequest, Tty, WindowSize};

    fn passed(all: &[(&str, &str)]) -> Vec<String> {
        let all = all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        passed_on(all).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn only_what_comes_from_the_client() {
        let all = [
            ("PATH", "/bin"),
            ("HOME", "/home/alice"),
            ("SSH_ORIGINAL_COMMAND", "ls"),
            ("SSH_TTY", "/dev/pts/3"),
            ("SSH_CLIENT", "192.0.2.1 40000 22"),
            ("SSH_CONNECTION", "192.0.2.1 40000 192.0.2.2 22"),
            ("LANGUAGE", "de"),
            ("LANG", "de_DE.UTF-8"),
            ("LC_TIME", "C"),
            ("TERM", "xterm"),
            ("COLORTERM", "truecolor"),
        ];
        let expected = [
            "COLORTERM=truecolor",
            "LANG=de_DE.UTF-8",
            "LC_TIME=C",
            "SSH_CLIENT=192.0.2.1 40000 22",
            "SSH_CONNECTION=192.0.2.1 40000 192.0.2.2 22",
            "TERM=xterm",
        ];
        assert_eq!(passed(&all), expected);
    }

    #[test]
    fn locales_without_number_or_end_push_nothing_else_out() {
        let many: Vec<(String, String)> =
            (0..100).map(|n| (format!("LC_{n:029}"), "\"".repeat(MAX_VALUE))).collect();
        let mut all: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        all.extend(NAMES.map(|name| (name, "x")));
        let long = "x".repeat(MAX_VALUE + 1);
        all.push(("LC_ALL", &long));
        all.push(("LC_TIME", "C\n"));
        let kept = passed(&all);
        assert_eq!(kept.len(), MAX_VARIABLES);
        assert!(NAMES.iter().all(|name| kept.contains(&format!("{name}=x"))));
        assert!(!kept.iter().any(|one| one.starts_with("LC_ALL") || one.starts_with("LC_TIME")));
        // With everything as long as can be, it is still a message.
        let addresses =
            ["SSH_CLIENT", "SSH_CONNECTION"].map(|name| (name.to_owned(), "\\".repeat(MAX_ADDRESSES)));
        let environment = passed_on(many.into_iter().chain(addresses));
        assert!(environment.contains_key("SSH_CONNECTION"));
        let tty =
            Some(Tty { size: WindowSize { rows: 65535, cols: 65535 }, modes: vec![(129, u32::MAX); 53] });
        let request = SessionRequest::Exec { length: u32::MAX, tty, environment };
        let length = serde_json::to_vec(&request).map_or(usize::MAX, |bytes| bytes.len());
        assert!(length <= MAX_MESSAGE, "{length}");
    }
}
