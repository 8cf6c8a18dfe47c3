//! Reads /etc/jupyterhub-openssh/config.toml. Every value is checked, and unknown keys and tables
//! are refused.
//!
//! [`common::settings`] reads the tables that the NSS and PAM modules need too. The modules ignore
//! other tables, so a misspelt one is found only here.
//!
//! | module | what it reads |
//! |---|---|
//! | [`terminal`] | `[terminal]`: terminals at users' servers |
//! | [`files`] | `[files]`: who serves files, and how |
//! | [`shares`] | `[[shares]]`: directories besides the home |
//! | [`login`] | `[login]`: who may log in |
//! | [`keys`] | `[keys]`: login by key |
//! | [`session`] | `[session]`: limits of connections, and which settings need a jail |
//! | [`metrics`] | `[metrics]`: the file for Prometheus |
//! | [`edit`] | sets `hub.url` in a text, and nothing else |

mod edit;
mod files;
mod keys;
mod login;
mod metrics;
mod session;
mod shares;
mod terminal;

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use common::settings::Jail;
use common::settings::{self, Hub, Settings};
use common::table::Document;
pub use common::{ConfigError, HubUrl};
pub use edit::with_hub_url;
pub use files::{Backend, Files, LogLevel};
pub use keys::{Keys, Source, UrlTemplate};
pub use login::{Login, NotAllowed};
pub(crate) use metrics::Metrics;
pub use session::{MOST_CONNECTIONS, Session};
pub use shares::Share;
pub use terminal::{Terminal, TerminalMode};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[hub]`, `[accounts]` and `[homes]`.
    pub settings: Settings,
    /// `[terminal]`
    pub terminal: Terminal,
    /// `[files]`
    pub files: Files,
    /// `[[shares]]`
    pub shares: Vec<Share>,
    /// `[login]`
    pub login: Login,
    /// `[keys]`
    pub keys: Keys,
    /// `[session]`
    pub session: Session,
    /// `[metrics]`
    pub metrics: Metrics,
    file: PathBuf,
}

impl Config {
    /// Reads the configuration of this host.
    ///
    /// # Errors
    /// The file cannot be read, an account other than root can write to it, or a key or value in it
    /// is not allowed.
    pub fn load() -> Result<Self, ConfigError> {
        Self::load_from(Path::new(common::paths::CONFIG_FILE), 0)
    }

    /// Parses a configuration. `path` is the file's name, for messages.
    ///
    /// # Errors
    /// The text is not TOML, or a key or value in it is not allowed.
    pub fn from_str(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let read = || {
            let document = Document::parse(text)?;
            let [hub, accounts, homes] = settings::TABLES;
            let own = ["terminal", "files", "shares", "login", "keys", "session", "metrics"];
            document.only(&[&[hub, accounts, homes][..], &own].concat())?;
            let terminal = terminal::read(&document)?;
            let login = login::read(&document)?;
            let settings = Settings::read(&document)?;
            let files = files::read(&document, settings.homes.as_ref())?;
            let shares = shares::read(&document, settings.homes.as_ref(), files.backend)?;
            let keys = keys::read(&document, settings.homes.as_ref(), &shares)?;
            let (session, metrics) = (session::read(&document)?, metrics::read(&document)?);
            let file = path.to_owned();
            let config = Self { settings, terminal, files, shares, login, keys, session, metrics, file };
            session::check_jail(&config, &document)?;
            Ok(config)
        };
        read().map_err(|error: ConfigError| error.in_file(path))
    }

    /// The table `[hub]`.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.settings.hub
    }

    /// True if this host serves users' files from its homes.
    #[must_use]
    pub fn serves_homes(&self) -> bool {
        self.settings.homes.is_some() && self.files.backend == Backend::Homes
    }

    /// The hub's address, which has no default.
    ///
    /// # Errors
    /// `hub.url` is not set yet; the message says so.
    pub fn hub_url(&self) -> Result<&HubUrl, ConfigError> {
        self.settings.hub.url.as_ref().ok_or_else(|| {
            ConfigError::new(
                format!("hub.url is not set in {}", self.file.display()),
                "Set it to the address that users open in their browser, for example url = \"https://hub.example.org\".",
            )
        })
    }

    fn load_from(path: &Path, owner: u32) -> Result<Self, ConfigError> {
        Self::from_str(&Self::read_text(path, owner)?, path)
    }

    /// Reads a configuration file. `owner` is the uid that must own it: root's, except in tests.
    ///
    /// # Errors
    /// The file cannot be read, or another account can write to it.
    pub fn read_text(path: &Path, owner: u32) -> Result<String, ConfigError> {
        let read = || {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
            let file = opened.map_err(|error| settings::unreadable(&error))?;
            let facts = file.metadata().map_err(|error| settings::unreadable(&error))?;
            settings::read_file(file, facts.mode(), facts.uid(), owner)
        };
        read().map_err(|error: ConfigError| error.in_file(path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    /// The file that the package installs.
    const SHIPPED: &str = include_str!("../../../packaging/config.toml");
    /// All tables of the configuration with their keys.
    const KEYS: [(&str, &[&str]); 10] = [
        ("[hub]", &["url", "ca_file", "start_timeout"]),
        ("[accounts]", &["uid", "fixed", "range", "lower_case"]),
        ("[homes]", common::homes::KEYS),
        ("[files]", &["backend", "umask", "log_level", "sftp_options", "rsync"]),
        ("[[shares]]", &["source", "path", "writable", "groups"]),
        ("[terminal]", &["mode", "exit_status"]),
        ("[session]", &["jail", "idle_limit", "max_length", "max_connections"]),
        ("[metrics]", &["textfile"]),
        ("[login]", &["allow_users", "allow_groups", "deny_users", "server_tokens"]),
        (
            "[keys]",
            &[
                "service_token_file",
                "sources",
                "hub_field",
                "url",
                "directory",
                "cache_max_age",
                "token_lifetime",
            ],
        ),
    ];

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::from_str(text, Path::new("/etc/jupyterhub-openssh/config.toml"))
    }

    /// The shipped file with every `# key = value` made a key, and every `# [[table]]` a table.
    fn uncommented() -> String {
        let key = |line: &str| {
            let line = line.strip_prefix("# ")?;
            let name = line.split_once(" = ").map(|(name, _)| name);
            let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            (name.is_some_and(plain) || line.starts_with("[[")).then(|| line.to_owned())
        };
        SHIPPED.lines().map(|line| key(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
    }

    #[test]
    fn the_shipped_file_sets_nothing() {
        let shipped = parse(SHIPPED).unwrap();
        assert_eq!(shipped, parse("").unwrap());
        assert!(shipped.terminal.exit_status);
    }

    #[test]
    fn the_shipped_file_uncommented_has_every_key_and_its_default() {
        let text = uncommented();
        for (table, keys) in KEYS {
            let start = text.find(&format!("\n{table}\n")).expect(table);
            let body = &text[start + 2..];
            let body = &body[..body.find("\n[").unwrap_or(body.len())];
            for key in keys {
                assert_eq!(body.matches(&format!("\n{key} = ")).count(), 1, "{table}.{key}");
            }
        }
        let config = parse(&text).unwrap();
        let defaults = parse("").unwrap();
        assert_eq!(config.hub_url().unwrap().base(), "https://hub.example.org");
        assert_eq!(config.hub().start_timeout, defaults.hub().start_timeout);
        assert_eq!(
            config.settings.accounts,
            parse("[homes]\nroot = '/srv/homes'").unwrap().settings.accounts
        );
        assert_eq!(config.terminal, defaults.terminal);
        // These need homes; their defaults show when nothing but the root is set.
        let bare = parse("[homes]\nroot = '/srv/homes'").unwrap();
        assert_eq!(config.settings.homes, bare.settings.homes);
        assert_eq!(config.files, bare.files);
        assert_eq!((config.shares.len(), config.shares[0].writable), (1, false));
        assert_eq!((config.login, config.session), (defaults.login, defaults.session));
        assert!(config.metrics.textfile.is_some());
        assert!(config.keys.is_on() && config.keys.url.is_some());
        // These two have no default.
        assert_eq!(Keys { service_token_file: None, url: None, ..config.keys }, bare.keys);
    }

    #[test]
    fn homes_are_created_as_the_shipped_file_says() {
        let text = uncommented().replace("missing = \"refuse\"", "missing = \"create\"");
        let create = parse(&text).unwrap().settings.homes.unwrap().create.unwrap();
        assert_eq!((create.owner.unwrap().uid(), create.mode), (1000, 0o700));
        assert_eq!(create.quota.unwrap().soft, 1 << 30);
    }

    #[test]
    fn keys_are_read() {
        let config =
            parse("[hub]\nurl='http://h/j/'\nstart_timeout=10\n[terminal]\nexit_status=false").unwrap();
        assert_eq!(config.hub_url().unwrap().token_page(), "http://h/j/hub/token");
        assert_eq!(config.hub().start_timeout, Duration::from_secs(10));
        assert!(!config.terminal.exit_status);
    }

    #[test]
    fn a_terminal_has_a_mode() {
        for (text, expected) in [
            ("", TerminalMode::Auto),
            ("mode = 'auto'", TerminalMode::Auto),
            ("mode = 'plain'", TerminalMode::Plain),
        ] {
            assert_eq!(parse(&format!("[terminal]\n{text}")).unwrap().terminal.mode, expected);
        }
        let error = parse("[terminal]\nmode = 'agent'").unwrap_err();
        assert_eq!((error.key(), error.remedy()), (Some("terminal.mode"), "Use \"auto\" or \"plain\"."));
    }

    #[test]
    fn an_unset_address_names_the_key() {
        let error = parse("").unwrap().hub_url().cloned().unwrap_err().to_string();
        assert_eq!(
            error,
            "hub.url is not set in /etc/jupyterhub-openssh/config.toml\nSet it to the address that users open \
             in their browser, for example url = \"https://hub.example.org\"."
        );
    }

    #[test]
    fn unknown_tables_and_keys_are_refused() {
        for (text, message) in [
            ("[hubs]", "line 1, key `hubs`: unknown table\nDid you mean hub?"),
            (
                "[terminal]\nexitstatus = true",
                "key `terminal.exitstatus`: unknown key in [terminal]\nDid you mean exit_status?",
            ),
            ("[[hub]]", "line 1, key `hub`: hub is not a table"),
            ("\n[hub]\nstart = 5", "line 3, key `hub.start`: unknown key in [hub]\nKnown here: url, ca_file"),
            ("[hub]\nurl = hub", "line 2: this is not valid TOML"),
            (
                "[terminal]\nexit_status = 1",
                "line 2, key `terminal.exit_status`: the value is neither true nor false",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("/etc/jupyterhub-openssh/config.toml, line "), "{error}");
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_or_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let owner = fs::metadata(dir.path()).unwrap().uid();
        let load = || Config::load_from(&path, owner);
        assert!(load().unwrap_err().to_string().contains("there is no such file"));
        fs::write(&path, SHIPPED).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load().is_ok());
        assert!(Config::load_from(&path, owner + 1).unwrap_err().to_string().contains("belongs to uid"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(load().unwrap_err().to_string().contains("can write"));
        fs::rename(&path, dir.path().join("real.toml")).unwrap();
        symlink("real.toml", &path).unwrap();
        assert!(load().unwrap_err().to_string().contains("cannot read"));
    }
}
