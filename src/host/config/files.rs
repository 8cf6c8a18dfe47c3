//! `[files]`: who serves files to sftp, scp and rsync, and how.

use common::ConfigError;
use common::error::excerpt;
use common::homes::Homes;
use common::table::{Document, Table};

/// Most arguments in `sftp_options`, which become a command line.
const MAX_OPTIONS: usize = 16;
/// Longest argument in `sftp_options`, in bytes.
const MAX_OPTION: usize = 1024;

/// Who serves files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// This host serves them, from the homes that are mounted on it.
    Homes,
    /// The user's server serves them, from its own file system.
    Server,
}

/// Who serves files, and how. All keys but `backend` and `umask` are for the distribution's
/// programs, which serve the homes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `backend`, with `auto` replaced by the backend that it stands for.
    pub backend: Backend,
    /// `umask`: the umask of the programs that serve files.
    pub umask: u32,
    /// `log_level`: how much `sftp-server` logs.
    pub log_level: LogLevel,
    /// `sftp_options`: further arguments of `sftp-server`; only `-R`, `-P LIST` and `-p LIST`.
    pub sftp_options: Vec<String>,
    /// `rsync`: true if this host's `rsync --server` and `scp` serve the homes too.
    pub rsync: bool,
}

/// A log level of sftp-server(8). Higher levels log more than transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Also files that are opened, closed (with their bytes), removed and renamed.
    Info,
    /// Also requests that are refused.
    Verbose,
}

impl LogLevel {
    /// The argument of sftp-server's option `-l`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Info => "INFO",
            Self::Verbose => "VERBOSE",
        }
    }
}

/// Reads `[files]`.
///
/// # Errors
/// A value is not allowed, or has no effect because this host has no `homes` or doesn't serve them.
pub(super) fn read(document: &Document<'_>, homes: Option<&Homes>) -> Result<Files, ConfigError> {
    let table = document.table("files", &["backend", "umask", "log_level", "sftp_options", "rsync"])?;
    let backend = read_backend(&table, homes.is_some())?;
    let log_level = match table.text("log_level")?.unwrap_or("INFO") {
        "ERROR" => LogLevel::Error,
        "INFO" => LogLevel::Info,
        "VERBOSE" => LogLevel::Verbose,
        other => {
            return Err(table.refuse(
                "log_level",
                format!("\"{}\" is not a log level", excerpt(other)),
                "Use \"ERROR\", \"INFO\" or \"VERBOSE\".",
            ));
        }
    };
    let rsync = table.boolean("rsync")?.unwrap_or(false);
    if rsync && homes.is_none() {
        return Err(table.refuse(
            "rsync",
            "rsync and scp serve the homes of this host, but homes.root is not set",
            "Set root in [homes] to the directory of the homes, or rsync to false: then they run in the user's server.",
        ));
    }
    if rsync && backend == Backend::Server {
        return Err(table.refuse(
            "rsync",
            "rsync and scp are to serve the homes of this host, but backend is \"server\"",
            "Set rsync to false: then they run in the user's server. Or set backend to \"auto\".",
        ));
    }
    let sftp_options = read_options(&table)?;
    // A restriction without effect is worse than none.
    if !sftp_options.is_empty() && backend == Backend::Server {
        return Err(table.refuse(
            "sftp_options",
            "they restrict this host's sftp-server, but files are served in the user's server",
            "Remove them: in their own servers users can do what they like. Or set root in [homes], and backend to \
             \"homes\".",
        ));
    }
    // A umask that takes rights from the owner would make files that nobody can use.
    let umask = table.mode("umask", 0o077)?.unwrap_or(0o022);
    Ok(Files { backend, umask, log_level, sftp_options, rsync })
}

fn read_backend(table: &Table<'_>, homes: bool) -> Result<Backend, ConfigError> {
    match table.text("backend")?.unwrap_or("auto") {
        "auto" if homes => Ok(Backend::Homes),
        "auto" | "server" => Ok(Backend::Server),
        "homes" if homes => Ok(Backend::Homes),
        "homes" => Err(table.refuse(
            "backend",
            "the homes of this host are to be served, but homes.root is not set",
            "Set root in [homes] to the directory of the homes, or backend to \"auto\".",
        )),
        other => Err(table.refuse(
            "backend",
            format!("\"{}\" is not a backend", excerpt(other)),
            "Use \"auto\", \"homes\" or \"server\".",
        )),
    }
}

