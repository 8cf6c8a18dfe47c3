//! `[login]`: which of the hub's users may log in to this host, by token or by key.

use common::error::excerpt;
use common::table::{Document, Table};
use common::{ConfigError, UserName};

/// The keys of `[login]`.
const KEYS: [&str; 4] = ["allow_users", "allow_groups", "deny_users", "server_tokens"];
/// Longest name of a group, in characters: the hub's database has no longer ones
/// (`orm.Group.name`).
pub(super) const MAX_GROUP: usize = 255;

/// Who may log in. Without `allow_users` and `allow_groups` all users of the hub may. With both,
/// being in one of them is enough. Users in `deny_users` never may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// `allow_users`: users of the hub who may log in.
    pub allow_users: Vec<UserName>,
    /// `allow_groups`: groups of the hub whose members may log in.
    pub allow_groups: Vec<String>,
    /// `deny_users`: users of the hub who may not log in, whatever their groups.
    pub deny_users: Vec<UserName>,
    /// `server_tokens`: true if a token that the hub made for a server or a program logs its user
    /// in.
    pub server_tokens: bool,
}

/// Why a user of the hub may not log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// `deny_users` names the user.
    Denied,
    /// `allow_users` and `allow_groups` name neither the user nor one of the user's groups.
    NotListed,
    /// Only a group could let the user in, and the token may not read the user's groups.
    GroupsUnknown,
}

impl Login {
    /// Decides whether a user whom the hub has confirmed may log in. Pure.
    ///
    /// `user` is the name at the hub. `groups` are the user's groups there; `None` if the token may
    /// not read them.
    ///
    /// # Errors
    /// The user may not log in: why.
    pub fn judge(&self, user: &str, groups: Option<&[String]>) -> Result<(), NotAllowed> {
        // Most hubs make names lower-case, so a denied `Bob` is `bob` there. Rather deny too much.
        if self.deny_users.iter().any(|denied| denied.as_str().eq_ignore_ascii_case(user)) {
            return Err(NotAllowed::Denied);
        }
        let everybody = self.allow_users.is_empty() && self.allow_groups.is_empty();
        if everybody || self.allow_users.iter().any(|allowed| allowed.as_str() == user) {
            return Ok(());
        }
        match groups {
            _ if self.allow_groups.is_empty() => Err(NotAllowed::NotListed),
            None => Err(NotAllowed::GroupsUnknown),
            Some(groups) if self.allow_groups.iter().any(|group| groups.contains(group)) => Ok(()),
            Some(_) => Err(NotAllowed::NotListed),
        }
    }
}

impl NotAllowed {
    /// Two lines for the user: what happened, and what to do.
    #[must_use]
    pub fn for_user(self) -> &'static str {
        match self {
            Self::Denied | Self::NotListed => {
                "The hub knows you, but you may not log in to this host.\n\
                 Ask the administrator of this host; in the browser you can work as before."
            }
            Self::GroupsUnknown => {
                "Only members of certain groups may log in to this host, and this token cannot tell yours.\n\
                 Make one that has no scopes set, or has read:users:groups!user besides the others."
            }
        }
    }

    /// One line for the log.
    #[must_use]
    pub fn for_log(self) -> &'static str {
        match self {
            Self::Denied => "the user is in login.deny_users",
            Self::NotListed => {
                "the user is neither in login.allow_users nor a member of one of login.allow_groups"
            }
            Self::GroupsUnknown => {
                "login.allow_groups decides, but the hub doesn't tell this token the user's groups (scope \
                 read:users:groups!user)"
            }
        }
    }
}

/// Reads `[login]`.
///
/// # Errors
/// A value is not allowed.
pub(super) fn read(document: &Document<'_>) -> Result<Login, ConfigError> {
    let table = document.table("login", &KEYS)?;
    let groups = table.texts("allow_groups")?.unwrap_or_default();
    if let Some(wrong) = groups.iter().find(|name| !is_group_name(name)) {
        return Err(table.refuse(
            "allow_groups",
            format!("\"{}\" is not the name of a group", excerpt(wrong)),
            "Write the names as the hub has them, as in [\"course-1\", \"staff\"].",
        ));
    }
    Ok(Login {
        allow_users: users(&table, "allow_users")?,
        allow_groups: groups.into_iter().map(str::to_owned).collect(),
        deny_users: users(&table, "deny_users")?,
        server_tokens: table.boolean("server_tokens")?.unwrap_or(false),
    })
}

fn users(table: &Table<'_>, key: &str) -> Result<Vec<UserName>, ConfigError> {
    let name = |text: &str| {
        UserName::parse(text).map_err(|error| {
            table.refuse(
                key,
                format!("\"{}\" is not a name that a hub user can log in with: {error}", excerpt(text)),
                "Write the names as the hub has them, without a server, as in [\"alice\", \"bob@example.org\"].",
            )
        })
    };
    table.texts(key)?.unwrap_or_default().into_iter().map(name).collect()
}

