//! The host as a trait, so that hooks can be tested with a scripted fake; and the real one.
//!
//! The real one looks up accounts, reads the configuration, and runs the gateway and the jail.

use crate::child::Child;
use crate::sys;
use common::text::hex;
use common::{ConfigError, LoginName, Settings, paths};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::handle::Handle;
use wire::login::{self, Verdict};
use wire::{By, confinement, jail};

/// How long the gateway may take to verify a token. It gives the hub 9 s, or 11 s if the hub has to
/// make the token first.
const VERDICT_TIME: Duration = Duration::from_secs(12);
/// How long it may take to ask sshd whether it confines a login. The jail's program gives sshd 8 s.
const CONFINEMENT_TIME: Duration = Duration::from_secs(10);
/// How long building the jail may take.
const JAIL_TIME: Duration = Duration::from_secs(12);

/// A hub user's account, as getpwnam(3) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's name, which may differ in case from the one that was looked up.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// Who owns an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The hub: the login shell is the session program, which no other account has.
    Hub(Account),
    /// This host, or its directory service.
    Local,
    /// There is no such account, or the lookup failed; sshd rejects both, too.
    Nobody,
}

/// What sshd's Match blocks can look at in a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// The login name as typed, which `Match User` sees.
    pub typed: String,
    /// The account's name, which has the groups.
    pub user: String,
    /// The client's address.
    pub host: String,
    /// The client's and the server's address and port, as in `SSH_CONNECTION`.
    pub connection: Option<String>,
}

/// What the hooks need from the host.
pub trait System {
    /// Looks up who owns the account `user`.
    fn owner(&self, user: &str) -> Owner;
    /// Checks that `user` is in the group whose members sshd's Match block confines.
    ///
    /// # Errors
    /// For the log: what is missing and how to fix it.
    fn in_hub_group(&self, user: &str, gid: u32) -> Result<(), String>;
    /// Asks sshd whether it confines this login; `gid` is the user's primary group.
    ///
    /// # Errors
    /// For the log: what sshd leaves open and how to fix it, or why there is no answer.
    fn is_confined(&self, login: Confinement, gid: u32) -> Result<(), String>;
    /// The URL of the page where users make tokens.
    ///
    /// # Errors
    /// For the log: what is wrong with the configuration (file and key) and how to fix it.
    fn token_page(&self) -> Result<String, String>;
    /// A new name for a login, in all its log lines: 8 hexadecimal digits. Not a secret.
    fn connection_id(&self) -> String;
    /// Starts a gateway that verifies the login named `session`.
    ///
    /// # Errors
    /// For the log: it could not be run, did not answer in time, or sent a malformed answer.
    fn verify(&self, session: &str, login: &login::Request<'_>) -> Result<Verdict, String>;
    /// Starts the jail's program and moves this process into the namespaces that it makes.
    ///
    /// If sshd runs without root and the configuration says `session.jail = "none"`, there is no
    /// jail, and the result is the name of the gateway, by which the session program finds it.
    ///
    /// # Errors
    /// For the log. This process is then where it was, or in a jail that is being torn down, in
    /// which it can start no process: either way there is no session.
    fn enter_jail(
        &self,
        user: &LoginName,
        ids: (u32, u32),
        handle: &Handle,
    ) -> Result<Option<String>, String>;
}

/// The host that this process runs on: the real [`System`].
pub struct Host;

impl System for Host {
    fn owner(&self, user: &str) -> Owner {
        match sys::passwd(user) {
            Ok(Some(entry)) if entry.shell == OsStr::new(paths::SESSION_SHELL) => {
                // Always UTF-8: our NSS module made this entry.
                let name = entry.name.into_string().unwrap_or_default();
                Owner::Hub(Account { name, uid: entry.uid, gid: entry.gid })
            }
            Ok(Some(_)) => Owner::Local,
            Ok(None) | Err(_) => Owner::Nobody,
        }
    }

    fn in_hub_group(&self, user: &str, gid: u32) -> Result<(), String> {
        let group = paths::GROUP;
        let id = sys::group_id(group).map_err(|e| format!("cannot look up the group {group}: {e}"))?;
        let id = id.ok_or_else(|| format!("the group {group} is missing; reinstall the package"))?;
        let groups = sys::groups(user, gid).map_err(|e| format!("cannot look up the user's groups: {e}"))?;
        if groups.contains(&id) {
            Ok(())
        } else {
            Err(format!(
                "the user is not in the group {group}, so sshd would not confine the session; add the word \
                 \"jupyterhub\" to the line \"group:\" (and \"initgroups:\", if there) of /etc/nsswitch.conf"
            ))
        }
    }

