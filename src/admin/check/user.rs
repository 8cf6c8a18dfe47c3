//! Follows one login through every part of this host. [`super::token`] does the hub's part.

use super::nss::read;
use super::{Finding, uids};
use crate::status::patience::await_answer;
use common::homes::Homes;
use common::uid::{self, Ids, Rule};
use common::{LoginName, UserName};
use host::config::{Backend, Config, Jail, NotAllowed, Source};
use host::homes;
use host::sys::identity;
use keys::{directory, home, line};
use nix::sys::stat::fstat;
use nix::unistd::User;
use std::path::Path;
use std::time::Duration;

/// The topic of findings about one login.
pub const TOPIC: &str = "user";
/// How long a file system may take for each question.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Parses the name on the command line.
///
/// # Errors
/// A finding: no hub user can have this name.
pub fn parse(name: &str) -> Result<LoginName, Finding> {
    LoginName::parse(name).map_err(|error| {
        Finding::error(
            TOPIC,
            format_args!("\"{name}\" is not a name of a hub user: {error}"),
            "Write it as the user does before the @ of ssh: NAME, or NAME+SERVER for a named server",
        )
    })
}

/// Checks all that this host knows about the login, without the hub.
pub fn check(config: &Config, login: &LoginName) -> Vec<Finding> {
    let user = login.user();
    let mut findings = vec![match login.server() {
        None => Finding::fine(
            TOPIC,
            format_args!("{login} is the hub user {user}, default server", login = login.as_str()),
        ),
        Some(server) => Finding::fine(
            TOPIC,
            format_args!("{} is the hub user {user}, server {}", login.as_str(), server.as_str()),
        ),
    }];
    findings.extend(account(login));
    findings.extend(allowed(config.login.judge(user.as_str(), None), login));
    let (home, ids) = home_of(config, user);
    findings.extend(home);
    let one_of_all = matches!(config.settings.accounts, Rule::Fixed(_)) || config.settings.jail == Jail::None;
    findings.extend(ids.filter(|_| !one_of_all).and_then(|ids| {
        let home = config.settings.homes.as_ref().map(|homes| homes::open::path(homes, user));
        uids::of_session(TOPIC, ids.uid(), home.as_deref().map(Path::new))
    }));
    if config.keys.is_on() {
        findings.extend(files_of_keys(config, user, ids));
    }
    findings
}

/// Looks for a local account with the same name, which sshd would use instead.
fn account(login: &LoginName) -> Option<Finding> {
    let name = login.as_str().to_owned();
    let try_it = format!("Try: getent passwd {}", login.as_str());
    // Our NSS module answers in sshd only, so an account that is found here is not from the hub. A
    // directory service may hang.
    match await_answer(PATIENCE, move || User::from_name(&name)) {
        Some(Ok(None)) => None,
        Some(Ok(Some(found))) => {
            Some(taken(login, found.uid.as_raw(), &read("/etc/passwd").unwrap_or_default()))
        }
        Some(Err(error)) => Some(Finding::unknown(
            TOPIC,
            format_args!("could not find out whether this host has an account of that name: {error}"),
            try_it,
        )),
        None => Some(Finding::unknown(
            TOPIC,
            "could not find out whether this host has an account of that name: no answer",
            format_args!("{try_it}; /etc/nsswitch.conf lists the sources that are asked"),
        )),
    }
}

/// A finding for a name that belongs to a local account. Suggests renaming the account only if it
/// is a person's, because programs and files know system accounts by name.
fn taken(login: &LoginName, uid: u32, passwd: &str) -> Finding {
    let name = login.as_str();
    let at_the_hub = "Rename the user at the hub, if there is one of that name";
    let is_here = passwd.lines().any(|line| line.split(':').next() == Some(name));
    let remedy = if !uid::is_allowed(uid) {
        format!("{at_the_hub}; the account belongs to the system and must keep its name")
    } else if is_here {
        format!("{at_the_hub}; or the account, while nobody uses it: usermod -l NEWNAME {name}")
    } else {
        format!("{at_the_hub}; the account stands in another service of /etc/nsswitch.conf than /etc/passwd")
    };
    let what = format!(
        "there is a local account {name} (uid {uid}), which is meant by that name: the hub is not asked"
    );
    Finding::error(TOPIC, what, remedy)
}

fn allowed(judged: Result<(), NotAllowed>, login: &LoginName) -> Option<Finding> {
    let user = login.user();
    match judged {
        Ok(()) => None,
        Err(NotAllowed::GroupsUnknown) => Some(Finding::info(
            TOPIC,
            format_args!("whether {user} may log in depends on the hub's groups (login.allow_groups)"),
            "A token of the user's tells, below",
        )),
        Err(no) => Some(Finding::error(
            TOPIC,
            format_args!("{user} may not log in: {}", no.for_log()),
            "Change [login] in /etc/jupyterhub-openssh/config.toml",
        )),
    }
}

