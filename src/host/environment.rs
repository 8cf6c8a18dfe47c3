//! Decides which of a client's environment variables are passed on to the user's server, and how
//! much of them. Pure.
//!
//! Which variables sshd accepts is set by `AcceptEnv`, a list that only sshd knows. What is refused
//! here would mislead programs over there, or is not for the client to choose.

/// Most variables; sshd accepts about as many from a client.
pub const MAX_VARIABLES: usize = 128;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 128;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 4096;
/// Longest value of a locale or a terminal's type, in bytes: names that the other side looks up.
pub(crate) const MAX_LOOKED_UP: usize = 64;

/// Locale variables: they take effect only if the user's server has that locale.
const LOCALES: [&str; 14] = [
    "LANG",
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];
/// Never taken from the client: variables that sshd, the shell, the terminal or the agent sets for
/// every channel, and variables that make the C library load or execute something, which no
/// administrator's list means to allow.
const NEVER: [&str; 20] = [
    "USER",
    "LOGNAME",
    "HOME",
    "PATH",
    "SHELL",
    "MAIL",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "IFS",
    "_",
    "COLUMNS",
    "LINES",
    "PYXTERM_DIMENSIONS",
    "DISPLAY",
    "XAUTHORITY",
    "KRB5CCNAME",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "LOCPATH",
];
/// Prefixes of further such variables: sshd's, the dynamic linker's, the hub's and the server's.
const NEVER_BEGINNING: [&str; 4] = ["SSH_", "LD_", "JUPYTER", "JPY_"];

/// True if this is a locale that may be looked up: a name, not a path.
#[must_use]
pub fn is_locale(name: &str, value: &str) -> bool {
    LOCALES.contains(&name) && may_be_value(name, value)
}

/// True if a client may set the variable with this name.
#[must_use]
pub fn may_travel(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first
        && name.len() <= MAX_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !NEVER.contains(&name)
        && !NEVER_BEGINNING.iter().any(|beginning| name.starts_with(beginning))
}

/// True if this is a valid value for the variable. For locales `[A-Za-z0-9._@:=-]{1,64}`, for the
/// terminal's type and colours `[A-Za-z0-9._+-]{1,64}`; for others any text.
#[must_use]
pub fn may_be_value(name: &str, value: &str) -> bool {
    let extra: &[u8] = match name {
        "TERM" | "COLORTERM" => b"._+-",
        name if LOCALES.contains(&name) => b"._@:=-",
        _ => return value.len() <= MAX_VALUE && !value.contains('\0'),
    };
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
    (1..=MAX_LOOKED_UP).contains(&value.len()) && value.bytes().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misleads_does_not_travel() {
        let long = "A".repeat(MAX_NAME + 1);
        for name in [
            "HOME",
            "PATH",
            "SSH_AUTH_SOCK",
            "SSH_TTY",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "GLIBC_TUNABLES",
            "JUPYTERHUB_API_TOKEN",
            "JUPYTERHUB_OPENSSH_CHANNELS",
            "JUPYTER_TOKEN",
            "JPY_API_TOKEN",
            "IFS",
            "COLUMNS",
            "",
            "1A",
            "A B",
            "A=B",
            "BASH_FUNC_ls%%",
            "Ä",
            &long,
        ] {
            assert!(!may_travel(name), "{name}");
        }
        for name in ["LC_TERMINAL", "LANG", "TERM", "COLORTERM", "TZ", "GIT_AUTHOR_NAME", "n", "_x", "HOMES"]
        {
            assert!(may_travel(name), "{name}");
        }
    }

    #[test]
    fn values() {
        for (name, value, good) in [
            ("TERM", "screen.xterm+x", true),
            ("TERM", "../x", false),
            ("TERM", "", false),
            ("LC_TIME", "de_DE.UTF-8@euro", true),
            ("LC_TIME", "../../x", false),
            ("LANG", "a;b", false),
            ("LC_TERMINAL", "iTerm2", true),
            ("LC_WHO", "Jörg \"X\" $(id)\n", true),
            ("LC_EMPTY", "", true),
            ("LC_NUL", "a\0b", false),
        ] {
            assert_eq!(may_be_value(name, value), good, "{name}={value:?}");
        }
        assert!(
            is_locale("LC_TIME", "C") && !is_locale("LC_TIME", "../x") && !is_locale("LC_TERMINAL", "iTerm2")
        );
        assert!(!may_be_value("LANG", &"a".repeat(MAX_LOOKED_UP + 1)));
        assert!(may_be_value("X", &"a".repeat(MAX_VALUE)) && !may_be_value("X", &"a".repeat(MAX_VALUE + 1)));
    }
}
