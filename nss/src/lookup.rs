//! Looks up hub users by name and by uid: the module's decisions.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use common::homes::Homes;
use common::uid::{self, Ids, Range, Rule};
use common::{LoginName, Passwd, Settings};

use crate::answered::{Answers, Said};
use crate::env::Env;
use crate::files;

/// Why a lookup gives no entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such user.
    NotFound,
    /// Something is broken, with a line for the log.
    Unavailable(String),
}

/// The result of a lookup by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The user's entry.
    pub entry: Passwd,
    /// A line for the log about something that an administrator should fix.
    pub warning: Option<String>,
}

/// Looks up a user by name: in sshd only, and with the same result for the whole life of a process.
///
/// Elsewhere nothing is read but the path of the program itself.
///
/// A name typed with capitals gets the entry of the name in lower case. sshd uses the entry's name
/// for DenyUsers, Match Group and the groups, so one person is one account. Whether there is a
/// local account of that name cannot be asked here (see [`answered`](crate::answered)): the PAM
/// module asks, and rejects the login.
///
/// # Errors
/// Not found: this is not sshd, or the name is not valid. Unavailable: the configuration or the
/// group is broken. An unset `hub.url` is no error here: PAM rejects the login then, and says which
/// key to set.
pub fn by_name(env: &Env, answers: &Answers, name: &[u8]) -> Result<Found, Refusal> {
    let name = login_name(name)?;
    if !env.is_sshd() {
        return Err(Refusal::NotFound);
    }
    let not_ours = |name: &str| {
        Refusal::Unavailable(format!("{name} is somebody else's to this process, or it is busy"))
    };
    let said = |name: &str| match answers.said(name) {
        Said::Nothing => None,
        Said::Entry(entry) => Some(Ok(Found { entry, warning: None })),
        Said::NotOurs => Some(Err(not_ours(name))),
    };
    if let Some(said) = said(name.as_str()) {
        return said;
    }
    let settings = settings(env)?;
    let (typed, name) = (name.to_string(), settings.canonical(name));
    if let Some(said) = said(name.as_str()) {
        return said;
    }
    // Without the group sshd's Match block would not apply to the user.
    let group = files::group_id(&env.group).map_err(|error| Refusal::Unavailable(error.one_line()))?;
    let (ids, warning) = match (&settings.accounts, &settings.homes) {
        (Rule::Home, Some(homes)) => owner_of_home(env, homes, &name)?,
        (Rule::Home, None) => return Err(Refusal::Unavailable("homes.root is not set".to_owned())),
        (Rule::Hash(range), _) => (range.ids(name.user()), None),
        (Rule::Fixed(ids), _) => (*ids, None),
    };
    let entry = entry(&settings, &name, ids)?;
    let remembered = answers.remember(&typed, &entry, group);
    if remembered { Ok(Found { entry, warning }) } else { Err(not_ours(&typed)) }
}

/// Looks up a user by uid, from the symbolic link that the user's session has left in
/// [`Env::uid_dir`].
///
/// Every process asks for uids, so for a uid without a link this costs one system call. If the uid
/// owns the link, the link's group is the gid. For a link of root's the uid rule tells the gid,
/// unless it is `home`: no process but sshd has to look at homes.
///
/// # Errors
/// Not found: no hub user may have this uid, it has had no session since boot, another user has it
/// now, or its user's name looks like a uid. Unavailable: others than root can write to the
/// directory of links, or the configuration is broken.
pub fn by_uid(env: &Env, uid: u32) -> Result<Passwd, Refusal> {
    if !uid::is_allowed(uid) {
        return Err(Refusal::NotFound);
    }
    let path = env.uid_dir.join(uid.to_string());
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::NotFound,
        _ => Refusal::Unavailable(format!("{}: {error}", path.display())),
    };
    let target = fs::read_link(&path).map_err(broken)?;
    let name = login_name(target.as_os_str().as_encoded_bytes())?;
    // Outside of sshd no name is found, so chown(1) would take the name `1000`, as shown by `ls`,
    // for uid 1000.
    if name.looks_like_a_uid() {
        return Err(Refusal::NotFound);
    }
    let directory = fs::symlink_metadata(&env.uid_dir).map_err(broken)?;
    if !directory.is_dir() || directory.uid() != env.trusted || directory.mode() & 0o022 != 0 {
        return Err(Refusal::Unavailable(format!(
            "{}: others than root can write there. Remove it and run systemd-tmpfiles --create",
            env.uid_dir.display()
        )));
    }
    let link = fs::symlink_metadata(&path).map_err(broken)?;
    if link.uid() == uid {
        let ids = Ids::new(uid, link.gid()).map_err(|_| Refusal::NotFound)?;
        let settings = settings(env).or_else(|_| Settings::parse("").map_err(|_| Refusal::NotFound))?;
        return entry(&settings, &name, ids);
    }
    let settings = settings(env)?;
    let ids = match settings.accounts {
        Rule::Hash(range) => range.ids(name.user()),
        Rule::Fixed(ids) => ids,
        Rule::Home => return Err(Refusal::NotFound),
    };
    if ids.uid() == uid { entry(&settings, &name, ids) } else { Err(Refusal::NotFound) }
}

