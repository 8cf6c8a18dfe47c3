//! Asks sshd itself whether it confines hub users: `sshd -T -C user=…`.
//!
//! The package's Match block is what confines a connection. Whether it is in force depends on the
//! rest of sshd's configuration: an Include line below a Match block applies to that block only,
//! and sshd -t accepts that.
//! So the PAM module has this checked at every login, and the package's configuration step checks
//! it before any user can log in. The program `jail` does it, so that sshd's own processes neither
//! read these files nor judge them.
//!
//! | module | concern |
//! |---|---|
//! | [`effective`] | sshd's effective configuration, and what confines (pure) |
//! | [`text`] | the files' text: what they depend on, and why a block is not in force (pure) |
//! | [`listener`] | which sshd to ask |
//! | [`request`] | a login, as the PAM module describes it (pure) |
//! | [`cache`] | asking costs 10 to 20 ms: the answer is kept while nothing changes |
//! | [`package`] | the check of the package's configuration step |

pub(crate) mod cache;
pub mod effective;
pub(crate) mod listener;
pub mod package;
pub(crate) mod request;
pub mod text;

use crate::child::program;
use crate::config::Jail;
use crate::rights::Rights;
use cache::Cache;
use effective::Effective;
use listener::{Listener, SSHD};
use request::Request;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use wire::confinement;

/// Time limit for sshd: it reads a few files, and the NSS module looks at a home for at most two
/// seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest output of sshd, in bytes.
const MAX_OUTPUT: usize = 256 << 10;

/// The result of asking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// sshd confines the connection.
    Confined,
    /// sshd would not confine it: what is wrong, and what to do.
    Open(String, String),
    /// It could not be determined, and why.
    Unknown(String),
}

/// Answers the PAM module: reads a request from standard input and writes one line. Returns the
/// exit status.
#[must_use]
pub fn run() -> u8 {
    let mut text = Vec::new();
    let read = io::stdin().take(confinement::MAX_REQUEST as u64 + 1).read_to_end(&mut text);
    let request = read.ok().and_then(|_| Request::parse(&text));
    let answer = match request {
        Some(request) => login(&request, Rights::of_this_process()),
        None => Answer::Unknown("request not understood".to_owned()),
    };
    let answer = match answer {
        Answer::Confined => confinement::Answer::Confined,
        Answer::Open(what, remedy) => confinement::Answer::Open(format!("{what}. {remedy}")),
        Answer::Unknown(why) => confinement::Answer::Unknown(why),
    };
    u8::from(writeln!(io::stdout(), "{}", answer.line()).is_err())
}

/// Determines whether the sshd that has accepted this login confines it.
fn login(request: &Request, rights: Rights) -> Answer {
    let owner = rights.owner();
    let found = match listener::find(owner) {
        Ok(found) => found,
        Err(why) => return Answer::Unknown(why.to_owned()),
    };
    let listener = found.unwrap_or_else(|| Listener {
        program: SSHD.to_owned(),
        arguments: rights.own_sshd_config().iter().flat_map(|file| ["-f", file]).map(str::to_owned).collect(),
    });
    let config = cache::config_of(&listener.arguments);
    let cache = Cache::of_host(owner);
    let state = cache::state(&listener.program, &config);
    let key = |state: &cache::State| request.key(&listener, state.more_than_groups);
    if state.as_ref().is_some_and(|state| cache.knows(&key(state), state)) {
        return Answer::Confined;
    }
    let answer = ask_sshd(&listener, &request.spec(), &config, jail(rights));
    if answer == Answer::Confined {
        // Only if the files are still those that sshd has read. If the answer cannot be kept, the
        // next login asks again.
        if let Some(state) =
            state.filter(|state| Some(state) == cache::state(&listener.program, &config).as_ref())
        {
            let _ = cache.remember(&key(&state), &state);
        }
    }
    answer
}

/// Returns which jail confines here: only root's sshd can make one with namespaces.
#[must_use]
pub fn jail(rights: Rights) -> Jail {
    match rights {
        Rights::Root => Jail::Namespaces,
        Rights::Ordinary(_) => Jail::None,
    }
}

/// Asks sshd about a user, described in the format of its option `-C`.
fn ask_sshd(listener: &Listener, spec: &str, config: &Path, jail: Jail) -> Answer {
    let mut command = Command::new(&listener.program);
    command.args(["-T", "-C", spec]).args(&listener.arguments).stderr(Stdio::piped());
    match program::run(&mut command, PATIENCE, MAX_OUTPUT) {
        Ok(said) if said.status.success() => {
            judge(&Effective::parse(&String::from_utf8_lossy(&said.stdout)), config, jail)
        }
        Ok(said) => {
            let said = String::from_utf8_lossy(&said.stderr);
            let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it gives no reason");
            Answer::Unknown(format!("{} -T -C {spec} fails: {line}", listener.program))
        }
        Err(error) => {
            Answer::Unknown(format!("cannot run {} -T: {}", listener.program, io::Error::from(error)))
        }
    }
}

fn judge(found: &Effective, config: &Path, jail: Jail) -> Answer {
    let opened: Vec<String> = found.opened(jail).map(|rule| rule.broken(found)).collect();
    let Some(first) = opened.first() else { return Answer::Confined };
    let text = std::fs::read(config).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // If the block is in force but one of its rules is broken, the file's text is not the reason.
    let fault = if found.is_ours() {
        text::Fault::Other
    } else {
        text::fault(&text, Path::new(text::DROP_IN).exists())
    };
    let (what, remedy) = fault.words(&config.display().to_string(), first);
    Answer::Open(what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_named() {
        let open =
            |text: &str| match judge(&Effective::parse(text), Path::new("/nonexistent"), Jail::Namespaces) {
                Answer::Open(what, _) => what,
                other => format!("{other:?}"),
            };
        let ours = "forcecommand /usr/lib/jupyterhub-openssh/session\nchrootdirectory none\n";
        assert!(open(ours).contains("ChrootDirectory is none"), "{}", open(ours));
        assert!(open("").starts_with("sshd would not confine hub users: "));
    }
}
