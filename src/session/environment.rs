//! The part of its environment that a channel passes on. Pure.

use host::environment::{MAX_VARIABLES, may_be_value, may_travel};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Passed on wherever they stand: sshd takes the first from the request for a terminal, and sets
/// the others itself.
const ANYWHERE: [&str; 3] = ["TERM", "SSH_CLIENT", "SSH_CONNECTION"];
/// The variable that sshd sets first, directly after those of the client.
const AFTER_THE_CLIENTS: [&str; 5] = ["USER", "LOGNAME", "HOME", "PATH", "SHELL"];
/// Longest value of a variable that sshd sets, in bytes: two addresses with zones, and two ports.
const MAX_ADDRESSES: usize = 256;
/// Most bytes of all variables together, as they stand in a message.
const MAX_BYTES: usize = 12 * 1024;

/// Selects the variables that mean something to a process in the user's server. The gateway checks
/// each again.
///
/// A variable's place tells where it comes from. sshd begins with those that the client has sent
/// and `AcceptEnv` has let in, goes on with `USER`, and appends what PAM's modules and `SetEnv` say
/// (session.c, do_setup_env). The latter belong to this host, so they stay here. Where one of them
/// replaces a variable of the client's, it wins, as with any sshd.
pub fn passed_on(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let mut clients = true;
    let mut wanted = Vec::new();
    for (name, value) in all {
        let Ok(name) = name.into_string() else { continue };
        clients &= !AFTER_THE_CLIENTS.contains(&name.as_str());
        let Ok(value) = value.into_string() else { continue };
        let own = ANYWHERE.contains(&name.as_str());
        let good = if name.starts_with("SSH_") {
            value.len() <= MAX_ADDRESSES && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        } else {
            may_travel(&name) && may_be_value(&name, &value)
        };
        if good && (own || clients) {
            wanted.push((!own, name, value));
        }
    }
    // sshd's own first, then the client's, in its order.
    wanted.sort_by_key(|(clients, ..)| *clients);
    let mut left = MAX_BYTES;
    let mut passed = BTreeMap::new();
    for (_, name, value) in wanted {
        // Two pairs of quotes, a colon and a comma.
        let length = name.len() + length_in_json(&value) + 6;
        if passed.len() < MAX_VARIABLES && length <= left {
            left -= length;
            passed.insert(name, value);
        }
    }
    passed
}

/// An upper limit for the bytes of a text in JSON.
fn length_in_json(text: &str) -> usize {
    text.bytes().map(|byte| if byte < b' ' { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum()
}

/// Selects from the environment of this process.
pub fn own() -> BTreeMap<String, String> {
    passed_on(std::env::vars_os())
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::environment::{MAX_NAME, MAX_VALUE};
    use wire::MAX_MESSAGE;
    use wire::session::{SessionRequest, Tty, WindowSize};

    fn passed(all: &[(&str, &str)]) -> Vec<String> {
        let all = all.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        passed_on(all).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn only_what_comes_from_the_client() {
        let all = [
            // The client's.
            ("LC_TERMINAL", "iTerm2"),
            ("LD_PRELOAD", "/home/alice/x.so"),
            ("LANG", "de_DE.UTF-8"),
            ("LC_TIME", "C"),
            ("COLORTERM", "truecolor"),
            ("PROJECT", "größe \"1\""),
            ("JUPYTERHUB_API_TOKEN", "x"),
            // sshd's.
            ("USER", "alice"),
            ("LOGNAME", "alice"),
            ("HOME", "/home/alice"),
            ("PATH", "/bin"),
            ("SHELL", "/x"),
            ("TZ", "UTC"),
            ("TERM", "xterm"),
            // PAM's, and SetEnv's.
            ("HTTPS_PROXY", "http://secret@proxy"),
            ("LC_PAPER", "C"),
            ("SSH_CLIENT", "192.0.2.1 40000 22"),
            ("SSH_CONNECTION", "192.0.2.1 40000 192.0.2.2 22"),
            ("SSH_TTY", "/dev/pts/3"),
            ("SSH_ORIGINAL_COMMAND", "ls"),
        ];
        let expected = [
            "COLORTERM=truecolor",
            "LANG=de_DE.UTF-8",
            "LC_TERMINAL=iTerm2",
            "LC_TIME=C",
            "PROJECT=größe \"1\"",
            "SSH_CLIENT=192.0.2.1 40000 22",
            "SSH_CONNECTION=192.0.2.1 40000 192.0.2.2 22",
            "TERM=xterm",
        ];
        assert_eq!(passed(&all), expected);
    }

    #[test]
    fn a_client_that_sends_what_is_sshds_gains_nothing() {
        // sshd replaces the value where it stands.
        let all = [("A", "1"), ("HOME", "/home/alice"), ("B", "2"), ("USER", "alice"), ("LANG", "C")];
        assert_eq!(passed(&all), ["A=1"]);
    }

    #[test]
    fn without_number_or_end_it_is_still_a_message() {
        let name = |n: usize| format!("{}{n:0>3}", "N".repeat(MAX_NAME - 3));
        for value in ["", "\"", "\u{1}", "ß", "x"] {
            let value = value.repeat(MAX_VALUE / value.len().max(1));
            let many: Vec<(String, String)> = (0..500).map(|n| (name(n), value.clone())).collect();
            let mut all: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let addresses = "\\".repeat(MAX_ADDRESSES);
            let term = "x".repeat(64);
            all.extend([("USER", "alice"), ("TERM", &term)]);
            all.extend([("SSH_CLIENT", addresses.as_str()), ("SSH_CONNECTION", addresses.as_str())]);
            let environment = passed_on(all.into_iter().map(|(name, value)| (name.into(), value.into())));
            assert!(
                ["TERM", "SSH_CLIENT", "SSH_CONNECTION"].iter().all(|name| environment.contains_key(*name))
            );
            assert!(environment.len() <= MAX_VARIABLES);
            let size = WindowSize { rows: 65535, cols: 65535 };
            let tty = Some(Tty { size, modes: vec![(129, u32::MAX); 53] });
            let request = SessionRequest::Exec { length: u32::MAX, tty, environment };
            let length = serde_json::to_vec(&request).map_or(usize::MAX, |bytes| bytes.len());
            assert!(length <= MAX_MESSAGE, "{length}");
        }
        let one = passed(&[("LC_LONG", &"x".repeat(MAX_VALUE + 1)), ("LC_TIME", "C\n"), ("LC_ALL", "C")]);
        assert_eq!(one, ["LC_ALL=C"]);
    }
}
