//! The look-ups themselves.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use accounts::homes::Homes;
use accounts::uid::{self, Ids, Rule};
use accounts::{LoginName, Passwd, Settings};

use crate::answered::Answers;
use crate::env::Env;
use crate::{files, home};

/// Why there is no entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such user.
    NotFound,
    /// The user has no home, which would say the uid; the line is for the log.
    Homeless(String),
    /// Something is broken; the line is for the log.
    Unavailable(String),
}

/// The entry of a user by name. In sshd only; elsewhere nothing but the program's own name is read.
///
/// # Errors
/// Not found: this is not sshd, the name is not valid, or the rule `home` applies and there is no home.
/// Unavailable: the configuration, the group or the home is broken. `hub.url` may be unset: then the user
/// gets as far as PAM, which refuses and says which key to set.
pub fn by_name(env: &Env, answers: &Answers, name: &[u8]) -> Result<Passwd, Refusal> {
    let name = login_name(name)?;
    if !env.is_sshd() {
        return Err(Refusal::NotFound);
    }
    let settings = settings(env)?;
    // Without the group a user would get past sshd's Match block.
    let group = files::group_id(&env.group).map_err(|error| Refusal::Unavailable(error.one_line()))?;
    let ids = ids(&settings, &name)?;
    if !answers.remember(name.as_str(), ids.gid(), group) {
        return Err(Refusal::Unavailable("the module is busy in another thread".to_owned()));
    }
    entry(&settings, &name, ids)
}

/// The entry of a user by uid, from the link that the user's session has left in [`Env::uid_dir`].
///
/// Every process asks for uids, so a uid without a link costs one system call. The link's own group says
/// the gid if its owner is the uid: then neither the configuration nor the home is looked at. A link that
/// belongs to root leaves the gid to the rule.
///
/// # Errors
/// Not found: no hub user may have this uid, it has had no session since boot, or it is now another's.
/// Unavailable: the directory of links is not root's, or the rule fails as in [`by_name`].
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
    let ids = ids(&settings, &name)?;
    if ids.uid() == uid { entry(&settings, &name, ids) } else { Err(Refusal::NotFound) }
}

fn entry(settings: &Settings, name: &LoginName, ids: Ids) -> Result<Passwd, Refusal> {
    let dir = settings
        .home_dir(name.user())
        .map_err(|error| Refusal::Unavailable(format!("homes.path for {name}: {error}")))?;
    Ok(Passwd::new(name, ids, dir))
}

fn login_name(bytes: &[u8]) -> Result<LoginName, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::NotFound)?;
    LoginName::parse(text).map_err(|_| Refusal::NotFound)
}

fn settings(env: &Env) -> Result<Settings, Refusal> {
    files::settings(&env.config, env.trusted).map_err(|error| Refusal::Unavailable(error.one_line()))
}

fn ids(settings: &Settings, name: &LoginName) -> Result<Ids, Refusal> {
    match (&settings.accounts, &settings.homes) {
        (Rule::Hash(range), _) => Ok(range.ids(name.user())),
        (Rule::Fixed(ids), _) => Ok(*ids),
        (Rule::Home, Some(homes)) => owner_of_home(homes, name),
        (Rule::Home, None) => Err(Refusal::Unavailable("homes.root is not set".to_owned())),
    }
}

