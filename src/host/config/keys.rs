//! `[keys]`: login by key. Where a user's keys are found, and which token asks the hub for one of
//! the user's.

use super::Share;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ConfigError;
use common::HubUrl;
use common::error::excerpt;
use common::homes::{self, Homes, Relation};
use common::hub_url::UrlError;
use common::names::quote;
use common::table::{Document, Table};

/// The keys of `[keys]`.
const KEYS: [&str; 7] =
    ["service_token_file", "sources", "hub_field", "url", "directory", "cache_max_age", "token_lifetime"];
/// Stands for the user's name in `url`.
const PLACEHOLDER: &str = "{username}";
/// Longest `url`, in bytes.
const MAX_URL: usize = 1024;
/// Longest `hub_field`, in characters.
const MAX_FIELD: usize = 128;
/// The values allowed for `cache_max_age`, in seconds. At most thirty days, because a key that was
/// removed at its source may stay valid for that long.
const CACHE_MAX_AGE: RangeInclusive<u64> = 0..=2_592_000;
/// The values allowed for `token_lifetime`, in seconds. At most thirty days, because a token that
/// nobody revokes stays valid for that long.
const TOKEN_LIFETIME: RangeInclusive<u64> = 300..=2_592_000;

/// The settings for login by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `service_token_file`: the file with the token of a hub service that may make tokens for
    /// users. Without it nobody can log in by key or certificate.
    pub service_token_file: Option<PathBuf>,
    /// `sources`: where to look for users' keys, in this order; each at most once.
    pub sources: Vec<Source>,
    /// `hub_field`: the field of a user's auth_state that holds the keys of [`Source::Hub`].
    pub hub_field: String,
    /// `url`: the address of a user's keys, for [`Source::Url`]. That source requires it.
    pub url: Option<UrlTemplate>,
    /// `directory`: the directory with a file of keys for each user, for [`Source::File`].
    pub directory: PathBuf,
    /// `cache_max_age`: how long an answer of the hub or of `url` is used while they don't answer.
    pub cache_max_age: Duration,
    /// `token_lifetime`: how long the token of a connection is valid at most.
    pub token_lifetime: Duration,
}

impl Keys {
    /// True if users can log in by key.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.service_token_file.is_some() && !self.sources.is_empty()
    }
}

/// A place to look for a user's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `.ssh/authorized_keys` in the user's home on this host.
    Home,
    /// The user's auth_state at the hub.
    Hub,
    /// A web page with the user's keys, as git forges have it.
    Url,
    /// A file for the user in the administrator's directory on this host.
    File,
}