/// True if a text can be the name of a group of the hub.
pub(super) fn is_group_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_GROUP && !text.contains(char::is_control)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Config;
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn login(keys: &str) -> Result<Login, ConfigError> {
        Config::from_str(&format!("[login]\n{keys}"), Path::new("config.toml")).map(|config| config.login)
    }

    fn judge(keys: &str, user: &str, groups: Option<&[&str]>) -> Result<(), NotAllowed> {
        let groups: Option<Vec<String>> =
            groups.map(|groups| groups.iter().map(|group| (*group).to_owned()).collect());
        login(keys).unwrap().judge(user, groups.as_deref())
    }

    #[test]
    fn who_may_log_in() {
        use NotAllowed::{Denied, GroupsUnknown, NotListed};
        const USERS: &str = "allow_users = ['alice', 'bob@example.org']";
        const GROUPS: &str = "allow_groups = ['staff', 'Lehre & Übung']";
        const BOTH: &str = "allow_users = ['alice']\nallow_groups = ['staff']";
        const DENY: &str = "deny_users = ['Mallory']";
        const ALL: &str =
            "allow_users = ['alice', 'mallory']\nallow_groups = ['staff']\ndeny_users = ['mallory']";
        for (keys, user, groups, verdict) in [
            ("", "alice", None, Ok(())),
            ("", "alice", Some(&[] as &[&str]), Ok(())),
            ("allow_users = []\nallow_groups = []", "alice", None, Ok(())),
            (USERS, "alice", None, Ok(())),
            (USERS, "bob@example.org", None, Ok(())),
            (USERS, "bob", None, Err(NotListed)),
            (USERS, "Alice", None, Err(NotListed)),
            (USERS, "alic", Some(&["alice"]), Err(NotListed)),
            (USERS, "", None, Err(NotListed)),
            (GROUPS, "alice", Some(&["x", "Lehre & Übung"]), Ok(())),
            (GROUPS, "alice", Some(&["Staff", "staff "]), Err(NotListed)),
            (GROUPS, "staff", Some(&[]), Err(NotListed)),
            (GROUPS, "alice", None, Err(GroupsUnknown)),
            (BOTH, "alice", None, Ok(())),
            (BOTH, "alice", Some(&[]), Ok(())),
            (BOTH, "bob", Some(&["staff"]), Ok(())),
            (BOTH, "bob", Some(&["alice"]), Err(NotListed)),
            (BOTH, "bob", None, Err(GroupsUnknown)),
            (DENY, "bob", None, Ok(())),
            (DENY, "mallory", None, Err(Denied)),
            (DENY, "Mallory", Some(&["staff"]), Err(Denied)),
            (ALL, "mallory", Some(&["staff"]), Err(Denied)),
            (ALL, "alice", None, Ok(())),
        ] {
            assert_eq!(judge(keys, user, groups), verdict, "{keys} {user} {groups:?}");
        }
    }

    #[test]
    fn tokens_of_servers_are_for_who_wants_them() {
        assert!(!login("").unwrap().server_tokens && login("server_tokens = true").unwrap().server_tokens);
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for refusal in [NotAllowed::Denied, NotAllowed::NotListed, NotAllowed::GroupsUnknown] {
            assert_eq!(refusal.for_user().lines().count(), 2, "{refusal:?}");
            assert_eq!(refusal.for_log().lines().count(), 1, "{refusal:?}");
        }
        let unknown = NotAllowed::GroupsUnknown;
        assert!(unknown.for_user().contains("read:users:groups!user") && unknown.for_log().contains("scope"));
        // Users are not told whether their names are on a list.
        assert_eq!(NotAllowed::Denied.for_user(), NotAllowed::NotListed.for_user());
    }

    #[test]
    fn faults_name_their_key_line_and_remedy() {
        const NAMES: &str = "Write the names as the hub has them";
        let long = format!("allow_groups = ['{}']", "a".repeat(MAX_GROUP + 1));
        for (keys, key, remedy) in [
            ("allow_users = 'alice'", "allow_users", "Write texts in double quotes"),
            ("allow_users = ['']", "allow_users", NAMES),
            ("allow_users = ['alice', '*']", "allow_users", NAMES),
            ("allow_users = ['alice+gpu']", "allow_users", NAMES),
            ("deny_users = ['../mallory']", "deny_users", NAMES),
            ("deny_users = [\"mallory\\n\"]", "deny_users", NAMES),
            ("allow_groups = [' ']", "allow_groups", NAMES),
            ("allow_groups = [\"a\\u0000\"]", "allow_groups", NAMES),
            (long.as_str(), "allow_groups", NAMES),
            ("server_tokens = 'no'", "server_tokens", "Write true or false"),
            ("allow_user = ['alice']", "allow_user", "Did you mean allow_users?"),
            ("deny_groups = ['x']", "deny_groups", "Known here: allow_users, allow_groups"),
        ] {
            let error = login(keys).unwrap_err();
            assert_eq!(error.key(), Some(format!("login.{key}").as_str()), "{keys}: {error}");
            assert_eq!(error.place().map(|place| place.line), Some(2), "{keys}");
            assert!(error.remedy().starts_with(remedy), "{keys}: {error}");
            assert_eq!(error.to_string().lines().count(), 2, "{keys}: {error}");
        }
    }

    proptest! {
        /// Only users whom the lists allow get in, with any name and any groups.
        #[test]
        fn nobody_but_those_named(user in "[a-zA-Z@._-]{0,8}", groups in proptest::option::of(proptest::collection::vec("[a-z]{1,3}", 0..4))) {
            let login = login("allow_users = ['alice']\nallow_groups = ['ab']\ndeny_users = ['bob']").unwrap();
            let member = groups.iter().flatten().any(|group| group == "ab");
            let expected = (user == "alice" || member) && !user.eq_ignore_ascii_case("bob");
            prop_assert_eq!(login.judge(&user, groups.as_deref()).is_ok(), expected);
        }
    }
}
