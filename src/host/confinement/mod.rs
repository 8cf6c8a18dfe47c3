//! Does sshd confine hub users? It is asked itself: `sshd -T -C user=…`.
//!
//! The package's Match block is what confines a session, and whether it is in force depends on the rest of sshd's
//! configuration: an Include line below a Match block holds for that block only, and sshd -t is content. So the PAM module
//! has this asked at every login, and the package's configuration step before anybody is let in. The program `jail` does
//! it, so that sshd's own processes neither read these files nor judge them.
//!
//! | file | concern |
//! |---|---|
//! | [`effective`] | what sshd says, and what confines |
//! | [`text`] | the files' text: what they depend on, and why a block isn't in force |
//! | [`listener`] | which sshd to ask |
//! | [`cache`] | asking costs 10 to 20 ms: an answer is kept while nothing changes |

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

/// How long sshd may take: it reads a few files, and the NSS module looks at a home for two seconds at most.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest output that is read, in bytes.
const MAX_OUTPUT: usize = 256 << 10;

/// What was found out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session will be confined.
    Confined,
    /// It would not be: what is so, and what to do.
    Open(String, String),
    /// Nobody knows, and why.
    Unknown(String),
}

/// For the PAM module: a request on standard input, and one line for an answer. Returns the exit status.
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

/// Whether this login will be confined, by the sshd that has taken it.
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
    let answer = ask(&listener, &request.spec(), &config, jail(rights));
    if answer == Answer::Confined {
        // Only if the files are still those that sshd has read. Where it cannot be kept, the next login asks again.
        if let Some(state) =
            state.filter(|state| Some(state) == cache::state(&listener.program, &config).as_ref())
        {
            let _ = cache.remember(&key(&state), &state);
        }
    }
    answer
}

/// What confines: sshd that isn't root's can make no jail.
#[must_use]
pub fn jail(rights: Rights) -> Jail {
    match rights {
        Rights::Root => Jail::Namespaces,
        Rights::Ordinary(_) => Jail::None,
    }
}

/// Asks sshd about a user, described as its `-C` wants it.
fn ask(listener: &Listener, spec: &str, config: &Path, jail: Jail) -> Answer {
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
    // One lock that is open is not for want of the block.
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