/// Reads `sftp_options`. Allows only options that restrict sftp-server(8): the others are ours to
/// set, or redirect its files or log (`-d`, `-e`, `-f`).
fn read_options(table: &Table<'_>) -> Result<Vec<String>, ConfigError> {
    let options = table.texts("sftp_options")?.unwrap_or_default();
    let bounded = options.len() <= MAX_OPTIONS && options.iter().all(|option| option.len() <= MAX_OPTION);
    if !bounded || !restrict(&options) {
        return Err(table.refuse(
            "sftp_options",
            "these are not options that restrict sftp-server",
            "Use \"-R\" (read-only), or \"-P\" (refused requests) or \"-p\" (allowed ones) and a list of requests, \
             as in [\"-P\", \"setstat,symlink\"]. sftp-server -Q requests lists them.",
        ));
    }
    Ok(options.into_iter().map(str::to_owned).collect())
}

/// The requests that `sftp-server -Q requests` lists, in OpenSSH 9.2 and 10.0.
const REQUESTS: [&str; 29] = [
    "close",
    "copy-data",
    "expand-path",
    "fsetstat",
    "fstat",
    "fstatvfs",
    "fsync",
    "hardlink",
    "home-directory",
    "limits",
    "lsetstat",
    "lstat",
    "mkdir",
    "open",
    "opendir",
    "posix-rename",
    "read",
    "readdir",
    "readlink",
    "realpath",
    "remove",
    "rename",
    "rmdir",
    "setstat",
    "stat",
    "statvfs",
    "symlink",
    "users-groups-by-id",
    "write",
];

