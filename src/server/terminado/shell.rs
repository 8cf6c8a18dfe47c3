//! The command that runs in a terminal: a small wrapper around the user's login shell.
//!
//! With it the terminal has the client's type, locale and size from the first byte on, and the
//! shell's exit status comes back. Only [`Nonce::random`] does I/O.
//!
//! A server that ignores `shell_command` starts its own shell instead. Then no
//! [`crate::terminado::marker`] message ever comes, and the status of a terminal that disconnects
//! cleanly is 0.

use common::text::hex;
use host::environment;
use host::sys::random;
use std::fmt;
use std::io;

/// The wrapper: a shell script, because Python takes 10 to 100 ms to start and every login waits
/// for it.
const SCRIPT: &str = include_str!("shell.sh");

/// A secret that makes the wrapper's messages unforgeable: 128 random bits.
///
/// Nothing that is merely printed (a file shown by `cat`, the log of another connection) can
/// contain it. The user's own processes can know it, but can deceive only their own connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Makes a nonce of 16 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }

    /// Makes a nonce from the kernel's random numbers.
    ///
    /// # Errors
    /// Fails if /dev/urandom cannot be read.
    pub fn random() -> io::Result<Self> {
        random::bytes().map(Self::from_bytes)
    }

    /// Returns the nonce as 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(…)")
    }
}

/// The client's variables that are passed on (see [`host::environment`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// Returns an environment without variables: the server's own stays as it is.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Picks the variables that are passed on from all that the client offers.
    #[must_use]
    pub fn of(offered: &std::collections::BTreeMap<String, String>) -> Self {
        let mut environment = Self::new();
        for (name, value) in offered {
            environment.offer(name, value);
        }
        environment
    }

    /// Adds a variable if it may be passed on, and tells whether it did. A second value replaces
    /// the first.
    pub(crate) fn offer(&mut self, name: &str, value: &str) -> bool {
        if !environment::may_travel(name) || !environment::may_be_value(name, value) {
            return false;
        }
        self.0.retain(|(known, _)| known != name);
        if self.0.len() >= environment::MAX_VARIABLES {
            return false;
        }
        self.0.push((name.to_owned(), value.to_owned()));
        true
    }

    /// Iterates over all variables.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the variables for a server that runs its own shell
    /// ([`crate::terminado::rest::create_body`]).
    ///
    /// Variables that contradict the window's size are in the list with `None`, to be removed.
    #[must_use]
    pub fn for_own_shell(&self) -> Vec<(&str, Option<&str>)> {
        let removed = ["COLUMNS", "LINES", "PYXTERM_DIMENSIONS"].map(|name| (name, None));
        self.0.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).chain(removed).collect()
    }
}

