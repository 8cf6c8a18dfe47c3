//! Decides who may ask for a user's keys: root, and the uid under which sshd runs commands for that
//! user.
//!
//! Keys are not secret, but users of this host must neither learn which names the hub knows nor
//! cause requests for other users. The NSS module
//! answers only sshd about users who are just logging in, so the uid is worked out here by the same
//! rule.

use common::homes::Homes;
use common::uid::{self, Ids, Range, Rule};
use common::{Settings, UserName};
use host::child::forked;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long the file system of the homes may take to name a home's owner.
const LIMIT: Duration = Duration::from_millis(400);
/// Length limit of a uid in digits, with room to spare.
const MAX_UID: usize = 32;
/// The child's answer if the file system denies access.
const HIDDEN: &[u8] = b"hidden";

/// What is known about a home's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The home belongs to this uid.
    Is(u32),
    /// There is no home yet.
    Nobody,
    /// The file system tells this program's user nothing (EACCES): the homes are in a directory
    /// that only root can enter.
    Hidden,
    /// The file system doesn't answer, or the child failed. A caller can cause that, with limits
    /// (setrlimit(2)) or by stopping the program at a terminal.
    Unknown,
}

/// True if the uid `caller` may ask for `user`'s keys. Forks: call it while the process has a
/// single thread.
#[must_use]
pub fn may_ask(caller: u32, user: &UserName, settings: &Settings) -> bool {
    judge(caller, user, settings, |path| owner(forked::run_on_files(LIMIT, MAX_UID, || look(path))))
}

/// Does the work of [`may_ask`], with a given way to find a path's owner.
fn judge(caller: u32, user: &UserName, settings: &Settings, owner: impl FnOnce(&Path) -> Owner) -> bool {
    caller == 0
        || match (&settings.accounts, &settings.homes) {
            (Rule::Hash(range), _) => caller == range.ids(user).uid(),
            (Rule::Fixed(ids), _) => caller == ids.uid(),
            (Rule::Home, Some(homes)) => {
                let home = homes.template.expand(user).map(|relative| homes.root.join(relative));
                is_owner(caller, user, homes, home.map_or(Owner::Unknown, |home| owner(&home)))
            }
            (Rule::Home, None) => false,
        }
}

/// The rule `home`: the owner of the home. Without a home, or while its owner is unknown, the uid
/// that the account gets instead.
/// A home hidden from this program is visible to sshd, which is root: then any uid that a hub user
/// may have is accepted.
fn is_owner(caller: u32, user: &UserName, homes: &Homes, owner: Owner) -> bool {
    let created = homes.create.as_ref().and_then(|create| create.owner).map(Ids::uid);
    let instead = caller == Range::DEFAULT.ids(user).uid() || created == Some(caller);
    match owner {
        Owner::Is(owner) => uid::is_allowed(caller) && caller == owner || instead,
        Owner::Nobody | Owner::Unknown => instead,
        Owner::Hidden => uid::is_allowed(caller),
    }
}

/// Looks at the home in a child process, which is left behind if it hangs. A thread would delay the
/// end of this process.
fn look(home: &Path) -> forked::Answer {
    match fs::symlink_metadata(home) {
        Ok(facts) => Ok(Some(facts.uid().to_string().into_bytes())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Ok(Some(HIDDEN.to_vec())),
        Err(why) => Err(why.to_string()),
    }
}

/// Interprets the child's answer.
fn owner(seen: forked::Answer) -> Owner {
    let uid = |text: Vec<u8>| std::str::from_utf8(&text).ok().and_then(|uid| uid.parse().ok());
    match seen {
        Ok(Some(text)) if text == HIDDEN => Owner::Hidden,
        Ok(Some(text)) => uid(text).map_or(Owner::Unknown, Owner::Is),
        Ok(None) => Owner::Nobody,
        Err(_) => Owner::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use host::sys::process::{close_from, in_child};
    use nix::sys::resource::{Resource, setrlimit};

    /// [`may_ask`] without a child process: tests have threads.
    fn asks(caller: u32, user: &UserName, settings: &Settings) -> bool {
        judge(caller, user, settings, |home| owner(look(home)))
    }

    fn alice() -> UserName {
        UserName::parse("alice").unwrap()
    }

    fn settings(text: &str) -> Settings {
        Settings::parse(text).unwrap()
    }

    #[test]
    fn root_and_the_users_own_uid() {
        for (text, own, other) in [
            ("", 2_089_708_914, 2_089_708_915),
            ("[accounts]\nuid = 'fixed'\nfixed = [1000, 100]", 1000, 2_089_708_914),
        ] {
            let settings = settings(text);
            assert!(asks(0, &alice(), &settings) && asks(own, &alice(), &settings));
            for stranger in [other, 33, 65_534, u32::MAX] {
                assert!(!asks(stranger, &alice(), &settings), "{stranger}");
            }
        }
    }

    #[test]
    fn the_owner_of_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let text = |more: &str| settings(&format!("[homes]\nroot = '{}'\n{more}", dir.path().display()));
        let hash = Range::DEFAULT.ids(&alice()).uid();
        assert!(asks(hash, &alice(), &text("")), "no home yet");
        assert!(!asks(1000, &alice(), &text("")));
        let homes = text("").homes.unwrap();
        for (owner, caller, expected) in [
            (Owner::Is(1000), 1000, true),
            (Owner::Is(1000), 1001, false),
            // sshd may have found an unusable owner, or a file server that hung.
            (Owner::Is(1000), hash, true),
            (Owner::Is(33), 33, false),
            (Owner::Hidden, 1000, true),
            (Owner::Hidden, 33, false),
            (Owner::Hidden, 65_534, false),
            (Owner::Unknown, 1000, false),
            (Owner::Unknown, hash, true),
            (Owner::Nobody, 1000, false),
        ] {
            assert_eq!(is_owner(caller, &alice(), &homes, owner), expected, "{owner:?} {caller}");
        }
        fs::create_dir(dir.path().join("alice")).unwrap();
        let mine = fs::metadata(dir.path()).unwrap().uid();
        assert_eq!(owner(look(&dir.path().join("alice"))), Owner::Is(mine));
        assert_eq!(owner(Ok(Some(b"x".to_vec()))), Owner::Unknown);
        assert_eq!(owner(Ok(Some(HIDDEN.to_vec()))), Owner::Hidden);
        assert_eq!(owner(Err("no answer within 0.4 s".to_owned())), Owner::Unknown);
    }

    /// A caller gains nothing from limits that prevent the child.
    #[test]
    fn a_look_that_fails_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("alice")).unwrap();
        std::os::unix::fs::chown(dir.path().join("alice"), Some(20_001), None).unwrap();
        let settings =
            settings(&format!("[accounts]\nuid = 'home'\n[homes]\nroot = '{}'", dir.path().display()));
        assert!(in_child(|| {
            assert!(may_ask(20_001, &alice(), &settings) && !may_ask(1000, &alice(), &settings));
            close_from(3).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 4, 4).unwrap();
            for caller in [1000, 20_001] {
                assert!(!may_ask(caller, &alice(), &settings), "{caller}");
            }
            assert!(may_ask(0, &alice(), &settings));
        }));
    }

    #[test]
    fn homes_that_are_made_have_an_owner_before() {
        let settings = settings("[homes]\nroot = '/nonexistent'\nmissing = 'create'\nowner = [1000, 100]");
        assert!(asks(1000, &alice(), &settings) && !asks(1001, &alice(), &settings));
    }
}