/// True if all options restrict sftp-server.
fn restrict(options: &[&str]) -> bool {
    // A request that sftp-server doesn't know would restrict nothing.
    let list = |text: &&str| text.split(',').all(|request| REQUESTS.contains(&request));
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let good = match *option {
            "-R" => true,
            "-P" | "-p" => rest.next().is_some_and(list),
            _ => false,
        };
        if !good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Config;
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn files(text: &str) -> Result<Files, ConfigError> {
        let text = format!("[files]\n{text}\n[homes]\nroot = '/srv/homes'");
        Config::from_str(&text, Path::new("config.toml")).map(|config| config.files)
    }

    #[test]
    fn every_key_is_read() {
        let defaults = files("").unwrap();
        assert_eq!((defaults.umask, defaults.log_level.as_str(), defaults.rsync), (0o022, "INFO", false));
        assert!(defaults.sftp_options.is_empty());
        let text = "umask = '0077'\nlog_level = 'VERBOSE'\nsftp_options = ['-R', '-P', 'symlink,statvfs']\nrsync = true";
        let expected = Files {
            backend: Backend::Homes,
            umask: 0o077,
            log_level: LogLevel::Verbose,
            sftp_options: ["-R", "-P", "symlink,statvfs"].map(str::to_owned).into(),
            rsync: true,
        };
        assert_eq!(files(text).unwrap(), expected);
        assert_eq!(files("log_level = 'ERROR'").unwrap().log_level.as_str(), "ERROR");
    }

    #[test]
    fn faults_name_their_key_line_and_remedy() {
        const OPTIONS: &str = "Use \"-R\" (read-only)";
        let many = format!("sftp_options = [{}]", "'-R',".repeat(MAX_OPTIONS + 1));
        let long = format!("sftp_options = ['-P', '{}']", "a".repeat(MAX_OPTION + 1));
        for (line, key, remedy) in [
            ("sftp_options = ['-P', 'statvfs@openssh.com']", "sftp_options", OPTIONS),
            ("sftp_options = ['-P', 'symlink,']", "sftp_options", OPTIONS),
            ("umask = 18", "umask", "Put the value in double quotes."),
            ("umask = '0100'", "umask", "Write three or four octal digits in double quotes, up to \"0077\"."),
            ("umask = '0778'", "umask", "Write three or four octal digits"),
            ("log_level = 'DEBUG'", "log_level", "Use \"ERROR\", \"INFO\" or \"VERBOSE\"."),
            ("log_level = 'info'", "log_level", "Use \"ERROR\", \"INFO\" or \"VERBOSE\"."),
            ("backend = 'home'", "backend", "Use \"auto\", \"homes\" or \"server\"."),
            ("backend = true", "backend", "Put the value in double quotes."),
            ("rsync = 'yes'", "rsync", "Write true or false"),
            ("rsinc = true", "rsinc", "Did you mean rsync?"),
            ("sftp_options = '-R'", "sftp_options", "Write texts in double quotes"),
            ("sftp_options = ['-d', '/']", "sftp_options", OPTIONS),
            ("sftp_options = ['-R -e']", "sftp_options", OPTIONS),
            ("sftp_options = ['-P']", "sftp_options", OPTIONS),
            ("sftp_options = ['-P', '-R']", "sftp_options", OPTIONS),
            ("sftp_options = ['-P', '']", "sftp_options", OPTIONS),
            ("sftp_options = ['-P', 'a b']", "sftp_options", OPTIONS),
            ("sftp_options = ['symlink']", "sftp_options", OPTIONS),
            ("sftp_options = ['']", "sftp_options", OPTIONS),
            (&many, "sftp_options", OPTIONS),
            (&long, "sftp_options", OPTIONS),
        ] {
            let error = files(line).unwrap_err();
            assert_eq!(error.key(), Some(format!("files.{key}").as_str()), "{line}");
            assert_eq!(error.place().map(|place| place.line), Some(2), "{line}");
            assert!(error.remedy().starts_with(remedy), "{line}: {error}");
            assert_eq!(error.to_string().lines().count(), 2, "{line}: {error}");
        }
    }

    #[test]
    fn who_serves_files() {
        use Backend::{Homes, Server};
        for (backend, homes, expected) in [
            ("", true, Some(Homes)),
            ("", false, Some(Server)),
            ("backend = 'auto'", true, Some(Homes)),
            ("backend = 'auto'", false, Some(Server)),
            ("backend = 'homes'", true, Some(Homes)),
            ("backend = 'homes'", false, None),
            ("backend = 'server'", true, Some(Server)),
            ("backend = 'server'", false, Some(Server)),
        ] {
            let homes = if homes { "[homes]\nroot = '/srv/homes'" } else { "" };
            let read = Config::from_str(&format!("[files]\n{backend}\n{homes}"), Path::new("x"));
            assert_eq!(read.as_ref().ok().map(|config| config.files.backend), expected, "{backend} {homes}");
            if let Err(error) = read {
                assert_eq!(error.key(), Some("files.backend"));
                assert!(error.remedy().starts_with("Set root in [homes]"), "{error}");
            }
        }
    }

    /// Restrictions most of all: administrators would rely on them.
    #[test]
    fn nothing_is_silently_without_effect() {
        for (text, homes, key, remedy) in [
            (
                "sftp_options = ['-R']",
                false,
                "sftp_options",
                "Remove them: in their own servers users can do",
            ),
            ("backend = 'server'\nsftp_options = ['-R']", true, "sftp_options", "Remove them: in their own"),
            ("backend = 'server'\nrsync = true", true, "rsync", "Set rsync to false"),
            ("backend = 'server'\nrsync = true", false, "rsync", "Set root in [homes]"),
        ] {
            let homes = if homes { "[homes]\nroot = '/srv/homes'" } else { "" };
            let text = format!("[files]\n{text}\n{homes}");
            let error = Config::from_str(&text, Path::new("x")).unwrap_err();
            assert_eq!(error.key(), Some(format!("files.{key}").as_str()), "{text}");
            assert!(error.remedy().starts_with(remedy), "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 2, "{error}");
        }
        let fine = "[files]\nbackend = 'server'\nsftp_options = []\nrsync = false\numask = '0077'\n[homes]\nroot = '/h'";
        assert!(Config::from_str(fine, Path::new("x")).is_ok());
    }

    #[test]
    fn rsync_needs_homes() {
        let error = Config::from_str("[files]\nrsync = true", Path::new("config.toml")).unwrap_err();
        assert_eq!(error.key(), Some("files.rsync"));
        assert!(error.remedy().starts_with("Set root in [homes]"), "{error}");
        assert!(Config::from_str("[files]\nrsync = false\numask = '0077'", Path::new("x")).is_ok());
    }

    proptest! {
        #[test]
        fn any_value_is_read_without_a_panic(
            key in "backend|umask|log_level|sftp_options|rsync",
            value in "\\PC{0,40}|\"\\PC{0,40}\"|\\[(\"(-R|-P|-p|-d|[a-z,@ -]{0,8})\",){0,4}\\]|[0-9]{1,22}",
        ) {
            if let Ok(files) = files(&format!("{key} = {value}")) {
                prop_assert!(files.umask & 0o700 == 0);
                prop_assert!(files.sftp_options.iter().all(|option| matches!(option.as_str(), "-R" | "-P" | "-p") || !option.starts_with('-')));
            }
        }
    }
}