    fn is_confined(&self, login: Confinement, gid: u32) -> Result<(), String> {
        let program = paths::JAIL_PROGRAM;
        let failed = |what: &'static str| move |e: io::Error| format!("{what} {program} --is-confined: {e}");
        let end = Instant::now() + CONFINEMENT_TIME;
        let Confinement { typed, user, host, connection } = login;
        let mut groups =
            sys::groups(&user, gid).map_err(|e| format!("cannot look up the user's groups: {e}"))?;
        groups.sort_unstable();
        let request = confinement::request(&typed, &groups, &host, connection.as_deref());
        let request = request.ok_or("the user has too many groups")?;
        let mut asked = Child::start(program, &["--is-confined"]).map_err(failed("cannot run"))?;
        asked.send(request.as_bytes()).map_err(failed("cannot write to"))?;
        asked.close_input();
        match confinement::Answer::parse(&asked.read_line(end).map_err(failed("no answer from"))?) {
            confinement::Answer::Confined => Ok(()),
            confinement::Answer::Open(what) => Err(what),
            confinement::Answer::Unknown(why) => {
                Err(format!("whether sshd confines this user is not known: {why}"))
            }
        }
    }

    fn token_page(&self) -> Result<String, String> {
        let file = Path::new(paths::CONFIG_FILE);
        let settings = read_settings(file).map_err(|e| e.in_file(file).to_string())?;
        match settings.hub.url {
            Some(url) => Ok(url.token_page()),
            None => Err(format!("hub users cannot log in yet: set hub.url in {}", paths::CONFIG_FILE)),
        }
    }

    fn connection_id(&self) -> String {
        let mut random = [0; 4];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
        if read.is_err() {
            // It isn't a secret, and this is better than the same name for all.
            random = std::process::id().to_be_bytes();
        }
        hex(&random)
    }

    fn verify(&self, session: &str, login: &login::Request<'_>) -> Result<Verdict, String> {
        let program = paths::PROGRAM;
        let failed = |what: &'static str| move |e: io::Error| format!("{what} {program} gateway: {e}");
        let end = Instant::now() + VERDICT_TIME;
        let arguments: &[&str] = match login.by() {
            By::Token => &["gateway", "--session", session],
            By::Key => &["gateway", "--key", "--session", session],
        };
        let mut gateway = Child::start(program, arguments).map_err(failed("cannot run"))?;
        gateway.send(&login.to_bytes()).map_err(failed("cannot write to"))?;
        gateway.close_input();
        let line = gateway.read_line(end).map_err(failed("no answer from"))?;
        Verdict::parse(&line).ok_or_else(|| format!("{program} gateway gave no answer that makes sense"))
    }

    fn enter_jail(
        &self,
        user: &LoginName,
        (uid, gid): (u32, u32),
        handle: &Handle,
    ) -> Result<Option<String>, String> {
        let program = paths::JAIL_PROGRAM;
        let failed = |what: &'static str| move |e: io::Error| format!("{what} {program}: {e}");
        let end = Instant::now() + JAIL_TIME;
        let mut child = Child::start(program, &[]).map_err(failed("cannot run"))?;
        let request = jail::request(user, handle, uid, gid, std::process::id());
        child.send(request.as_bytes()).map_err(failed("cannot write to"))?;
        let answer = child.read_line(end).map_err(failed("no answer from"))?;
        let channels = match jail::Answer::parse(&answer) {
            jail::Answer::Ready(first) => {
                // The program does not reap `first` until we answer, so the pid is still that
                // process.
                let first = sys::pidfd(first).map_err(failed("cannot open the process started by"))?;
                sys::join(&first).map_err(failed("cannot join the namespaces made by"))?;
                None
            }
            // Never accept this under root's sshd, whatever the program says.
            jail::Answer::None(_) if sys::is_root() => {
                return Err(format!("{program} made no jail, and sshd is root's"));
            }
            jail::Answer::None(name) => Some(name),
            jail::Answer::Failed(why) => return Err(why),
        };
        // Until the program reads this, it tears the jail down if anything fails here.
        child.send(format!("{}\n", jail::JOINED).as_bytes()).map_err(failed("cannot write to"))?;
        if child.ended_well() {
            Ok(channels)
        } else {
            Err(format!("{program} failed after the jail was built"))
        }
    }
}

/// Reads the configuration, with O_NONBLOCK, so that a fifo in its place cannot hang sshd.
fn read_settings(file: &Path) -> Result<Settings, ConfigError> {
    let open = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(file);
    let open = open.map_err(|e| common::settings::unreadable(&e))?;
    let found = open.metadata().map_err(|e| common::settings::unreadable(&e))?;
    let text = common::settings::read_file(open, found.mode(), found.uid(), 0)?;
    Settings::parse(&text)
}
