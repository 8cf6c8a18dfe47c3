//! The tables of the configuration that the modules and the programs share: `[hub]`, `[accounts]`,
//! `[homes]`.
//!
//! Within these three an unknown key is an error. Other tables are ignored here, because the
//! modules run in every sshd process and should know no more than they need; the programs check
//! them. Of `[session]` only `jail` is read.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{ConfigError, excerpt};
use crate::homes::{self, Homes};
use crate::hub_url::HubUrl;
use crate::names::{LoginName, UserName};
use crate::table::{self, Document, MAX_SIZE, Table};
use crate::template::TemplateError;
use crate::uid::{self, Ids, Range};

/// The tables that [`Settings`] reads.
pub const TABLES: [&str; 3] = ["hub", "accounts", "homes"];
/// The keys of `[session]`. Only the programs use those after the first.
pub const SESSION_KEYS: [&str; 4] = ["jail", "idle_limit", "max_length", "max_connections"];

/// The settings that the modules and the programs share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[hub]`
    pub hub: Hub,
    /// `[accounts]`: where uids come from.
    pub accounts: uid::Rule,
    /// `accounts.lower_case`: the hub's names have no capitals, whatever users type.
    pub lower_case: bool,
    /// `[homes]`; `None` if `root` is unset: this host has no homes.
    pub homes: Option<Homes>,
    /// `session.jail`
    pub jail: Jail,
}

/// How a session is isolated from this host and from other sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jail {
    /// In namespaces of its own, made by root.
    #[default]
    Namespaces,
    /// Only by what the session program does, for an sshd that runs without root.
    None,
}

/// How to reach the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// `url`; `None` until the administrator sets it, and then nobody is let in.
    pub url: Option<HubUrl>,
    /// `ca_file`: certificates in PEM that are trusted for the hub, in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// `start_timeout`: how long a user's server may take to start.
    pub start_timeout: Duration,
}

impl Settings {
    /// Reads the three tables.
    ///
    /// # Errors
    /// The text is no TOML, or one of the tables holds an unknown key or a value that is not
    /// allowed.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::read(&Document::parse(text)?)
    }

    /// Reads the three tables of a parsed file.
    ///
    /// # Errors
    /// As [`Settings::parse`].
    pub fn read(document: &Document<'_>) -> Result<Self, ConfigError> {
        let hub = read_hub(&document.table("hub", &["url", "ca_file", "start_timeout"])?)?;
        let homes_table = document.table("homes", homes::KEYS)?;
        let homes = homes::read(&homes_table)?;
        let accounts_table = document.table("accounts", &["uid", "fixed", "range", "lower_case"])?;
        let accounts = read_accounts(&accounts_table, homes.as_ref())?;
        let lower_case = accounts_table.boolean("lower_case")?.unwrap_or(true);
        homes::check_owner(&homes_table, homes.as_ref(), accounts)?;
        let jail = read_jail(&document.table("session", &SESSION_KEYS)?)?;
        Ok(Self { hub, accounts, lower_case, homes, jail })
    }

    /// The hub's form of a name that a client typed: lower-case, as at the hub's own login page,
    /// unless configured otherwise.
    pub fn canonical(&self, name: LoginName) -> LoginName {
        if self.lower_case { name.lower_case() } else { name }
    }

    /// The home directory in the passwd entry of `user`, which is where a session sees the home.
    ///
    /// # Errors
    /// The configured path would be too long for this user.
    pub fn home_dir(&self, user: &UserName) -> Result<String, TemplateError> {
        match (&self.homes, self.jail) {
            (Some(homes), _) => homes.path.expand(user),
            (None, Jail::Namespaces) => Ok(format!("/home/{user}")),
            // sshd complains to the user if the directory does not exist.
            (None, Jail::None) => Ok("/".to_owned()),
        }
    }
}

/// Reads the configuration from an open file, after checking its owner and mode: who can write to
/// it can let anybody in.
///
/// `mode` and `owner` are `st_mode` and `st_uid` of fstat(2); `trusted` must own the file and is
/// root, except in tests. Open the file with O_NOFOLLOW, which rejects symbolic links, and
/// O_NONBLOCK, so that a fifo cannot block sshd.
///
/// # Errors
/// The file is no regular file, belongs to somebody else, others can write to it, it cannot be
/// read, is larger than [`MAX_SIZE`], or is not UTF-8.
pub fn read_file(source: impl Read, mode: u32, owner: u32, trusted: u32) -> Result<String, ConfigError> {
    const TYPE: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    if mode & TYPE != REGULAR {
        return Err(ConfigError::new(
            "this is not a regular file",
            "Put the configuration there itself, neither a link nor a device.",
        ));
    }
    if owner != trusted {
        return Err(ConfigError::new(
            format!("the file belongs to uid {owner}"),
            "Give it to root: chown root:root.",
        ));
    }
    if mode & 0o022 != 0 {
        return Err(ConfigError::new(
            "others than its owner can write to the file",
            "Allow that to root only: chmod 0644.",
        ));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, to notice a larger file.
    source.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| ConfigError::new("the file is not UTF-8", "Save it in the encoding UTF-8."))?;
    if text.len() > MAX_SIZE { Err(table::too_large()) } else { Ok(text) }
}