/// Checks the user's home. Also returns the uid and gid of the user's connections.
fn home_of(config: &Config, user: &UserName) -> (Vec<Finding>, Option<Ids>) {
    let Some(homes) = config.settings.homes.clone() else {
        let ids = match config.settings.accounts {
            Rule::Hash(range) => Some(range.ids(user)),
            Rule::Fixed(ids) => Some(ids),
            Rule::Home => None,
        };
        return (ids.map(|ids| session(ids, "no home on this host")).into_iter().collect(), ids);
    };
    if let Err(fault) = homes::claim::look(Path::new(homes::claim::CLAIMS), &homes, user) {
        let what = format!("{fault}: terminals and commands work, sftp does not");
        return (vec![Finding::error(TOPIC, what, "Ask the hub's administrator whose home it is")], None);
    }
    let path = homes::open::path(&homes, user);
    let (rule, owner) = (config.settings.accounts, user.clone());
    let looked = await_answer(PATIENCE, move || look(&homes, &owner, rule));
    match looked {
        None => {
            let what =
                format!("{path}: no answer within {} s: {}", PATIENCE.as_secs_f32(), without_home(config));
            (vec![Finding::error(TOPIC, what, format_args!("See what hangs: findmnt -T {path}"))], None)
        }
        Some((Ok(()), ids)) => {
            (ids.map(|ids| session(ids, &format!("the home is {path}"))).into_iter().collect(), ids)
        }
        Some((Err(fault), ids)) => {
            let creates = config.settings.homes.as_ref().is_some_and(|homes| homes.create.is_some());
            let finding = if fault.kind == wire::claim::HomeFault::Missing && creates {
                Finding::fine(TOPIC, format_args!("{path} will be made at the first login"))
            } else {
                Finding::warning(
                    TOPIC,
                    format_args!("{fault}: {}", without_home(config)),
                    "Make the home and give it to the user's uid, or correct [homes] and [accounts]",
                )
            };
            (vec![finding], ids)
        }
    }
}

/// Describes what works without the home.
fn without_home(config: &Config) -> &'static str {
    match config.files.backend {
        Backend::Homes => "terminals and commands work, sftp does not",
        Backend::Server => "sessions work, their files are the server's, and no key of the home counts",
    }
}

fn session(ids: Ids, home: &str) -> Finding {
    Finding::fine(TOPIC, format_args!("sessions have uid {} and gid {}; {home}", ids.uid(), ids.gid()))
}

/// Opens the home, which may wait for a file server. Runs in its own thread, which may act as the
/// user at the end.
fn look(homes: &Homes, user: &UserName, rule: Rule) -> (Result<(), homes::Fault>, Option<Ids>) {
    let ids = match rule {
        Rule::Hash(range) => Some(range.ids(user)),
        Rule::Fixed(ids) => Some(ids),
        Rule::Home => None,
    };
    if let Some(ids) = ids {
        return (homes::open(homes, user, Some(ids)).map(drop), Some(ids));
    }
    match homes::open(homes, user, None) {
        Err(fault) => (Err(fault), None),
        Ok(fd) => match fstat(&fd) {
            Err(error) => (Err(homes::Fault::of_error(&homes::open::path(homes, user), error)), None),
            Ok(found) => match Ids::new(found.st_uid, found.st_gid) {
                Ok(ids) => (homes::open(homes, user, Some(ids)).map(drop), Some(ids)),
                Err(error) => {
                    let detail = format!("{}: {error}", homes::open::path(homes, user));
                    (Err(homes::Fault::new(wire::claim::HomeFault::NotTheirs, &detail)), None)
                }
            },
        },
    }
}

/// Counts the user's keys in the sources on this host.
fn files_of_keys(config: &Config, user: &UserName, ids: Option<Ids>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &config.keys.sources {
        let (user, homes, path) =
            (user.clone(), config.settings.homes.clone(), config.keys.directory.clone());
        let answer = match (source, homes, ids) {
            (Source::Home, Some(homes), Some(ids)) => await_answer(PATIENCE, move || {
                // With the user's own rights, as the program that sshd runs.
                if nix::unistd::geteuid().is_root() {
                    identity::act_on_files_as(ids.uid(), ids.gid()).map_err(|error| error.to_string())?;
                }
                home::read(&homes, &user, ids.uid())
            }),
            (Source::Home, _, None) => Some(Ok(None)),
            (Source::File, _, _) => await_answer(PATIENCE, move || directory::read(&path, &user)),
            _ => continue,
        };
        findings.push(keys(*source, answer));
    }
    findings
}

