//! sshd's AuthorizedKeysCommand: `/usr/lib/jupyterhub-openssh/authorized-keys USER TYPE KEY
//! FINGERPRINT`.
//!
//! sshd runs it as the user for each key that a client offers, and accepts every key that it prints
//! for this login.
//! It knows no secrets and has no rights beyond the user's. But other users of this host may share
//! that uid, and a process that could write to
//! its standard output (/proc/PID/fd/1) would decide who may log in. So the program's file is
//! executable but not readable, which makes the
//! kernel start the process undumpable (proc(5), /proc/sys/fs/suid_dumpable).
//!
//! | module | concern |
//! |---|---|
//! | [`offered`] | the offered key, and the search for it in a text (pure) |
//! | [`mod@search`] | which source lists the key (pure) |
//! | [`network`] | runs `hub-keys`, which asks the sources `hub` and `url` |

mod network;
mod offered;
mod search;

use common::paths::{HUB_KEYS_PROGRAM, SESSION_SHELL};
use common::{LoginName, UserName};
use host::child::forked;
use host::config::Config;
use host::log::{Event, Line, Log};
use host::sandbox::limits;
use host::sys::process;
use keys::{directory, file, home};
use nix::unistd::geteuid;
use offered::Offered;
use search::{Note, Sources, search};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The program's name in the log and at the start of its error messages.
const PROGRAM: &str = "jupyterhub-openssh";
const CONTEXT: &[(&str, &str)] = &[("program", "authorized-keys")];
/// Exit status: sshd reads the answer.
const ANSWERED: u8 = 0;
/// Exit status: the arguments are wrong, and sshd accepts no key.
const NONSENSE: u8 = 1;

/// Time limit for the whole run: a client waits, and sshd with it.
const TIME: Duration = Duration::from_secs(6);
/// Time limit for one file on a file system that may hang.
const FILE_TIME: Duration = Duration::from_secs(2);
/// Time limit for `hub-keys`, which asks over the network; it normally ends earlier by itself.
const NETWORK_TIME: Duration = Duration::from_secs(5);

fn main() {
    std::process::exit(run().into());
}

/// Prints the line of the first source that lists the key, or nothing. The process's arguments are
/// the tokens %u, %t, %k and %f of sshd_config(5).
/// Returns the exit status: 0 unless sshd could not have passed these arguments.
fn run() -> u8 {
    let end = Instant::now() + TIME;
    // For a program file that somebody has made readable; see the module's documentation.
    if let Err(error) = process::hide().and_then(|()| limits::apply()) {
        Log::open(PROGRAM, CONTEXT).error(Line::of(
            Event::Fault,
            format_args!("cannot hide from others of this uid, or be limited: {error}"),
        ));
        return NONSENSE;
    }
    let nonsense = |why: &str| {
        let _ = writeln!(
            io::stderr(),
            "{why}.\nThis command is sshd's AuthorizedKeysCommand, and is not for people."
        );
        NONSENSE
    };
    let arguments: Option<Vec<String>> =
        std::env::args_os().skip(1).map(|argument| argument.into_string().ok()).collect();
    let Some(Ok([user, kind, key, fingerprint])) = arguments.map(<[String; 4]>::try_from) else {
        return nonsense("The arguments are not a user, a key's type, the key and its fingerprint");
    };
    let login = match LoginName::parse(&user) {
        Ok(login) => login,
        Err(why) => return nonsense(&why.to_string()),
    };
    let offered = match Offered::parse(&kind, &key, &fingerprint) {
        Ok(Some(offered)) => offered,
        // Most likely a certificate, which TrustedUserCAKeys judges.
        Ok(None) => return ANSWERED,
        Err(why) => return nonsense(why),
    };
    if let Some(line) = line_for_sshd(&login, &offered, end) {
        // sshd may have closed the pipe (EPIPE).
        let _ = writeln!(io::stdout(), "{line}");
    }
    ANSWERED
}

fn line_for_sshd(login: &LoginName, offered: &Offered, end: Instant) -> Option<String> {
    let log = || Log::open(PROGRAM, &[CONTEXT, &[("user", login.as_str())]].concat());
    if let Err(error) = process::close_from(3) {
        log().error(Line::of(Event::Fault, format_args!("cannot close inherited descriptors: {error}")));
        return None;
    }
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => {
            log().error(Line::of(Event::Fault, error.one_line()));
            return None;
        }
    };
    if !config.keys.is_on() {
        return None;
    }
    // sshd takes `Root` for a hub user until PAM refuses it, but expands %u to root, which is this
    // host's own account. No key is accepted for such a name.
    let account = nix::unistd::User::from_name(login.as_str());
    if matches!(account, Ok(Some(found)) if found.shell != Path::new(SESSION_SHELL)) {
        return None;
    }
    let uid = geteuid();
    if uid.is_root() {
        log().error(Line::of(
            Event::Fault,
            "run as root: sshd_config must have AuthorizedKeysCommandUser %u in the block of hub users",
        ));
        return None;
    }
    let mut host = Host { config: &config, login, uid: uid.as_raw(), end };
    let (line, notes) = search(&config.keys.sources, login.user(), offered, &mut host);
    if !notes.is_empty() {
        let mut log = log();
        for note in notes {
            match note {
                Note::Info(text) => log.info(Line::of(Event::Key, text)),
                Note::Warning(text) => log.warning(Line::of(Event::Key, text)),
            }
        }
    }
    line.map(|line| line.to_string())
}

/// The sources of this host.
///
/// This process must be able to gain privileges: `hub-keys` runs under a uid of its own, which
/// no_new_privs would prevent.
struct Host<'a> {
    config: &'a Config,
    login: &'a LoginName,
    uid: u32,
    end: Instant,
}

impl Host<'_> {
    fn left(&self, most: Duration) -> Duration {
        self.end.saturating_duration_since(Instant::now()).min(most)
    }

    fn user(&self) -> &UserName {
        self.login.user()
    }
}

impl Sources for Host<'_> {
    fn home(&mut self) -> forked::Answer {
        let Some(homes) = &self.config.settings.homes else { return Ok(None) };
        forked::run_on_files(self.left(FILE_TIME), file::MAX_FILE, || {
            home::read(homes, self.user(), self.uid)
        })
    }

    fn file(&mut self) -> forked::Answer {
        let path = &self.config.keys.directory;
        forked::run_on_files(self.left(FILE_TIME), file::MAX_FILE, || directory::read(path, self.user()))
    }

    fn network(&mut self) -> Result<Vec<u8>, String> {
        network::run_hub_keys(HUB_KEYS_PROGRAM, self.login, self.left(NETWORK_TIME))
    }
}