/// Returns the `shell_command` that runs the user's login shell under the wrapper.
///
/// The window has `rows` × `columns`; zero means unknown and becomes 24 × 80. The wrapper checks
/// the terminal's type and the locale in the server: a type without a description becomes
/// `xterm-256color`, and a locale that isn't installed leaves the server's own.
#[must_use]
pub fn command(nonce: &Nonce, rows: u16, columns: u16, environment: &Environment) -> Vec<String> {
    let rows = if rows == 0 { 24 } else { rows };
    let columns = if columns == 0 { 80 } else { columns };
    let mut command: Vec<String> =
        ["/bin/sh", "-c", SCRIPT, "jupyterhub-openssh", nonce.as_str()].map(str::to_owned).into();
    command.extend([rows.to_string(), columns.to_string()]);
    command.extend(environment.0.iter().map(|(name, value)| format!("{name}={value}")));
    command
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::{Command, Output, Stdio};

    #[test]
    fn only_harmless_variables_pass() {
        let mut environment = Environment::new();
        assert!(environment.offer("TERM", "xterm-256color"));
        assert!(environment.offer("TERM", "screen.xterm+x"));
        assert!(environment.offer("LC_TIME", "de_DE.UTF-8@euro"));
        for (name, value) in [
            ("TERM", ""),
            ("TERM", "a b"),
            ("TERM", "$(id)"),
            ("TERM", "../x"),
            ("TERM", "x\n"),
            ("PATH", "/x"),
            ("LD_PRELOAD", "x"),
            ("JUPYTERHUB_API_TOKEN", "x"),
            ("LANG", "a;b"),
            ("LANG", "ü"),
            ("LANG", "a/b"),
        ] {
            assert!(!environment.offer(name, value), "{name}={value:?}");
        }
        assert!(environment.offer("LC_TERMINAL", "iTerm2"));
        assert_eq!(environment.iter().find(|(name, _)| *name == "TERM"), Some(("TERM", "screen.xterm+x")));
        assert!(environment.iter().all(|(name, _)| name != "LANG"));
        for number in 0..2 * environment::MAX_VARIABLES {
            environment.offer(&format!("LC_{number}"), "");
        }
        assert_eq!(environment.iter().count(), environment::MAX_VARIABLES);
    }

    #[test]
    fn a_nonce_is_not_shown() {
        let nonce = Nonce::from_bytes([0xab; 16]);
        assert_eq!((nonce.as_str().len(), format!("{nonce:?}").as_str()), (32, "Nonce(…)"));
        assert_ne!(Nonce::random().unwrap(), Nonce::random().unwrap());
    }

    /// Runs the wrapper without a terminal, around a shell that is a script.
    fn run(shell: &str, environment: &Environment) -> Output {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shell");
        std::fs::write(&path, format!("#!/bin/sh\n{shell}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let command = command(&Nonce::from_bytes([1; 16]), 30, 100, environment);
        Command::new(&command[0])
            .args(&command[1..])
            .env_clear()
            .envs([
                ("SHELL", path.to_str().unwrap()),
                ("PATH", "/usr/bin:/bin"),
                ("HOME", "/"),
                ("LANG", "C.UTF-8"),
            ])
            .env("COLUMNS", "80")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[test]
    fn the_shells_own_status_comes_back() {
        for (shell, status) in
            [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137), ("kill -HUP $$", 129), ("exec false", 1)]
        {
            let out = run(shell, &Environment::new());
            let text = String::from_utf8(out.stdout).unwrap();
            assert!(
                text.ends_with(&format!("\x1b]7730;{};exit;{status}\x1b\\", "01".repeat(16))),
                "{shell}: {text:?}"
            );
            assert_eq!(out.status.code(), Some(status), "{shell}");
        }
    }

    #[test]
    fn other_variables_arrive_as_they_are() {
        let mut environment = Environment::new();
        // Names that the wrapper uses itself, and values that a shell would act on.
        let all =
            [("s", "/no"), ("p", "1"), ("LC_TERMINAL", "iTerm2"), ("LC_WHO", "J\u{f6} 'X' $(id) `id`\n*")];
        for (name, value) in all {
            assert!(environment.offer(name, value), "{name}");
        }
        let out = run(r#"printf '<%s>' "$s" "$p" "$LC_TERMINAL" "$LC_WHO"; exit 3"#, &environment);
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains("</no><1><iTerm2><J\u{f6} 'X' $(id) `id`\n*>"), "{text:?}");
        assert_eq!(out.status.code(), Some(3));
    }

    #[test]
    fn the_environment_arrives_where_the_host_knows_it() {
        let mut environment = Environment::new();
        environment.offer("TERM", "no-such-terminal");
        environment.offer("LANG", "xx_XX.UTF-8");
        environment.offer("LC_TIME", "C");
        environment.offer("COLORTERM", "truecolor");
        let out = run(r#"echo "<$TERM|$LANG|$LC_TIME|$COLORTERM|$COLUMNS|$1>""#, &environment);
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.contains("<xterm-256color|C.UTF-8|C|truecolor||-l>"), "{text:?}");
        environment.offer("TERM", "vt100");
        let text = String::from_utf8(run("echo \"<$TERM>\"", &environment).stdout).unwrap();
        assert!(text.contains("<vt100>"), "{text:?}");
    }
}