fn keys(source: Source, answer: Option<Result<Option<Vec<u8>>, String>>) -> Finding {
    match answer {
        None => Finding::error(
            TOPIC,
            format_args!("keys of the source {source}: no answer"),
            "Its file system hangs: see the findings under homes and keys",
        ),
        Some(Err(why)) => Finding::error(
            TOPIC,
            format_args!("keys of the source {source} are left out: {why}"),
            match source {
                Source::Home => {
                    "Let the user own the path named above and nobody else write to it, and use no symbolic links"
                }
                _ => {
                    "Let root own the path named above, let all read it and only root write to it, and use no symbolic links"
                }
            },
        ),
        Some(Ok(None)) => Finding::info(TOPIC, format_args!("the source {source} has no keys"), hint(source)),
        Some(Ok(Some(text))) => counted(source, &text),
    }
}

fn hint(source: Source) -> &'static str {
    match source {
        Source::Home => "ssh-copy-id makes the file, with a token",
        _ => "A file with the user's name, in keys.directory",
    }
}

/// Counts the keys in a text, and names the first line that is refused.
fn counted(source: Source, text: &[u8]) -> Finding {
    let (mut good, mut first) = (0_usize, None);
    for (number, one) in text.split(|byte| *byte == b'\n').enumerate() {
        match line::parse(one) {
            Ok(None) => {}
            Ok(Some(_)) => good += 1,
            Err(why) => {
                first.get_or_insert_with(|| format!("line {}: {why}", number + 1));
            }
        }
    }
    let keys = if good == 1 { "1 key".to_owned() } else { format!("{good} keys") };
    match first {
        None => Finding::fine(TOPIC, format_args!("the source {source} has {keys}")),
        Some(why) => Finding::warning(
            TOPIC,
            format_args!("the source {source} has {keys}, and lines that do not count: {why}"),
            "Correct the line: type, key and comment, and restrictions before them",
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ED25519: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBcA0rDWzJ4+nC9vxYxkFMRYnhTLIvD0fTYkp8Fg5J9X";

    #[test]
    fn names_are_read_as_sshd_gives_them() {
        assert_eq!(parse("alice+gpu").unwrap().user().as_str(), "alice");
        for bad in ["", "-oProxyCommand=x", "a b", "../x", "a\x1b[2J"] {
            let text = parse(bad).unwrap_err().text();
            assert!(text.contains("is not a name of a hub user") && !text.contains('\x1b'), "{text}");
        }
    }

    #[test]
    fn only_a_persons_account_may_be_renamed() {
        let text = |name: &str, uid, passwd: &str| taken(&parse(name).unwrap(), uid, passwd).text();
        for (name, uid) in
            [("root", 0), ("daemon", 1), ("www-data", 33), ("systemd-x", 61_184), ("nobody", 65_534)]
        {
            let text = text(name, uid, &format!("{name}:x:{uid}:0::/:\n"));
            assert!(!text.contains("usermod") && text.contains("Rename the user at the hub"), "{text}");
        }
        let here = text("ada", 1000, "root:x:0:0\nada:x:1000:100\n");
        assert!(here.ends_with("usermod -l NEWNAME ada"), "{here}");
        let elsewhere = text("ada", 1000, "adam:x:1000:100\n");
        assert!(!elsewhere.contains("usermod") && elsewhere.contains("/etc/nsswitch.conf"), "{elsewhere}");
    }

    #[test]
    fn keys_are_counted() {
        let text = |source: &str| counted(Source::Home, source.as_bytes()).text();
        assert_eq!(text(&format!("# x\nssh-ed25519 {ED25519} me\n")), "user: the source home has 1 key");
        assert_eq!(text(""), "user: the source home has 0 keys");
        let bad = text(&format!("ssh-ed25519 {ED25519}\ncommand=\"x\" ssh-ed25519 {ED25519}\n\0\n"));
        assert!(bad.contains("has 1 key, and lines that do not count: line 2: command"), "{bad}");
        assert!(keys(Source::File, None).is_error() && keys(Source::Home, Some(Err("x".into()))).is_error());
    }

    #[test]
    fn a_login_is_followed_on_this_host() {
        let dir = tempfile::tempdir().unwrap();
        let config = |more: &str| {
            let text = format!("[homes]\nroot = '{}'\n{more}", dir.path().display());
            Config::from_str(&text, Path::new("config.toml")).unwrap()
        };
        let login = parse("nobody-at-all+gpu").unwrap();
        let texts = |more: &str| {
            check(&config(more), &login).iter().map(|found| found.text() + "\n").collect::<String>()
        };
        let found = texts("");
        assert!(
            found.contains("hub user nobody-at-all, server gpu")
                && found.contains("does not exist: terminals"),
            "{found}"
        );
        assert!(texts("missing = 'create'").contains("will be made at the first login"));
        assert!(texts("[login]\nallow_users = ['x']").contains("may not log in: the user is neither"));
        assert!(texts("[login]\nallow_groups = ['x']").contains("depends on the hub's groups"));
        let root = check(&config(""), &parse("root").unwrap());
        assert!(
            root.iter().any(|found| found.is_error() && found.text().contains("local account root (uid 0)"))
        );
    }
}
