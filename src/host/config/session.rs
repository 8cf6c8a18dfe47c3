//! `[session]`: how long connections may last, how many a user may have, and what is not possible
//! without a jail.

use super::{Config, Jail};
use common::ConfigError;
use common::settings::SESSION_KEYS;
use common::table::{Document, Table};
use common::uid::Rule;
use std::time::Duration;

/// Highest value of `max_connections`.
pub const MOST_CONNECTIONS: u16 = 1000;

/// The limits of connections. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// `idle_limit`: how long a connection may be idle.
    pub idle_limit: Option<Duration>,
    /// `max_length`: how long a connection may last.
    pub max_length: Option<Duration>,
    /// `max_connections`: how many connections a user may have at the same time.
    pub max_connections: Option<u16>,
}

/// Reads `[session]`.
///
/// # Errors
/// A value is not allowed.
pub(super) fn read(document: &Document<'_>) -> Result<Session, ConfigError> {
    let table = document.table("session", &SESSION_KEYS)?;
    Ok(Session {
        idle_limit: limit(&table, "idle_limit")?,
        max_length: limit(&table, "max_length")?,
        max_connections: connections(&table)?,
    })
}

/// Checks that the configuration is possible with `session.jail`. Without a jail there is no place
/// to mount homes, and everything runs as sshd's own user.
///
/// # Errors
/// A key needs a jail; the message names the first such key.
pub(super) fn check_jail(config: &Config, document: &Document<'_>) -> Result<(), ConfigError> {
    if config.settings.jail == Jail::Namespaces {
        return Ok(());
    }
    let table = document.table("session", &SESSION_KEYS)?;
    let refuse = |what: &str, remedy: &str| Err(table.refuse("jail", format!("\"none\" is {what}"), remedy));
    if config.settings.homes.is_some() || !config.shares.is_empty() {
        refuse(
            "for terminals, commands and files of users' own servers",
            "Remove homes.root and [[shares]], or jail.",
        )
    } else if !matches!(config.settings.accounts, Rule::Fixed(_)) {
        refuse(
            "for hub users who have the uid that sshd runs as",
            "Set in [accounts]: uid = \"fixed\" and fixed = [UID, 100].",
        )
    } else if config.keys.is_on() {
        refuse("for logins by token", "Remove keys.service_token_file, or jail.")
    } else if config.metrics.textfile.is_some() {
        refuse("for an sshd that may write no files", "Remove metrics.textfile, or jail.")
    } else if config.session.max_connections.is_some() {
        refuse(
            "for an sshd that can count nothing for all of its processes",
            "Remove max_connections, or jail.",
        )
    } else {
        Ok(())
    }
}

fn connections(table: &Table<'_>) -> Result<Option<u16>, ConfigError> {
    const KEY: &str = "max_connections";
    match table.number(KEY)? {
        None | Some(0) => Ok(None),
        Some(number) => match u16::try_from(number) {
            Ok(most) if most <= MOST_CONNECTIONS => Ok(Some(most)),
            _ => Err(table.refuse(
                KEY,
                format!("{number} is more than can be counted"),
                format!("Use a number from 1 to {MOST_CONNECTIONS}, or 0 for no limit."),
            )),
        },
    }
}

/// The values allowed for both time limits, in seconds: from the time in which a user can still
/// react to the warning, to a year.
const RANGE: std::ops::RangeInclusive<u64> = 5..=31_536_000;

fn limit(table: &Table<'_>, key: &'static str) -> Result<Option<Duration>, ConfigError> {
    match table.number(key)? {
        None | Some(0) => Ok(None),
        Some(seconds) if RANGE.contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        Some(seconds) => Err(table.refuse(
            key,
            format!("{seconds} s is not a limit of sessions"),
            format!("Use a number from {} to {}, or 0 for no limit.", RANGE.start(), RANGE.end()),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn parse(text: &str) -> Result<Session, String> {
        let config = Config::from_str(&format!("[session]\n{text}"), Path::new("/c"));
        config
            .map(|config| config.session)
            .map_err(|e| format!("{} {}", e.key().unwrap_or_default(), e.remedy()))
    }

    #[test]
    fn without_a_jail_there_is_less() {
        let whole = |text: &str| {
            let config = Config::from_str(text, Path::new("/c"));
            config.map(|config| config.settings.jail).map_err(|e| e.remedy().to_owned())
        };
        let bare = "[session]\njail = 'none'\n[accounts]\nuid = 'fixed'\nfixed = [1000, 100]\n";
        assert_eq!(whole(""), Ok(Jail::Namespaces));
        assert_eq!(whole("[session]\njail = 'namespaces'"), Ok(Jail::Namespaces));
        assert_eq!(whole(bare), Ok(Jail::None));
        for (more, remedy) in [
            ("[homes]\nroot = '/srv/homes'", "homes.root"),
            ("[keys]\nservice_token_file = '/x'\nsources = ['file']", "keys.service_token_file"),
            ("[metrics]\ntextfile = '/x.prom'", "metrics.textfile"),
        ] {
            let refused = whole(&format!("{bare}{more}")).unwrap_err();
            assert!(refused.contains(remedy), "{refused}");
        }
        let counted = bare.replacen("[session]", "[session]\nmax_connections = 1", 1);
        assert!(whole(&counted).unwrap_err().contains("max_connections"));
        assert!(whole("[session]\njail = 'none'").unwrap_err().contains("[accounts]"));
        assert!(whole("[session]\njail = 'chroot'").unwrap_err().contains("\"none\""));
    }

    #[test]
    fn limits_are_seconds_and_none_by_default() {
        assert_eq!(parse(""), Ok(Session::default()));
        assert_eq!(parse("idle_limit = 0\nmax_length = 0"), Ok(Session::default()));
        let read = parse("idle_limit = 1800\nmax_length = 86400").unwrap();
        assert_eq!((read.idle_limit.unwrap().as_secs(), read.max_length.unwrap().as_secs()), (1800, 86_400));
        for (text, key) in
            [("idle_limit = 4", "session.idle_limit"), ("max_length = 31536001", "session.max_length")]
        {
            let remedy = "Use a number from 5 to 31536000, or 0 for no limit.";
            assert_eq!(parse(text).unwrap_err(), format!("{key} {remedy}"));
        }
        for (text, most) in
            [("", None), ("max_connections = 0", None), ("max_connections = 1000", Some(1000))]
        {
            assert_eq!(parse(text).unwrap().max_connections, most);
        }
        for text in ["1001", "70000", "-1", "'3'"] {
            let refused = parse(&format!("max_connections = {text}")).unwrap_err();
            assert!(refused.starts_with("session.max_connections "), "{refused}");
        }
        assert!(parse("idle_limit = -1").is_err() && parse("idle = 5").is_err());
    }
}