/// A missing home is "no such user" to sshd, which a hub user without one cannot be told apart from: their
/// uid is unknown. The log says why.
fn owner_of_home(homes: &Homes, name: &LoginName) -> Result<Ids, Refusal> {
    let unavailable = |path: &str, problem: String| {
        Refusal::Unavailable(format!("home {} of {name}: {problem}", homes.root.join(path).display()))
    };
    let path = homes
        .template
        .expand(name.user())
        .map_err(|error| unavailable("", format!("homes.template: {error}")))?;
    match home::owner(&homes.root, &path) {
        Ok(Some((uid, gid))) => Ids::new(uid, gid).map_err(|error| {
            let remedy = "Change its owner, or set uid in [accounts] to \"fixed\"";
            unavailable(&path, format!("its owner cannot log in: {error}. {remedy}"))
        }),
        Ok(None) => Err(Refusal::Homeless(format!(
            "{name} has no home {}, whose owner would be the uid. Create it, or set uid in [accounts] to \
             \"hash\" or \"fixed\"",
            homes.root.join(&path).display()
        ))),
        Err(error) => Err(unavailable(
            &path,
            format!("{error}. It must be a directory that can be reached without symbolic links"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::tests::{configure, run_as, sandbox};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    fn find(env: &Env, name: &str) -> Result<Passwd, Refusal> {
        by_name(env, &Answers::new(), name.as_bytes())
    }

    fn log_line(result: Result<Passwd, Refusal>) -> String {
        match result {
            Err(Refusal::Unavailable(line) | Refusal::Homeless(line)) => line,
            other => format!("{other:?}"),
        }
    }

    /// Tests that change owners are of use to root only, as the tests of a package build are.
    fn is_root(env: &Env) -> bool {
        env.trusted == 0
    }

    #[test]
    fn sshd_learns_of_a_hub_user_and_the_group() {
        let (_dir, env) = sandbox();
        let answers = Answers::new();
        let alice = by_name(&env, &answers, b"alice").unwrap();
        assert_eq!((alice.name.as_str(), alice.dir.as_str()), ("alice", "/home/alice"));
        assert_eq!((alice.ids.uid(), alice.ids.gid()), (2_089_708_914, 2_089_708_914));
        assert_eq!(answers.group_of(b"alice", alice.ids.gid()), Some(990));
        let gpu = by_name(&env, &answers, b"alice+gpu").unwrap();
        assert_eq!((gpu.name.as_str(), gpu.dir.as_str(), gpu.ids), ("alice+gpu", "/home/alice", alice.ids));
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
        let configured = format!("[accounts]\nuid = 'home'\n[homes]\nroot = '{}'", homes.display());
        configure(&env, &configured);
        assert!(log_line(find(&env, "alice")).contains("No such file"), "no root");
        fs::create_dir(&homes).unwrap();
        assert!(matches!(find(&env, "alice"), Err(Refusal::Homeless(_))));
        fs::create_dir(homes.join("alice")).unwrap();
        symlink("alice", homes.join("bob")).unwrap();
        fs::write(homes.join("carol"), "").unwrap();
        for name in ["bob", "carol"] {
            assert!(log_line(find(&env, name)).contains("without symbolic links"), "{name}");
        }
        if is_root(&env) {
            assert!(log_line(find(&env, "alice")).contains("uid 0 is below 1000"));
            for (uid, gid, allowed) in
                [(1000, 100, true), (200_000, 200_000, true), (1000, 27, false), (65_534, 100, false)]
            {
                chown(homes.join("alice"), Some(uid), Some(gid)).unwrap();
                assert_eq!(find(&env, "alice+gpu").map(|entry| entry.ids).ok(), Ids::new(uid, gid).ok());
                assert_eq!(find(&env, "alice").is_ok(), allowed, "{uid}:{gid}");
            }
        }
        configure(&env, &(configured + "\ntemplate = '{escaped}'"));
        assert!(matches!(find(&env, &"A".repeat(128)), Err(Refusal::Unavailable(_))), "does not fit");
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
        // Recorded by the link's owner: the configuration is not needed.
        if is_root(&env) {
            lchown(&link, Some(uid), Some(100)).unwrap();
            configure(&env, "broken");
            assert_eq!(by_uid(&env, uid).unwrap().ids, Ids::new(uid, 100).unwrap());
            lchown(&link, Some(uid), Some(0)).unwrap();
            assert_eq!(by_uid(&env, uid), Err(Refusal::NotFound), "a group that no hub user may have");
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
