//! Warns about local accounts that have the uid of a hub user.
//!
//! To the kernel both are the same user: the account can use the homes with that uid on this host,
//! and can kill those users' processes. [`host::uids`] finds such accounts, as at a login.

use super::Finding;
use common::uid::Rule;
use host::config::{Config, Jail};
use host::uids::{Account, local_accounts_that};
use std::path::{Path, PathBuf};

const TOPIC: &str = "accounts";

/// Checks the uids that the rule in `[accounts]` gives. [`of_homes`] checks those that come from
/// homes.
pub fn check(config: &Config) -> Vec<Finding> {
    // If sshd runs as an ordinary user, everything runs as that user, who has an account.
    if config.settings.jail == Jail::None {
        return Vec::new();
    }
    let found = match config.settings.accounts {
        Rule::Fixed(ids) => local_accounts_that(|account| account.uid == ids.uid()),
        Rule::Hash(range) => local_accounts_that(|account| range.contains(account.uid)),
        Rule::Home => Vec::new(),
    };
    found.first().map(|account| shared(TOPIC, "sessions may", account)).into_iter().collect()
}

/// Warns if a local account has the uid of one of these homes. An account's own home doesn't count:
/// then the account is the user.
pub fn of_homes(homes: &[(u32, PathBuf)]) -> Option<Finding> {
    let others =
        |account: &Account| homes.iter().any(|(uid, path)| *uid == account.uid && *path != account.dir);
    local_accounts_that(others).first().map(|account| shared(TOPIC, "homes do, and so sessions", account))
}

/// Warns if a local account has one hub user's uid.
pub fn of_session(topic: &str, uid: u32, home: Option<&Path>) -> Option<Finding> {
    let other = |account: &Account| account.uid == uid && home != Some(account.dir.as_path());
    local_accounts_that(other).first().map(|account| shared(topic, "this user's sessions do", account))
}

fn shared(topic: &str, who: &str, account: &Account) -> Finding {
    let Account { name, uid, .. } = account;
    Finding::warning(
        topic,
        format_args!(
            "the local account {name} has uid {uid}, as {who}: it reaches such homes on this host, and can end those sessions"
        ),
        format_args!(
            "Give that account another uid, while nobody uses it: usermod -u NEWUID {name} (its files outside of its home: \
             find / -xdev -uid {uid}); or hub users, in [accounts] of config.toml"
        ),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    fn texts(config: &str) -> Vec<String> {
        check(&Config::from_str(config, Path::new("config.toml")).unwrap())
            .iter()
            .map(Finding::text)
            .collect()
    }

    #[test]
    fn accounts_of_the_host_are_named() {
        // Nobody has these.
        assert!(texts("").is_empty());
        assert!(texts("[accounts]\nuid = 'fixed'\nfixed = [2000000001, 100]").is_empty());
        let home = |uid, path: &str| (uid, PathBuf::from(path));
        assert_eq!((of_homes(&[home(2_000_000_001, "/srv/alice")]), of_homes(&[])), (None, None));
        let root = of_session("user", 0, None).unwrap();
        assert!(
            !root.is_error() && root.text().starts_with("user: the local account root has uid 0, as this"),
            "{root:?}"
        );
        assert!(
            of_homes(&[home(5, "/x"), home(0, "/srv/alice")])
                .unwrap()
                .what
                .contains("root has uid 0, as homes do")
        );
        // The Littlest JupyterHub's users are accounts, and their homes are those of the accounts.
        assert_eq!(of_homes(&[home(0, "/root")]), None);
        assert_eq!(of_session("user", 0, Some(Path::new("/root"))), None);
    }
}
