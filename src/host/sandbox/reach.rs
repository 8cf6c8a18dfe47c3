//! Limits which files a process may read and to which TCP ports it may connect (landlock(7)), as
//! far as the kernel supports it: Debian 12's limits files only, Debian 13's also ports, signals
//! and abstract sockets.

use crate::config::{Config, Jail, Source};
use common::paths::KEYS_CACHE;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use std::io;
use std::path::{Path, PathBuf};

/// The newest Landlock version that we have tested. The library leaves out what a kernel lacks.
const ABI: ABI = ABI::V6;

/// The port of DNS: answers too long for a datagram come by TCP.
const DNS: u16 = 53;

/// Paths that a process needs to talk to the hub. Directories, not files: a Landlock rule is about
/// the file of the moment, and these files are replaced while a process runs (resolv.conf at each
/// change of the network, certificates by updates).
const READ: [&str; 13] = [
    // Name service, certificates, OpenSSL's configuration, the time zone. Secrets in it are not
    // readable for our users anyway.
    "/etc",
    // Modules of the name service and of OpenSSL, which are loaded when they are first needed.
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    // Targets of links in /etc/ssl/certs and of /etc/localtime.
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    // Target of the link /etc/resolv.conf, by the programs that manage it.
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    // Used by libc and OpenSSL if getrandom(2) is not available.
    "/dev/urandom",
    // The C library reads this before it chooses its number of memory arenas.
    "/sys/devices/system/cpu",
];

/// The parts of /etc needed where sshd doesn't run as root: other files there, such as host keys,
/// may be secrets of the only user. These files are replaced only with the whole container.
const READ_AS_ORDINARY: [&str; 16] = [
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/jupyterhub-openssh/config.toml",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];

/// Standard input and output are redirected to it.
const NULL: &str = "/dev/null";

/// What a process may open, and where it may connect to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reach {
    read: Vec<PathBuf>,
    change: Vec<PathBuf>,
    ports: Vec<u16>,
    signals: bool,
}

impl Reach {
    /// Allows only /dev/null.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Allows what talking to the hub needs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let hub = config.hub();
        // The first entry is all of /etc.
        let (own, skip): (&[&str], _) = match config.settings.jail {
            Jail::Namespaces => (&[], 0),
            Jail::None => (&READ_AS_ORDINARY, 1),
        };
        Self {
            read: own
                .iter()
                .chain(READ.iter().skip(skip))
                .map(PathBuf::from)
                .chain(hub.ca_file.iter().flat_map(|file| around(file)))
                .collect(),
            change: Vec::new(),
            signals: false,
            ports: hub.url.iter().map(common::HubUrl::port).chain([DNS]).collect(),
        }
    }

    /// Also allows the file of the hub service's token.
    #[must_use]
    pub fn with_service_token(mut self, config: &Config) -> Self {
        self.read.extend(config.keys.service_token_file.iter().flat_map(|file| around(file)));
        self
    }

    /// Also allows the web page with users' keys, and the cache of keys.
    #[must_use]
    pub fn with_sources_of_keys(mut self, config: &Config) -> Self {
        self.change.push(KEYS_CACHE.into());
        if let (true, Some(url)) = (config.keys.sources.contains(&Source::Url), &config.keys.url) {
            self.ports.extend(port(&url.for_user("user")));
        }
        self
    }

    /// Also allows signals to processes outside this sandbox.
    #[must_use]
    pub(crate) fn with_signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Enforces these limits for this process, for good. False if this kernel has no Landlock.
    ///
    /// # Errors
    /// The rules cannot be made or enforced.
    pub fn enforce(&self) -> io::Result<bool> {
        let status = self.rules().and_then(RulesetCreated::restrict_self).map_err(io::Error::other)?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }

    fn rules(&self) -> Result<RulesetCreated, landlock::RulesetError> {
        let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let use_null: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile});
        let change: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
            ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile
        });
        Ruleset::default()
            .handle_access(AccessFs::from_all(ABI))?
            .handle_access(AccessNet::from_all(ABI))?
            // Signals to other processes of our uid, and the sockets of other gateways.
            .scope(if self.signals { Scope::AbstractUnixSocket.into() } else { Scope::from_all(ABI) })?
            .create()?
            // A path that doesn't exist needs no rule.
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.change, change))?
            .add_rules(path_beneath_rules([NULL], use_null))?
            .add_rules(
                self.ports
                    .iter()
                    .map(|port| Ok::<_, landlock::RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))),
            )
    }
}

/// Returns the directories of a file and of its link target, or the file itself if a directory
/// would be `/`.
fn around(file: &Path) -> Vec<PathBuf> {
    let directory = |file: &Path| match file.parent() {
        Some(parent) if parent.parent().is_some() => parent.to_owned(),
        _ => file.to_owned(),
    };
    let target = file.canonicalize().ok();
    let mut found: Vec<PathBuf> =
        [Some(file), target.as_deref()].into_iter().flatten().map(directory).collect();
    found.dedup();
    found
}

/// Returns the port of an http or https URL.
fn port(url: &str) -> Option<u16> {
    url::Url::parse(url).ok()?.port_or_known_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_str(text, Path::new("config.toml")).unwrap()
    }

    #[test]
    fn the_ports_of_the_hub_and_of_the_page_with_keys() {
        assert_eq!(Reach::of(&config("[hub]\nurl = 'https://hub.example.org/x'")).ports, [443, 53]);
        assert_eq!(Reach::of(&config("[hub]\nurl = 'http://hub:8000'")).ports, [8000, 53]);
        assert_eq!(Reach::of(&config("")).ports, [53]);
        let keys = config(
            "[hub]\nurl = 'http://hub:8000'\n[keys]\nservice_token_file = '/srv/secrets/token'\nsources = ['url']\n\
             url = 'https://git.example.org:8443/{username}.keys'",
        );
        let reach = Reach::of(&keys).with_service_token(&keys).with_sources_of_keys(&keys);
        assert_eq!(reach.ports, [8000, 53, 8443]);
        assert_eq!(reach.change, [Path::new(KEYS_CACHE)]);
        assert!(reach.read.contains(&"/srv/secrets".into()));
    }

    #[test]
    fn what_may_be_read_holds_no_host_keys_where_there_is_one_user() {
        let none = config("[session]\njail = 'none'\n[accounts]\nuid = 'fixed'\nfixed = [20022, 100]");
        let (read, all) = (Reach::of(&none).read, Reach::of(&config("")).read);
        assert!(all.contains(&"/etc".into()) && all[1..].iter().all(|path| read.contains(path)));
        let keys = Path::new("/etc/ssh/keys/ssh_host_ed25519_key");
        assert!(!read.iter().any(|path| keys.starts_with(path)));
    }

    #[test]
    fn a_file_may_be_replaced_and_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("b/ca.pem"), "").unwrap();
        std::os::unix::fs::symlink(root.join("b/ca.pem"), root.join("a/ca.pem")).unwrap();
        assert_eq!(around(&root.join("a/ca.pem")), [root.join("a"), root.join("b")]);
        assert_eq!(around(&root.join("b/ca.pem")), [root.join("b")]);
        assert_eq!(around(&root.join("b/none.pem")), [root.join("b")]);
        assert_eq!(around(Path::new("/ca.pem")), [Path::new("/ca.pem")], "never everything");
    }
}