fn entry(settings: &Settings, name: &LoginName, ids: Ids) -> Result<Passwd, Refusal> {
    let dir = settings
        .home_dir(name.user())
        .map_err(|error| Refusal::Unavailable(format!("homes.path for {name}: {error}")))?;
    Ok(Passwd::new(name, ids, dir))
}

/// The log line about groups of this host that a hub user does not get.
pub fn not_passed_on(name: &[u8], gids: &[u32]) -> String {
    let numbers: Vec<String> = gids.iter().map(ToString::to_string).collect();
    format!(
        "groups of this host have {} among their members, which is a hub user here and does not get them: see getent \
         group {}",
        String::from_utf8_lossy(name).escape_debug(),
        numbers.join(" ")
    )
}

fn login_name(bytes: &[u8]) -> Result<LoginName, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::NotFound)?;
    LoginName::parse(text).map_err(|_| Refusal::NotFound)
}

fn settings(env: &Env) -> Result<Settings, Refusal> {
    files::settings(&env.config, env.trusted).map_err(|error| Refusal::Unavailable(error.one_line()))
}

/// The uid and gid that own the user's home, for the uid rule `home`, and a warning for the log.
///
/// If there is no home, or its owner may not be a hub user, they are computed as with the rule
/// `hash`. For a terminal any uid that is the user's own will do, and a user who has not started a
/// server yet has no home. Should a home of another uid be there later, the jail does not show it
/// to the session.
fn owner_of_home(env: &Env, homes: &Homes, name: &LoginName) -> Result<(Ids, Option<String>), Refusal> {
    let path = homes
        .template
        .expand(name.user())
        .map_err(|error| Refusal::Unavailable(format!("home of {name}: homes.template: {error}")))?;
    let problem = match ((env.owner)(&homes.root, &path), &homes.create) {
        // Root's: a placeholder, left behind when the program that was creating the home was
        // killed. The jail recognises it and goes on.
        (Ok(None), create) | (Ok(Some((0, _))), create @ Some(_)) => {
            let owner = create.as_ref().and_then(|create| create.owner);
            // No warning, as anybody can make up names. Once the user has logged in, the jail logs
            // it.
            return Ok((owner.unwrap_or_else(|| Range::DEFAULT.ids(name.user())), None));
        }
        (Ok(Some((uid, gid))), _) => match Ids::new(uid, gid) {
            Ok(ids) => return Ok((ids, None)),
            Err(error) => format!("its owner cannot log in: {error}. Change its owner"),
        },
        (Err(problem), _) => problem,
    };
    let ids = Range::DEFAULT.ids(name.user());
    let warning = format!(
        "home {} of {name}: {problem}. This login gets uid {} and goes on without the home",
        homes.root.join(&path).display(),
        ids.uid()
    );
    Ok((ids, Some(warning)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::env::tests::{configure, run_as, sandbox};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    fn find(env: &Env, name: &str) -> Result<Passwd, Refusal> {
        by_name(env, &Answers::new(), name.as_bytes()).map(|found| found.entry)
    }

    fn log_line(result: Result<Passwd, Refusal>) -> String {
        match result {
            Err(Refusal::Unavailable(line)) => line,
            other => format!("{other:?}"),
        }
    }

    /// True if the test can change owners, as in a package build.
    fn is_root(env: &Env) -> bool {
        env.trusted == 0
    }

    #[test]
    fn sshd_learns_of_a_hub_user_and_the_group() {
        let (_dir, env) = sandbox();
        let answers = Answers::new();
        let alice = by_name(&env, &answers, b"alice").unwrap().entry;
        assert_eq!((alice.name.as_str(), alice.dir.as_str()), ("alice", "/home/alice"));
        assert_eq!((alice.ids.uid(), alice.ids.gid()), (2_089_708_914, 2_089_708_914));
        assert_eq!(answers.group_of(b"alice", alice.ids.gid()), Some(990));
        let gpu = by_name(&env, &answers, b"alice+gpu").unwrap().entry;
        assert_eq!((gpu.name.as_str(), gpu.dir.as_str(), gpu.ids), ("alice+gpu", "/home/alice", alice.ids));
    }

    #[test]
    fn capitals_make_no_second_account() {
        let (_dir, env) = sandbox();
        let answers = Answers::new();
        let typed = by_name(&env, &answers, b"Alice+GPU").unwrap().entry;
        assert_eq!((typed.name.as_str(), typed.dir.as_str()), ("alice+GPU", "/home/alice"));
        assert_eq!(answers.group_of(b"alice+GPU", typed.ids.gid()), Some(990));
        let alice = find(&env, "alice").unwrap();
        assert_eq!((find(&env, "ALICE").unwrap(), typed.ids), (alice.clone(), alice.ids));
        configure(&env, "[accounts]\nlower_case = false");
        let capital = find(&env, "Alice").unwrap();
        assert!(capital.name == "Alice" && capital.ids != alice.ids && find(&env, "alice") == Ok(alice));
        // Nothing changes in the middle of a login.
        assert_eq!(by_name(&env, &answers, b"Alice+GPU").unwrap().entry, typed);
        // If the groups were asked for first, the name is somebody else's, however it is typed.
        configure(&env, "");
        let answers = Answers::new();
        assert_eq!(answers.group_of(b"bob", 100), None);
        assert!(matches!(by_name(&env, &answers, b"Bob"), Err(Refusal::Unavailable(_))));
    }

    #[test]
    fn elsewhere_nothing_is_answered_or_read() {
        let (_dir, env) = sandbox();
        configure(&env, "broken");
        run_as(&env, "/usr/sbin/adduser");
        assert_eq!(find(&env, "alice"), Err(Refusal::NotFound));
    }

    #[test]
    fn names_that_are_none_are_not_found() {
        let (_dir, env) = sandbox();
        configure(&env, "broken");
        for name in ["", "..", "-x", "a:b", "a/b", "a b", "\u{e9}", "\n"] {
            assert_eq!(find(&env, name), Err(Refusal::NotFound), "{name:?}");
        }
        assert_eq!(by_name(&env, &Answers::new(), b"\xff\xfe"), Err(Refusal::NotFound));
    }

    #[test]
    fn a_broken_configuration_is_unavailable_and_the_log_says_where() {
        let (_dir, env) = sandbox();
        for (text, expected) in [
            ("[hub]\nurl = 'x'", "line 2, key `hub.url`: "),
            ("[hub]\nurls = 'x'", "Did you mean url?"),
            ("[accounts]\nuid = 'home'", "homes.root is not set"),
            ("[accounts]\nuid = \"a\\u001b[2J\\nb\"", "a\\u{1b}[2J\\nb"),
            ("{", "line 1: "),
        ] {
            configure(&env, text);
            let line = log_line(find(&env, "alice"));
            assert!(line.starts_with(env.config.to_str().unwrap()), "{line}");
            assert!(line.contains(expected) && !line.contains(char::is_control), "{line}");
        }
        fs::remove_file(&env.config).unwrap();
        assert!(log_line(find(&env, "alice")).contains("there is no such file"));
    }

    #[test]
    fn what_only_the_programs_read_does_not_matter() {
        let (_dir, env) = sandbox();
        configure(&env, "[terminal]\nexit_status = 5\n[other]\nx = 1");
        assert!(find(&env, "alice").is_ok());
    }

    #[test]
    fn without_the_group_nobody_is_found() {
        let (_dir, env) = sandbox();
        fs::write(&env.group, "root:x:0:\n").unwrap();
        assert!(log_line(find(&env, "alice")).contains("there is no group jupyterhub"));
    }

    #[test]
    fn fixed_ids_are_everybodys() {
        let (_dir, env) = sandbox();
        configure(&env, "[accounts]\nuid = 'fixed'\nfixed = [1000, 100]");
        for name in ["alice", "bob+gpu"] {
            let ids = find(&env, name).unwrap().ids;
            assert_eq!((ids.uid(), ids.gid()), (1000, 100));
        }
    }

    #[test]
    fn the_owner_of_the_home_is_the_user() {
        let (dir, env) = sandbox();
        let homes = dir.path().join("homes");
        let configured = format!("[homes]\nroot = '{}'", homes.display());
        configure(&env, &configured);
        let computed = |name: &str| Range::DEFAULT.ids(LoginName::parse(name).unwrap().user());
        let look = |name: &str| {
            let found = by_name(&env, &Answers::new(), name.as_bytes()).unwrap();
            (found.entry.ids, found.warning.unwrap_or_default())
        };
        let (ids, warning) = look("alice");
        assert!(ids == computed("alice") && warning.contains("No such file"), "no root: {warning}");
        fs::create_dir(&homes).unwrap();
        assert_eq!(look("alice"), (computed("alice"), String::new()), "no home, which is nothing to warn of");
        fs::create_dir(homes.join("alice")).unwrap();
        symlink("alice", homes.join("bob")).unwrap();
        fs::write(homes.join("carol"), "").unwrap();
        for name in ["bob", "carol"] {
            let (ids, warning) = look(name);
            assert!(ids == computed(name) && warning.contains("without symbolic links"), "{name}: {warning}");
        }
        if is_root(&env) {
            assert!(look("alice").1.contains("uid 0 is below 1000"));
            for (uid, gid) in [(1000, 100), (200_000, 200_000), (1000, 27), (65_534, 100)] {
                chown(homes.join("alice"), Some(uid), Some(gid)).unwrap();
                let (ids, warning) = look("alice+gpu");
                assert_eq!(ids, Ids::new(uid, gid).unwrap_or(computed("alice")), "{uid}:{gid}");
                assert_eq!(warning.is_empty(), Ids::new(uid, gid).is_ok(), "{uid}:{gid}: {warning}");
            }
        }
        configure(&env, &format!("[accounts]\nlower_case = false\n{configured}\ntemplate = '{{escaped}}'"));
        assert!(matches!(find(&env, &"A".repeat(128)), Err(Refusal::Unavailable(_))), "does not fit");
    }

    const HOMES: &str = "[accounts]\nuid = 'home'\n[homes]\nroot = '/srv/homes'\n";

    #[test]
    fn homes_that_do_not_answer_leave_a_uid_for_a_terminal() {
        let (_dir, mut env) = sandbox();
        configure(&env, HOMES);
        env.owner = |_, _| Err("no answer within 2 s".to_owned());
        let answers = Answers::new();
        let found = by_name(&env, &answers, b"alice+gpu").unwrap();
        assert_eq!(found.entry.ids, Range::DEFAULT.ids(LoginName::parse("alice").unwrap().user()));
        let line = found.warning.unwrap();
        assert!(line.starts_with("home /srv/homes/alice of alice+gpu: no answer within 2 s. "), "{line}");
        assert!(line.contains("uid 2089708914") && !line.contains('\n'), "{line}");
        assert_eq!(answers.group_of(b"alice+gpu", found.entry.ids.gid()), Some(990));
        // The home is asked once; the user keeps the entry in this process.
        env.owner = |_, _| Ok(Some((1000, 100)));
        let again = by_name(&env, &answers, b"alice+gpu").unwrap();
        assert_eq!(again, Found { entry: found.entry, warning: None });
        configure(&env, "broken");
        assert_eq!(by_name(&env, &answers, b"alice+gpu"), Ok(again));
        run_as(&env, "/usr/bin/ls");
        assert_eq!(by_name(&env, &answers, b"alice+gpu"), Err(Refusal::NotFound));
    }

    #[test]
    fn a_home_that_will_be_created_has_the_configured_owner() {
        let (_dir, mut env) = sandbox();
        env.owner = |_, _| Ok(None);
        configure(&env, HOMES);
        assert_eq!(
            find(&env, "alice").unwrap().ids.uid(),
            2_089_708_914,
            "refused or created: the user's own"
        );
        configure(&env, &format!("{HOMES}missing = 'create'\nowner = [1000, 100]"));
        assert_eq!(find(&env, "alice").unwrap().ids, Ids::new(1000, 100).unwrap());
        env.owner = |_, _| Ok(Some((2000, 2000)));
        assert_eq!(find(&env, "alice").unwrap().ids, Ids::new(2000, 2000).unwrap(), "it is there");
        env.owner = |_, _| Ok(Some((0, 0)));
        let reserved = by_name(&env, &Answers::new(), b"alice").unwrap();
        assert_eq!((reserved.entry.ids, reserved.warning), (Ids::new(1000, 100).unwrap(), None), "root's");
        env.owner = |_, _| Err("a link".to_owned());
        assert_eq!(find(&env, "alice").unwrap().ids.uid(), 2_089_708_914);
    }

    #[test]
    fn a_name_of_somebody_else_is_not_looked_up() {
        let (_dir, mut env) = sandbox();
        configure(&env, HOMES);
        env.owner = |_, _| Ok(Some((1000, 100)));
        let answers = Answers::new();
        assert_eq!(answers.group_of(b"alice", 100), None);
        assert!(matches!(by_name(&env, &answers, b"alice"), Err(Refusal::Unavailable(_))));
    }

    #[test]
    fn no_home_is_looked_at_for_a_uid() {
        let (_dir, mut env) = sandbox();
        configure(&env, HOMES);
        env.owner = |_, _| panic!("another program than sshd was made to look at a home");
        symlink("alice", env.uid_dir.join("1000")).unwrap();
        if env.trusted != 1000 {
            assert_eq!(by_uid(&env, 1000), Err(Refusal::NotFound));
        }
        if is_root(&env) {
            lchown(env.uid_dir.join("1000"), Some(1000), Some(100)).unwrap();
            assert_eq!(by_uid(&env, 1000).unwrap().ids, Ids::new(1000, 100).unwrap());
        }
    }

    #[test]
    fn a_session_gives_its_uid_a_name() {
        let (_dir, env) = sandbox();
        let uid = find(&env, "alice").unwrap().ids.uid();
        run_as(&env, "/usr/bin/ls");
        assert_eq!(by_uid(&env, uid), Err(Refusal::NotFound));
        let link = env.uid_dir.join(uid.to_string());
        symlink("alice+gpu", &link).unwrap();
        let entry = by_uid(&env, uid).unwrap();
        assert_eq!((entry.name.as_str(), entry.ids.uid(), entry.ids.gid()), ("alice+gpu", uid, uid));
        // The link's owner and group say it, so the configuration is not needed.
        if is_root(&env) {
            lchown(&link, Some(uid), Some(100)).unwrap();
            configure(&env, "broken");
            assert_eq!(by_uid(&env, uid).unwrap().ids, Ids::new(uid, 100).unwrap());
            lchown(&link, Some(uid), Some(0)).unwrap();
            assert_eq!(by_uid(&env, uid), Err(Refusal::NotFound), "a group that no hub user may have");
        }
    }

    #[test]
    fn a_name_that_looks_like_a_uid_is_not_told_for_one() {
        let (_dir, env) = sandbox();
        for (name, told) in [("1000", false), ("1000.100", false), ("1000+gpu", true)] {
            let uid = find(&env, name).unwrap().ids.uid();
            let link = env.uid_dir.join(uid.to_string());
            symlink(name, &link).unwrap();
            assert_eq!(by_uid(&env, uid).is_ok(), told, "{name}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn links_of_others_are_not_believed() {
        let (_dir, env) = sandbox();
        let uid = find(&env, "alice").unwrap().ids.uid();
        for (uid, target) in [
            (uid + 1, "alice"),
            (uid, "../../etc"),
            (uid, "bob"),
            (0, "alice"),
            (999, "alice"),
            (65_534, "alice"),
        ] {
            let link = env.uid_dir.join(uid.to_string());
            symlink(target, &link).unwrap();
            assert_eq!(by_uid(&env, uid), Err(Refusal::NotFound), "{uid} {target}");
            fs::remove_file(link).unwrap();
        }
        symlink("alice", env.uid_dir.join(uid.to_string())).unwrap();
        assert!(by_uid(&env, uid).is_ok());
        configure(&env, "broken");
        assert!(matches!(by_uid(&env, uid), Err(Refusal::Unavailable(_))));
        configure(&env, "");
        fs::set_permissions(&env.uid_dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(by_uid(&env, uid), Err(Refusal::Unavailable(_))));
        fs::remove_dir_all(&env.uid_dir).unwrap();
        assert_eq!(by_uid(&env, uid), Err(Refusal::NotFound));
        fs::write(&env.uid_dir, "").unwrap();
        assert_eq!(by_uid(&env, uid), Err(Refusal::NotFound));
    }
}