impl Source {
    /// The source's name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Hub => "hub",
            Self::Url => "url",
            Self::File => "file",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Home, Self::Hub, Self::Url, Self::File].into_iter().find(|source| source.as_str() == text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address of users' keys: `https://`, a host that is the same for all users, and after it
/// [`PLACEHOLDER`]. Printable ASCII, without a user, password or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Reads a template such as `https://git.example.org/{username}.keys`.
    ///
    /// # Errors
    /// The address is too long, not https, or has parts that it must not have.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        const EXAMPLE: &str =
            "Use an address with the user's name in it, as in https://git.example.org/{username}.keys.";
        let error = |problem, remedy| Err(UrlError { problem, remedy });
        if text.len() > MAX_URL {
            return error("the address is longer than 1024 bytes", EXAMPLE);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("https") {
            return error(
                "the address does not start with https://",
                "Use https: with anything else somebody on the way could send keys of their own.",
            );
        }
        if rest.contains('#') {
            return error("the address has a fragment", "Leave out the # and what follows it.");
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains(['{', '}']) {
            return error("the user's name would choose the host", EXAMPLE);
        }
        let host = HubUrl::parse(&format!("https://{authority}"))?;
        if !rest.contains(PLACEHOLDER) {
            return error(
                "all users would have the same keys: {username} is missing",
                "Put {username} where the user's name belongs, as in https://git.example.org/{username}.keys.",
            );
        }
        let literal = rest.replace(PLACEHOLDER, "a");
        if literal.contains(['{', '}']) {
            return error("braces are allowed around username only", EXAMPLE);
        }
        let path = literal.split('?').next().unwrap_or_default();
        if !is_plain(&literal) || path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return error(
                "the address has characters that an address has not",
                "Quote unusual characters as %XX, and leave out . and .. as parts of the path.",
            );
        }
        Ok(Self(format!("{}{rest}", host.base())))
    }

    /// The address of one user's keys. The name is percent-encoded, so that it can neither end a
    /// part of the path nor add a query. `user` is a name that [`common::UserName`] accepts.
    #[must_use]
    pub fn for_user(&self, user: &str) -> String {
        self.0.replace(PLACEHOLDER, &quote(user))
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True if a path and query has only characters that RFC 3986 allows there.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let quoted =
        |at: usize| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    bytes.iter().enumerate().all(|(at, b)| match b {
        b'%' => quoted(at),
        b => b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(b),
    })
}

/// Reads `[keys]`.
///
/// # Errors
/// A value is not allowed, a source lacks another key, or hub users could change a file that only
/// the administrator may change.
pub(super) fn read(
    document: &Document<'_>,
    homes: Option<&Homes>,
    shares: &[Share],
) -> Result<Keys, ConfigError> {
    let table = document.table("keys", &KEYS)?;
    let url = match table.text("url")? {
        Some(text) => {
            Some(UrlTemplate::parse(text).map_err(|error| table.refuse("url", error.problem, error.remedy))?)
        }
        None => None,
    };
    let hub_field = table.text("hub_field")?.unwrap_or("ssh_public_keys");
    if hub_field.trim().is_empty()
        || hub_field.chars().count() > MAX_FIELD
        || hub_field.contains(char::is_control)
    {
        return Err(table.refuse(
            "hub_field",
            format!("\"{}\" is not the name of a field", excerpt(hub_field)),
            "Write the name that the key has in auth_state, such as \"ssh_public_keys\".",
        ));
    }
    let path = |key| -> Result<Option<PathBuf>, ConfigError> {
        let path = homes::directory(&table, key)?;
        match &path {
            Some(path) if users_may_change(path, homes, shares) => Err(table.refuse(
                key,
                "this lies in what may be a user's home, or in a writable share: users could replace it",
                "Use a place that only root can change, such as beneath /etc/jupyterhub-openssh.",
            )),
            _ => Ok(path),
        }
    };
    Ok(Keys {
        service_token_file: path("service_token_file")?,
        sources: read_sources(&table, homes.is_some(), url.is_some())?,
        hub_field: hub_field.to_owned(),
        url,
        directory: path("directory")?.unwrap_or_else(|| PathBuf::from("/etc/jupyterhub-openssh/keys")),
        cache_max_age: seconds(&table, "cache_max_age", 86_400, &CACHE_MAX_AGE)?,
        token_lifetime: seconds(&table, "token_lifetime", 86_400, &TOKEN_LIFETIME)?,
    })
}

fn read_sources(table: &Table<'_>, homes: bool, url: bool) -> Result<Vec<Source>, ConfigError> {
    let Some(texts) = table.texts("sources")? else {
        // Without homes on this host there is no default source.
        return Ok(if homes { vec![Source::Home] } else { Vec::new() });
    };
    let refuse = |problem: String, remedy: String| Err(table.refuse("sources", problem, remedy));
    let mut sources = Vec::new();
    for text in texts {
        let Some(source) = Source::parse(text) else {
            return refuse(
                format!("\"{}\" is not a source of keys", excerpt(text)),
                "Use \"home\", \"hub\", \"url\" and \"file\".".to_owned(),
            );
        };
        if sources.contains(&source) {
            return refuse(format!("\"{source}\" is named twice"), "Name each source once.".to_owned());
        }
        let needed = match source {
            Source::Home if !homes => {
                Some(("homes.root is not set", "Set root in [homes] to the directory of the homes"))
            }
            Source::Url if !url => Some((
                "keys.url is not set",
                "Set url in [keys], as in url = \"https://git.example.org/{username}.keys\"",
            )),
            _ => None,
        };
        if let Some((missing, remedy)) = needed {
            return refuse(
                format!("\"{source}\" is a source of keys, but {missing}"),
                format!("{remedy}, or remove \"{source}\" from sources."),
            );
        }
        sources.push(source);
    }
    Ok(sources)
}

fn seconds(
    table: &Table<'_>,
    key: &str,
    default: u64,
    allowed: &RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    let seconds = table.number(key)?.unwrap_or(default);
    if allowed.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(table.refuse(
        key,
        format!("{seconds} seconds are not allowed"),
        format!("Use {} to {} seconds.", allowed.start(), allowed.end()),
    ))
}

/// True if hub users may write where `path` lies. Compares the names only.
fn users_may_change(path: &Path, homes: Option<&Homes>, shares: &[Share]) -> bool {
    homes.is_some_and(|homes| matches!(homes.relation(path), Relation::Home | Relation::Inside))
        || shares.iter().any(|share| share.writable && path.starts_with(&share.source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Config;
    use super::*;
    use proptest::prelude::*;

    const HOMES: &str = "[homes]\nroot = '/srv/homes'";

    fn keys_with(keys: &str, more: &str) -> Result<Keys, ConfigError> {
        Config::from_str(&format!("[keys]\n{keys}\n{more}"), Path::new("config.toml"))
            .map(|config| config.keys)
    }

    fn keys(text: &str) -> Result<Keys, ConfigError> {
        keys_with(text, HOMES)
    }

    #[test]
    fn keys_are_off_until_there_is_a_service_token_and_a_source() {
        let defaults = Keys {
            service_token_file: None,
            sources: vec![Source::Home],
            hub_field: "ssh_public_keys".to_owned(),
            url: None,
            directory: "/etc/jupyterhub-openssh/keys".into(),
            cache_max_age: Duration::from_secs(86_400),
            token_lifetime: Duration::from_secs(86_400),
        };
        assert_eq!(keys("").unwrap(), defaults);
        assert!(!defaults.is_on());
        const TOKEN: &str = "service_token_file = '/etc/t'";
        assert!(keys(TOKEN).unwrap().is_on());
        assert!(!keys(&format!("{TOKEN}\nsources = []")).unwrap().is_on());
        let bare = keys_with(TOKEN, "").unwrap();
        assert!(bare.sources.is_empty() && !bare.is_on(), "there are no homes to look into");
    }

    #[test]
    fn every_key_is_read() {
        let read = keys_with(
            "service_token_file = '/etc/t'\nsources = ['file', 'url', 'hub']\nhub_field = 'Keys of SSH'\n\
             url = 'HTTPS://Git.example.org:8443/{username}.keys'\ndirectory = '/srv/keys/'\n\
             cache_max_age = 0\ntoken_lifetime = 2592000",
            "",
        )
        .unwrap();
        assert_eq!(read.service_token_file.as_deref(), Some(Path::new("/etc/t")));
        assert_eq!(read.sources, [Source::File, Source::Url, Source::Hub]);
        assert_eq!(read.hub_field, "Keys of SSH");
        assert_eq!(read.url.unwrap().to_string(), "https://git.example.org:8443/{username}.keys");
        assert_eq!(read.directory, Path::new("/srv/keys"));
        assert_eq!((read.cache_max_age.as_secs(), read.token_lifetime.as_secs()), (0, 2_592_000));
    }

    #[test]
    fn faults_name_their_key_line_and_remedy() {
        let long = format!("hub_field = '{}'", "a".repeat(MAX_FIELD + 1));
        for (text, key, remedy) in [
            ("service_token_file = 'token'", "service_token_file", "Write the whole path"),
            ("service_token_file = '/proc/1/x'", "service_token_file", "Use a directory outside of"),
            ("service_token_file = '/srv/homes/t'", "service_token_file", "Use a place that only root"),
            ("service_token_file = '/srv/homes/a/t'", "service_token_file", "Use a place that only root"),
            ("directory = '/srv/homes/keys'", "directory", "Use a place that only root"),
            ("directory = '../keys'", "directory", "Write the whole path"),
            ("sources = 'home'", "sources", "Write texts in double quotes"),
            ("sources = ['homes']", "sources", "Use \"home\""),
            ("sources = ['home', 'home']", "sources", "Name each source once"),
            ("sources = ['home', 'url']", "sources", "Set url in [keys]"),
            ("hub_field = ''", "hub_field", "Write the name"),
            ("hub_field = \"a\\nb\"", "hub_field", "Write the name"),
            (long.as_str(), "hub_field", "Write the name"),
            ("url = 'http://git/{username}'", "url", "Use https"),
            ("cache_max_age = 2592001", "cache_max_age", "Use 0 to 2592000 seconds."),
            ("cache_max_age = '1d'", "cache_max_age", "Write a number"),
            ("token_lifetime = 299", "token_lifetime", "Use 300 to 2592000 seconds."),
            ("token_lifetime = 2592001", "token_lifetime", "Use 300 to 2592000 seconds."),
            ("token_life = 300", "token_life", "Did you mean token_lifetime?"),
        ] {
            let error = keys(text).unwrap_err();
            assert_eq!(error.key(), Some(format!("keys.{key}").as_str()), "{text}: {error}");
            assert_eq!(error.place().map(|place| place.line), Some(2), "{text}");
            assert!(error.remedy().starts_with(remedy), "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 2, "{text}: {error}");
        }
        let error = keys_with("sources = ['home']", "").unwrap_err();
        assert_eq!(error.problem(), "\"home\" is a source of keys, but homes.root is not set");
        assert!(error.remedy().starts_with("Set root in [homes]"), "{error}");
    }

    #[test]
    fn what_decides_who_gets_in_is_not_where_users_write() {
        let share = |more: &str| format!("{HOMES}\n[[shares]]\nsource = '/srv/data'\npath = '/data'\n{more}");
        for key in ["directory", "service_token_file"] {
            let text = format!("{key} = '/srv/data/x'");
            assert!(keys_with(&text, &share("")).is_ok());
            let error = keys_with(&text, &share("writable = true")).unwrap_err();
            assert_eq!(error.key(), Some(format!("keys.{key}").as_str()), "{error}");
        }
        assert!(keys("directory = '/srv/keys'").is_ok());
    }

    #[test]
    fn addresses_have_the_name_percent_encoded() {
        for (template, user, url) in [
            ("https://git.example.org/{username}.keys", "alice", "https://git.example.org/alice.keys"),
            ("https://h/~{username}/k", "a+b@example.org", "https://h/~a%2Bb@example.org/k"),
            ("https://h?u={username}&v=1", "a+b@x", "https://h?u=a%2Bb@x&v=1"),
            ("https://h/{username}/{username}", "x", "https://h/x/x"),
            ("https://h/a%20b/{username}", "../x?y=#&%00/", "https://h/a%20b/..%2Fx%3Fy%3D%23%26%2500%2F"),
            ("https://[2001:DB8::1]:8443/{username}", "a", "https://[2001:db8::1]:8443/a"),
        ] {
            assert_eq!(UrlTemplate::parse(template).unwrap().for_user(user), url, "{template}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in [
            "",
            "git.example.org/{username}",
            "http://git.example.org/{username}",
            "file:///etc/{username}",
            "https://git.example.org/keys",
            "https://git.example.org/{user}",
            "https://git.example.org/{username}/{group}",
            "https://git.example.org/{{username}}",
            "https://git.example.org/{username",
            "https://{username}.example.org/keys",
            "https://{username}/{username}",
            "https://git.example.org@{username}/",
            "https://me:secret@git.example.org/{username}",
            "https://git.example.org/#{username}",
            "https://git.example.org/{username}#x",
            "https://git.example.org:0/{username}",
            "https://git example.org/{username}",
            "https:///{username}",
            "https://git.example.org/../{username}",
            "https://git.example.org/./{username}",
            "https://git.example.org/a b/{username}",
            "https://git.example.org/%zz/{username}",
            "https://git.example.org/{username}%",
            "https://git.example.org\\{username}",
            "https://git.example.org/\\{username}",
            "https://git.example.org/ü/{username}",
            "https://git.example.org/{username}\r\nHost: x",
        ] {
            let error = UrlTemplate::parse(text).unwrap_err();
            assert!(!error.problem.is_empty() && error.remedy.ends_with('.'), "{text:?}");
        }
        assert!(UrlTemplate::parse(&format!("https://h/{{username}}{}", "a".repeat(MAX_URL))).is_err());
    }

    proptest! {
        /// Any name and any template lead to the template's host, by https.
        #[test]
        fn the_host_is_the_templates(template in "https://git\\.example\\.org[a-z/?.%@:\\\\{}-]{0,10}\\{username\\}[a-z/?#&=%.]{0,6}", user in "[a-z@+./\\\\?#:%-]{1,12}|\\PC{1,8}") {
            if let Ok(template) = UrlTemplate::parse(&template) {
                let url = template.for_user(&user);
                let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"{}#".contains(&b));
                prop_assert!(plain, "{}", url);
                let parsed = url::Url::parse(&url).unwrap();
                let other = url::Url::parse(&template.for_user("alice")).unwrap();
                prop_assert_eq!((parsed.scheme(), parsed.host_str(), parsed.port()), ("https", other.host_str(), other.port()));
                let start = format!("https://{}", other.authority());
                prop_assert!(template.0.starts_with(&start));
                prop_assert_eq!((parsed.username(), parsed.password()), ("", None));
            }
        }
    }
}
