//! `[files]`: how files are served to sftp, scp and rsync.

use accounts::ConfigError;
use accounts::table::{Document, Table};

/// How the distribution's `sftp-server` is run, and what else may reach the homes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `umask`: of every file and directory that is made.
    pub umask: u32,
    /// `log_level`: how much `sftp-server` tells the log.
    pub log_level: LogLevel,
    /// `sftp_options`: further arguments of `sftp-server`, checked: `-R`, `-P` and `-p` with their lists.
    pub sftp_options: Vec<String>,
    /// `rsync`: whether this host's `rsync --server` and `scp` serve the homes too.
    pub rsync: bool,
}

/// The log levels of `sftp-server(8)` that name transfers and no more than them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing but errors.
    Error,
    /// Files opened, closed with their bytes, removed, renamed.
    Info,
    /// And what was refused.
    Verbose,
}

impl LogLevel {
    /// As sftp-server's `-l` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Info => "INFO",
            Self::Verbose => "VERBOSE",
        }
    }
}

pub(super) fn read(document: &Document<'_>) -> Result<Files, ConfigError> {
    let table = document.table("files", &["umask", "log_level", "sftp_options", "rsync"])?;
    let log_level = match table.text("log_level")?.unwrap_or("INFO") {
        "ERROR" => LogLevel::Error,
        "INFO" => LogLevel::Info,
        "VERBOSE" => LogLevel::Verbose,
        _ => {
            return Err(table.refuse(
                "log_level",
                "this is not a log level",
                "Use \"ERROR\", \"INFO\" or \"VERBOSE\".",
            ));
        }
    };
    Ok(Files {
        umask: table.mode("umask", 0o077)?.unwrap_or(0o022),
        log_level,
        sftp_options: read_options(&table)?,
        rsync: table.boolean("rsync")?.unwrap_or(false),
    })
}

/// Only what restricts: other options of sftp-server(8) are ours to set, or lead elsewhere (`-d`, `-e`, `-f`).
fn read_options(table: &Table<'_>) -> Result<Vec<String>, ConfigError> {
    let options = table.texts("sftp_options")?.unwrap_or_default();
    let list = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b',' | b'@' | b'.'))
            && !text.starts_with('-')
    };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let good = match *option {
            "-R" => true,
            "-P" | "-p" => rest.next().is_some_and(|text| list(text)),
            _ => false,
        };
        if !good {
            return Err(table.refuse(
                "sftp_options",
                "these are not options that restrict sftp-server",
                "Use \"-R\" (read-only), or \"-P\" (refused requests) or \"-p\" (allowed ones) and a list of requests, as in [\"-P\", \"setstat,symlink\"].",
            ));
        }
    }
    Ok(options.iter().map(|option| (*option).to_owned()).collect())
}