/// Makes the error for a file that cannot be opened or read.
pub fn unreadable(error: &io::Error) -> ConfigError {
    if error.kind() == io::ErrorKind::NotFound {
        ConfigError::new(
            "there is no such file",
            "Copy it from /usr/share/jupyterhub-openssh/config.toml, and set hub.url in it.",
        )
    } else {
        ConfigError::new(
            format!("cannot read the file: {error}"),
            "It must be a regular file that everyone may read: chmod 0644.",
        )
    }
}

fn read_hub(table: &Table<'_>) -> Result<Hub, ConfigError> {
    const TIMEOUT: std::ops::RangeInclusive<u64> = 10..=3600;
    let url = match table.text("url")? {
        Some(text) => {
            Some(HubUrl::parse(text).map_err(|error| table.refuse("url", error.problem, error.remedy))?)
        }
        None => None,
    };
    let start_timeout = table.number("start_timeout")?.unwrap_or(300);
    if !TIMEOUT.contains(&start_timeout) {
        return Err(table.refuse(
            "start_timeout",
            format!("{start_timeout} seconds are not allowed"),
            format!("Use {} to {} seconds.", TIMEOUT.start(), TIMEOUT.end()),
        ));
    }
    Ok(Hub { url, ca_file: table.path("ca_file")?, start_timeout: Duration::from_secs(start_timeout) })
}

fn read_jail(table: &Table<'_>) -> Result<Jail, ConfigError> {
    match table.text("jail")?.unwrap_or("namespaces") {
        "namespaces" => Ok(Jail::Namespaces),
        "none" => Ok(Jail::None),
        other => Err(table.refuse(
            "jail",
            format!("\"{}\" is no jail", excerpt(other)),
            "Use \"namespaces\" or \"none\".",
        )),
    }
}

