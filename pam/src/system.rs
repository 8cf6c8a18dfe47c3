//! What a hook needs of the host, as a trait; the real one looks up accounts and runs our two programs.

use crate::child::Child;
use crate::reply::{self, Jail, Verdict};
use crate::sys;
use accounts::{ConfigError, Settings, paths};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the gateway may take to verify a token. It gives the hub 9 s of these, or up to 11 s where the hub has to make
/// the token first.
const VERDICT_TIME: Duration = Duration::from_secs(12);
/// How long it may take to ask sshd whether it confines a login; the program gives it 8 s of these.
const CONFINEMENT_TIME: Duration = Duration::from_secs(10);
/// Longest request for that: what fits into a pipe.
const MAX_REQUEST: usize = 4096;
/// How long the jail may take to be built.
const JAIL_TIME: Duration = Duration::from_secs(12);

/// A hub user's account, as the host's own lookup answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name, which may be in another case than it was looked up by.
    pub name: String,
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
}

/// Whose account a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The hub's: its login shell is the session program, which nobody else can have.
    Hub(Account),
    /// This host's (or its directory's).
    Local,
    /// Nobody's, or the lookup failed: sshd lets nobody in that it cannot look up either.
    Nobody,
}

/// What speaks for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A token of the hub, which the gateway verifies.
    Token,
    /// A key or certificate, which sshd has checked; the gateway gets a token.
    Key,
}

/// A login, as far as a Match block of sshd's may look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// The login name as it was typed: `Match User` sees that one.
    pub typed: String,
    /// The account's name, which has the groups.
    pub user: String,
    /// The client, as sshd names it.
    pub host: String,
    /// Both ends of the connection, as in `SSH_CONNECTION`.
    pub connection: Option<String>,
}

/// The host.
pub trait System {
    /// Whose account `user` is.
    fn owner(&self, user: &str) -> Owner;
    /// Whether the host counts `user` among the group whose members sshd treats as hub users.
    ///
    /// # Errors
    /// What is missing and how to mend it, for the log.
    fn in_hub_group(&self, user: &str, gid: u32) -> Result<(), String>;
    /// Whether sshd, by its own word, confines this login; `gid` is the primary group's.
    ///
    /// # Errors
    /// What is open, and how to mend it, for the log; or why nobody knows.
    fn is_confined(&self, login: Confinement, gid: u32) -> Result<(), String>;
    /// The page where users make tokens.
    ///
    /// # Errors
    /// What is wrong with the configuration (file, key) and how to mend it, for the log.
    fn token_page(&self) -> Result<String, String>;
    /// A new name for a login, which all lines of the log about it have: 8 hexadecimal digits. No secret.
    fn session_id(&self) -> String;
    /// Has a gateway verify the login named `session`; `request` is the whole text for its standard input.
    ///
    /// # Errors
    /// For the log: it could not be run, or gave no answer in time, or none that makes sense.
    fn verify(&self, proof: Proof, session: &str, request: &[u8]) -> Result<Verdict, String>;
    /// Has a jail built and moves this process into its namespaces; `request` without the last, empty line. Where sshd isn't
    /// root's, and the configuration says so, there is no jail but a name under which the gateway serves the session.
    ///
    /// # Errors
    /// For the log. This process is then where it was, or in a jail that is being torn down and in which it
    /// can start no process: either way there is no session.
    fn enter_jail(&self, request: &str) -> Result<Option<String>, String>;
}

/// The host that this process runs on.
pub struct Host;

impl System for Host {
    fn owner(&self, user: &str) -> Owner {
        match sys::passwd(user) {
            Ok(Some(entry)) if entry.shell == OsStr::new(paths::SESSION_SHELL) => {
                // Not UTF-8, and so no name of a hub user, it cannot be.
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
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        let mut request = format!("user {typed}\ngroups {}\nhost {host}\n", groups.join(","));
        if let Some(connection) = connection {
            request += &format!("connection {connection}\n");
        }
        if request.len() > MAX_REQUEST {
            return Err("the user has too many groups".into());
        }
        let mut asked = Child::start(program, &["--is-confined"]).map_err(failed("cannot run"))?;
        asked.send(request.as_bytes()).map_err(failed("cannot write to"))?;
        asked.close_input();
        reply::confinement(&asked.read_line(end).map_err(failed("no answer from"))?)
    }

    fn token_page(&self) -> Result<String, String> {
        let file = Path::new(paths::CONFIG_FILE);
        let settings = read_settings(file).map_err(|e| e.in_file(file).to_string())?;
        match settings.hub.url {
            Some(url) => Ok(url.token_page()),
            None => Err(format!("hub users cannot log in yet: set hub.url in {}", paths::CONFIG_FILE)),
        }
    }

    fn session_id(&self) -> String {
        let mut random = [0; 4];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
        if read.is_err() {
            // Not a secret, and better than a name that is everybody's.
            random = std::process::id().to_be_bytes();
        }
        random.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verify(&self, proof: Proof, session: &str, request: &[u8]) -> Result<Verdict, String> {
        let program = paths::PROGRAM;
        let failed = |what: &'static str| move |e: io::Error| format!("{what} {program} gateway: {e}");
        let end = Instant::now() + VERDICT_TIME;
        let arguments: &[&str] = match proof {
            Proof::Token => &["gateway", "--session", session],
            Proof::Key => &["gateway", "--key", "--session", session],
        };
        let mut gateway = Child::start(program, arguments).map_err(failed("cannot run"))?;
        gateway.send(request).map_err(failed("cannot write to"))?;
        gateway.close_input();
        let line = gateway.read_line(end).map_err(failed("no answer from"))?;
        reply::verdict(&line).ok_or_else(|| format!("{program} gateway gave no answer that makes sense"))
    }

    fn enter_jail(&self, request: &str) -> Result<Option<String>, String> {
        let program = paths::JAIL_PROGRAM;
        let failed = |what: &'static str| move |e: io::Error| format!("{what} {program}: {e}");
        let end = Instant::now() + JAIL_TIME;
        let mut jail = Child::start(program, &[]).map_err(failed("cannot run"))?;
        jail.send(format!("{request}sshd {}\n\n", std::process::id()).as_bytes())
            .map_err(failed("cannot write to"))?;
        let channels = match reply::jail(&jail.read_line(end).map_err(failed("no answer from"))?)? {
            Jail::Process(first) => {
                // The program keeps `first` unreaped until it hears from us: the number is that process's.
                let first = sys::pidfd(first).map_err(failed("cannot open the process started by"))?;
                sys::join(&first).map_err(failed("cannot join the namespaces made by"))?;
                None
            }
            // Whatever that program thinks it may do: root's sessions are never without one.
            Jail::None(_) if sys::is_root() => {
                return Err(format!("{program} made no jail, and sshd is root's"));
            }
            Jail::None(name) => Some(name),
        };
        // Until this arrives, a failure here takes the jail down again.
        jail.send(b"joined\n").map_err(failed("cannot write to"))?;
        if jail.ended_well() {
            Ok(channels)
        } else {
            Err(format!("{program} failed after the jail was built"))
        }
    }
}

/// Reads the configuration. O_NONBLOCK: something else in its place, such as a fifo, must not hang sshd.
fn read_settings(file: &Path) -> Result<Settings, ConfigError> {
    let open = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(file);
    let open = open.map_err(|e| accounts::settings::unreadable(&e))?;
    let found = open.metadata().map_err(|e| accounts::settings::unreadable(&e))?;
    let text = accounts::settings::read_file(open, found.mode(), found.uid(), 0)?;
    Settings::parse(&text)
}