fn read_accounts(table: &Table<'_>, homes: Option<&Homes>) -> Result<uid::Rule, ConfigError> {
    // All keys are checked, even if the rule does not need them.
    let fixed = match table.pair("fixed")? {
        Some((uid, gid)) => {
            Some(Ids::new(uid, gid).map_err(|error| table.refuse("fixed", error.to_string(), uid::ALLOWED))?)
        }
        None => None,
    };
    let range = match table.pair("range")? {
        Some((low, high)) => {
            Range::new(low, high).map_err(|error| table.refuse("range", error.to_string(), uid::ALLOWED))?
        }
        None => Range::DEFAULT,
    };
    // The rule `home` needs homes that tell the uid.
    match table.text("uid")?.unwrap_or(if homes.is_some() { "home" } else { "hash" }) {
        "hash" => Ok(uid::Rule::Hash(range)),
        "home" if homes.is_some() => Ok(uid::Rule::Home),
        "home" => Err(table.refuse(
            "uid",
            "\"home\" takes the uid from the owner of the home, but homes.root is not set",
            "Set root in [homes] to the directory of the homes, or uid to \"hash\" or \"fixed\".",
        )),
        "fixed" => fixed.map(uid::Rule::Fixed).ok_or_else(|| {
            table.refuse(
                "uid",
                "\"fixed\" needs accounts.fixed, which is not set",
                "Set it to the uid and gid, as in fixed = [1000, 100].",
            )
        }),
        other => Err(table.refuse(
            "uid",
            format!("\"{}\" is not a rule for uids", excerpt(other)),
            "Use \"hash\", \"home\" or \"fixed\".",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let settings = Settings::parse("").unwrap();
        assert_eq!(settings.hub.url, None);
        assert_eq!(settings.hub.start_timeout, Duration::from_secs(300));
        assert_eq!(settings.accounts, uid::Rule::Hash(Range::DEFAULT));
        assert_eq!((settings.homes, settings.jail, settings.lower_case), (None, Jail::Namespaces, true));
    }

    #[test]
    fn the_home_is_where_a_session_sees_it() {
        let home =
            |text: &str| Settings::parse(text).unwrap().home_dir(&UserName::parse("alice").unwrap()).unwrap();
        assert_eq!(home(""), "/home/alice");
        assert_eq!(home("[homes]\nroot = '/srv'\npath = '/u/{username}'"), "/u/alice");
        assert_eq!(home("[session]\njail = 'none'"), "/");
    }

    #[test]
    fn a_typed_name_is_the_hubs() {
        let name = |text: &str| {
            let typed = LoginName::parse("Alice@Example.org+GPU").unwrap();
            Settings::parse(text).unwrap().canonical(typed).to_string()
        };
        assert_eq!(name(""), "alice@example.org+GPU");
        assert_eq!(name("[accounts]\nlower_case = false"), "Alice@Example.org+GPU");
    }

    #[test]
    fn every_key_is_read() {
        let settings = Settings::parse(
            r#"
            [hub]
            url = "https://hub.example.org/"
            ca_file = "/etc/ssl/hub.pem"
            start_timeout = 60
            [accounts]
            uid = "fixed"
            fixed = [1000, 100]
            range = [100_000, 200_000]
            [homes]
            root = "/srv/homes/"
            template = "{slug}"
            [terminal]
            whatever = true
            "#,
        )
        .unwrap();
        assert_eq!(settings.hub.url.unwrap().base(), "https://hub.example.org");
        assert_eq!(settings.hub.ca_file.unwrap(), Path::new("/etc/ssl/hub.pem"));
        assert_eq!(settings.hub.start_timeout, Duration::from_secs(60));
        assert_eq!(settings.accounts, uid::Rule::Fixed(Ids::new(1000, 100).unwrap()));
        let homes = settings.homes.unwrap();
        assert_eq!((homes.root.as_path(), homes.template.as_str()), (Path::new("/srv/homes"), "{slug}"));
        let settings = Settings::parse("[accounts]\nuid = 'home'\n[homes]\nroot = '/srv/homes'").unwrap();
        assert_eq!(settings.accounts, uid::Rule::Home);
        assert_eq!(settings.homes.unwrap().template.as_str(), "{username}");
        let settings = Settings::parse("[accounts]\nrange = [100_000, 200_000]").unwrap();
        assert_eq!(settings.accounts, uid::Rule::Hash(Range::new(100_000, 200_000).unwrap()));
    }

    #[test]
    fn faults_name_their_key_and_line() {
        for (text, key) in [
            ("[hub]\nurl = ''", "hub.url"),
            ("[hub]\nurl = 'https://hub/hub/token'", "hub.url"),
            ("[hub]\nUrl = ''", "hub.Url"),
            ("[hub]\nurl.base = ''", "hub.url"),
            ("[hub]\nca_file = 'hub.pem'", "hub.ca_file"),
            ("[hub]\nstart_timeout = 9", "hub.start_timeout"),
            ("[hub]\nstart_timeout = 3601", "hub.start_timeout"),
            ("[accounts]\nuid = 'root'", "accounts.uid"),
            ("[accounts]\nuid = 'home'", "accounts.uid"),
            ("[accounts]\nuid = 'fixed'", "accounts.uid"),
            ("[accounts]\nfixed = [0, 0]", "accounts.fixed"),
            ("[accounts]\nfixed = [1000, 0]", "accounts.fixed"),
            ("[accounts]\nfixed = [1000, 27]", "accounts.fixed"),
            ("[accounts]\nrange = [1, 100000]", "accounts.range"),
            ("[accounts]\nuids = 'hash'", "accounts.uids"),
            ("[accounts]\nlower_case = 'no'", "accounts.lower_case"),
            ("[homes]\nroots = ''", "homes.roots"),
        ] {
            let error = match Settings::parse(text) {
                Err(error) => error,
                Ok(settings) => panic!("{text}: {settings:?}"),
            };
            assert_eq!(error.key(), Some(key), "{text}");
            assert_eq!(error.place().map(|place| place.line), Some(2), "{text}");
            assert_eq!(error.to_string().lines().count(), 2, "{text}: {error}");
        }
    }

    #[test]
    fn only_a_plain_file_of_the_trusted_user_is_taken() {
        let read = |mode, owner| read_file(&b"[hub]"[..], mode, owner, 0);
        assert_eq!(read(0o100_644, 0), Ok("[hub]".to_owned()));
        assert!(read(0o100_600, 0).is_ok());
        for (mode, owner) in [
            (0o100_664, 0),
            (0o100_646, 0),
            (0o100_644, 1000),
            (0o120_777, 0),
            (0o040_755, 0),
            (0o010_644, 0),
            (0o020_644, 0),
        ] {
            assert!(read(mode, owner).is_err(), "{mode:o} {owner}");
        }
    }

    #[test]
    fn a_file_that_is_huge_or_no_text_is_refused() {
        let read = |bytes: &[u8]| read_file(bytes, 0o100_644, 0, 0);
        assert!(read(&vec![b'#'; MAX_SIZE]).is_ok());
        assert!(read(&vec![b'#'; MAX_SIZE + 1]).is_err());
        assert!(read_file(io::repeat(b'#'), 0o100_644, 0, 0).is_err());
        assert!(read(b"url = \"\xff\"").is_err());
    }

    proptest! {
        #[test]
        fn any_value_is_read_without_a_panic(table in "hub|accounts|homes", key in "url|ca_file|start_timeout|uid|fixed|range|root|template", value in "\\PC{0,40}|\"\\PC{0,40}\"|\\[[0-9]{1,12}, ?[0-9]{1,12}\\]|[0-9]{1,22}") {
            let _ = Settings::parse(&format!("[{table}]\n{key} = {value}\n"));
        }
    }
}
