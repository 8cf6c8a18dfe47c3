//! `[[shares]]`: directories of this host that users see besides their homes.

use super::Backend;
use super::login::is_group_name;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::ConfigError;
use common::homes::{self, Homes, Relation, ShownPath};
use common::table::{Document, Table};

/// Most shares: each is mounted for every connection.
const MAX_SHARES: usize = 64;
/// Most groups of one share.
const MAX_GROUPS: usize = 64;
/// Longest list of the groups of all shares as JSON, in bytes. The gateway tells the jail in one
/// message which of them the user is in.
const MAX_LIST: usize = wire::MAX_MESSAGE - 1024;

/// A directory that several users share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// `source`: the directory on this host, an absolute path.
    pub source: PathBuf,
    /// `path`: where users see it, an absolute path outside of the home.
    pub path: PathBuf,
    /// `writable`: true if users may change files there, as far as the file system allows it; false
    /// if it is mounted read-only.
    pub writable: bool,
    /// `groups`: the hub's groups whose members see it; empty if all users do.
    pub groups: Vec<String>,
}

impl Share {
    /// True if a user in these groups of the hub sees the share.
    #[must_use]
    pub fn is_for(&self, groups: &[String]) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| groups.contains(group))
    }
}

/// Reads the shares, in their order.
///
/// # Errors
/// A value is not allowed, a share would cover another share or the home, or this host has no
/// `homes` or doesn't serve them.
pub(super) fn read(
    document: &Document<'_>,
    homes: Option<&Homes>,
    backend: Backend,
) -> Result<Vec<Share>, ConfigError> {
    let tables = document.tables("shares", &["source", "path", "writable", "groups"])?;
    if let Some(extra) = tables.get(MAX_SHARES) {
        return Err(extra.refuse(
            "source",
            format!("there are more than {MAX_SHARES} shares"),
            "Share a directory that contains several of them.",
        ));
    }
    let mut shares: Vec<Share> = Vec::new();
    for table in &tables {
        let share = read_one(table)?;
        let Some(homes) = homes else {
            return Err(table.refuse(
                "source",
                "shares are shown beside the homes of this host, but homes.root is not set",
                "Set root in [homes] to the directory of the homes, or remove the share.",
            ));
        };
        if backend == Backend::Server {
            return Err(table.refuse(
                "source",
                "shares are shown beside the homes of this host, but files.backend is \"server\"",
                "Set backend in [files] to \"auto\", or remove the share.",
            ));
        }
        check(table, &share, homes)?;
        if shares.iter().any(|other| overlap(&other.path, &share.path)) {
            return Err(table.refuse(
                "path",
                "another share is shown there",
                "Give each share a path of its own, none beneath another.",
            ));
        }
        shares.push(share);
        if list_of_groups(&shares) > MAX_LIST {
            return Err(table.refuse(
                "groups",
                "all shares together name too many groups",
                "Make a group on the hub that has the members of several, and name that.",
            ));
        }
    }
    for (table, share) in tables.iter().zip(&shares) {
        check_writers(table, share, &shares, homes)?;
    }
    Ok(shares)
}

/// Refuses writable shares in which users could replace what root opens: by a link, or by files of
/// their own.
fn check_writers(
    table: &Table<'_>,
    share: &Share,
    all: &[Share],
    homes: Option<&Homes>,
) -> Result<(), ConfigError> {
    let beneath = |path: &Path, other: &Share| {
        other.writable && path != other.source && path.starts_with(&other.source)
    };
    if all.iter().any(|other| beneath(&share.source, other)) {
        return Err(table.refuse(
            "source",
            "this lies in the source of a writable share, whose users could replace it",
            "Move one of the two directories out of the other, or set writable = false in that other share.",
        ));
    }
    if homes.is_some_and(|homes| beneath(&homes.root, share)) {
        return Err(table.refuse(
            "source",
            "homes.root lies in this directory, and the users of a writable share could replace it",
            "Set writable = false, or share another directory.",
        ));
    }
    let skeleton = homes.and_then(|homes| homes.create.as_ref()?.skeleton.as_deref());
    // Nor a share above it: root reads the skeleton and would read what users put there.
    if share.writable && skeleton.is_some_and(|skeleton| overlap(skeleton, &share.source)) {
        return Err(table.refuse(
            "source",
            "the users of a writable share could change homes.skeleton, which becomes part of new homes",
            "Set writable = false, or use a skeleton that only root can change, such as /etc/skel.",
        ));
    }
    Ok(())
}

/// The length of the list of all groups as JSON, in bytes. Each group counts once.
fn list_of_groups(shares: &[Share]) -> usize {
    let groups: BTreeSet<&String> = shares.iter().flat_map(|share| &share.groups).collect();
    serde_json::to_string(&groups).map_or(usize::MAX, |list| list.len())
}

fn read_one(table: &Table<'_>) -> Result<Share, ConfigError> {
    let missing = |key: &str| table.refuse(key, "it is not set", "Every share needs a source and a path.");
    let source = homes::directory(table, "source")?.ok_or_else(|| missing("source"))?;
    let path = ShownPath::parse(table.text("path")?.ok_or_else(|| missing("path"))?)
        .and_then(|path| path.constant().ok_or_else(|| "a share has the same path for all users".to_owned()))
        .map_err(|problem| table.refuse("path", problem, "Use a path such as /shared/data."))?;
    let groups = table.texts("groups")?.unwrap_or_default();
    if groups.len() > MAX_GROUPS || !groups.iter().all(|name| is_group_name(name)) {
        return Err(table.refuse(
            "groups",
            format!("these are not up to {MAX_GROUPS} names of groups"),
            "Write the names as the hub has them, as in [\"course-1\", \"staff\"]; [] means everybody.",
        ));
    }
    Ok(Share {
        source,
        path,
        writable: table.boolean("writable")?.unwrap_or(false),
        groups: groups.into_iter().map(str::to_owned).collect(),
    })
}

/// Refuses a share that overlaps with the homes, on this host or in the jail.
fn check(table: &Table<'_>, share: &Share, homes: &Homes) -> Result<(), ConfigError> {
    match homes.relation(&share.source) {
        // A user could replace it by a link to anywhere.
        Relation::Inside => Err(table.refuse(
            "source",
            "this lies in what may be a user's home",
            "Move the directory out of the homes: what leads to it must be under root's control.",
        )),
        // Users who share a uid could read each other's files there. That may be right for a group
        // of teachers, but not for all users.
        Relation::Above | Relation::Home if share.groups.is_empty() => Err(table.refuse(
            "source",
            "everybody would see what may be the homes of others",
            "Set groups to those who may, or share another directory.",
        )),
        _ if homes.path.meets(&share.path) => Err(table.refuse(
            "path",
            "sessions may see their home there",
            "Use a path that is neither above nor beneath homes.path, such as /shared/data.",
        )),
        _ => Ok(()),
    }
}

/// True if one path lies beneath the other, or both are the same.
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Config;
    use super::*;
    use proptest::prelude::*;

    fn shares(text: &str) -> Result<Vec<Share>, ConfigError> {
        let text = format!("{text}\n[homes]\nroot = '/srv/homes'");
        Config::from_str(&text, Path::new("config.toml")).map(|config| config.shares)
    }

    fn share(source: &str, path: &str, more: &str) -> String {
        format!("[[shares]]\nsource = '{source}'\npath = '{path}'\n{more}\n")
    }

    #[test]
    fn every_key_is_read_in_order() {
        let text = share("/srv/data/", "/shared/data", "")
            + &share(
                "/srv/course",
                "/shared/course",
                "writable = true\ngroups = ['course-1', 'Lehre & Übung']",
            );
        let found = shares(&text).unwrap();
        let expected = Share {
            source: "/srv/data".into(),
            path: "/shared/data".into(),
            writable: false,
            groups: Vec::new(),
        };
        assert_eq!(found[0], expected);
        assert_eq!((found[1].writable, found[1].groups.len()), (true, 2));
        assert!(found[0].is_for(&[]));
        assert!(!found[1].is_for(&[]) && !found[1].is_for(&["course-2".to_owned()]));
        assert!(found[1].is_for(&["x".to_owned(), "course-1".to_owned()]));
        assert_eq!(shares("").unwrap(), []);
    }

    #[test]
    fn faults_name_their_key_line_and_remedy() {
        const PATH: &str = "Use a path such as /shared/data.";
        const GROUPS: &str = "Write the names as the hub has them";
        const HOME: &str = "Use a path that is neither above nor beneath homes.path";
        let long = format!("groups = ['{}']", "a".repeat(crate::config::login::MAX_GROUP + 1));
        let many = format!("groups = [{}]", "'a',".repeat(MAX_GROUPS + 1));
        for (source, path, more, line, key, remedy) in [
            ("data", "/shared", "", 2, "source", "Write the whole path"),
            ("/", "/shared", "", 2, "source", "Write the whole path"),
            ("/srv/../x", "/shared", "", 2, "source", "Write the whole path"),
            ("/proc", "/shared", "", 2, "source", "Use a directory outside of"),
            ("/data", "shared", "", 3, "path", PATH),
            ("/data", "/", "", 3, "path", PATH),
            ("/data", "/shared/", "", 3, "path", PATH),
            ("/data", "/shared/../etc", "", 3, "path", PATH),
            ("/data", "/usr/share/data", "", 3, "path", PATH),
            ("/data", "/tmp", "", 3, "path", PATH),
            ("/data", "/shared/{username}", "", 3, "path", PATH),
            ("/data", "/shared/{x}", "", 3, "path", PATH),
            ("/data", "/home", "", 3, "path", HOME),
            ("/data", "/home/shared", "", 3, "path", HOME),
            ("/data", "/home/alice/data", "", 3, "path", HOME),
            ("/srv", "/all", "", 2, "source", "Set groups to those who may"),
            ("/srv/homes", "/all", "groups = []", 2, "source", "Set groups to those who may"),
            ("/srv/homes/shared", "/shared", "", 2, "source", "Set groups to those who may"),
            ("/srv/homes/a/b", "/b", "groups = ['x']", 2, "source", "Move the directory out of the homes"),
            ("/data", "/shared", "writable = 'no'", 4, "writable", "Write true or false"),
            ("/data", "/shared", "writeable = true", 4, "writeable", "Did you mean writable?"),
            ("/data", "/shared", "groups = 'staff'", 4, "groups", "Write texts in double quotes"),
            ("/data", "/shared", "groups = ['']", 4, "groups", GROUPS),
            ("/data", "/shared", "groups = [' ']", 4, "groups", GROUPS),
            ("/data", "/shared", "groups = [\"a\\nb\"]", 4, "groups", GROUPS),
            ("/data", "/shared", long.as_str(), 4, "groups", GROUPS),
            ("/data", "/shared", many.as_str(), 4, "groups", GROUPS),
        ] {
            let text = share(source, path, more);
            let error = shares(&text).unwrap_err();
            assert_eq!(error.key(), Some(format!("shares.{key}").as_str()), "{text}");
            assert_eq!(error.place().map(|place| place.line), Some(line), "{text}");
            assert!(error.remedy().starts_with(remedy), "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 2, "{text}: {error}");
        }
        for text in ["[[shares]]\nsource = '/data'", "[[shares]]\npath = '/shared'", "[[shares]]"] {
            let error = shares(text).unwrap_err();
            assert_eq!((error.place().unwrap().line, error.problem()), (1, "it is not set"), "{text}");
        }
        assert!(shares("[shares]\nsource = '/data'").unwrap_err().remedy().contains("[[shares]]"));
    }

    #[test]
    fn what_root_opens_is_not_where_users_write() {
        let [plain, writable] = ["", "writable = true"];
        for (a, how_a, b, how_b, refused) in [
            ("/data", plain, "/data/inner", writable, None),
            ("/data", writable, "/data2/inner", plain, None),
            ("/data", writable, "/data", plain, None),
            ("/data", writable, "/data/inner", plain, Some(7)),
            ("/data/a/inner", writable, "/data", writable, Some(2)),
        ] {
            let text = share(a, "/shared/a", how_a) + "\n" + &share(b, "/shared/b", how_b);
            let error = shares(&text).err();
            assert_eq!(error.as_ref().map(|error| error.place().unwrap().line), refused, "{text}: {error:?}");
            if let Some(error) = error {
                assert_eq!(error.key(), Some("shares.source"));
                assert!(error.problem().contains("could replace it"), "{error}");
            }
        }
        let homes = "[homes]\nroot = '/srv/homes'\nmissing = 'create'\nskeleton = '/data/skel'\n";
        for (source, more, problem) in [
            ("/srv", "groups = ['staff']", None),
            ("/srv", "groups = ['staff']\nwritable = true", Some("homes.root lies in this directory")),
            ("/srv/homes", "groups = ['staff']\nwritable = true", None),
            ("/data", "", None),
            ("/data", "writable = true", Some("homes.skeleton")),
            ("/data/skel", "writable = true", Some("homes.skeleton")),
            ("/data/skel/a", "writable = true", Some("homes.skeleton")),
            ("/data/other", "writable = true", None),
        ] {
            let text = share(source, "/shared", more) + homes;
            let error = Config::from_str(&text, Path::new("config.toml")).err();
            assert_eq!(error.is_some(), problem.is_some(), "{text}: {error:?}");
            for (error, problem) in error.iter().zip(problem) {
                assert_eq!((error.key(), error.place().unwrap().line), (Some("shares.source"), 2));
                assert!(error.problem().contains(problem), "{error}");
            }
        }
    }

    #[test]
    fn those_who_may_see_homes_are_named() {
        for source in ["/srv", "/srv/homes", "/srv/homes/shared"] {
            assert!(shares(&share(source, "/students", "groups = ['teachers']")).is_ok(), "{source}");
        }
        assert!(shares(&share("/srv/homes2", "/shared", "")).is_ok());
        // Where no home can be, no group is needed.
        for source in ["/srv/homes/shared", "/srv/homes/shared/a/b"] {
            let text = share(source, "/home/shared", "")
                + "[homes]\nroot = '/srv/homes'\ntemplate = 'students/{username}'\npath = '/home/jovyan'";
            assert!(Config::from_str(&text, Path::new("config.toml")).is_ok(), "{source}");
        }
    }

    #[test]
    fn no_share_is_shown_in_another() {
        for (a, b, good) in [
            ("/shared/a", "/shared/b", true),
            ("/shared/a", "/shared/ab", true),
            ("/shared", "/shared", false),
            ("/shared", "/shared/b", false),
            ("/shared/a/b", "/shared/a", false),
        ] {
            let found = shares(&(share("/x", a, "") + &share("/x", b, "")));
            assert_eq!(found.is_ok(), good, "{a} {b}");
            if let Err(error) = found {
                assert_eq!((error.key(), error.place().unwrap().line), (Some("shares.path"), 7), "{error}");
            }
        }
    }

    #[test]
    fn their_number_is_bounded() {
        let text = |count: usize| {
            (0..count).map(|number| share("/data", &format!("/shared/{number}"), "")).collect::<String>()
        };
        assert_eq!(shares(&text(MAX_SHARES)).unwrap().len(), MAX_SHARES);
        assert!(shares(&text(MAX_SHARES + 1)).unwrap_err().problem().contains("more than 64"));
    }

    #[test]
    fn the_groups_of_all_shares_fit_a_message() {
        let groups = |share: usize, size: usize| {
            let names = (0..MAX_GROUPS).map(|number| format!("'{share}-{number}{}',", "\"".repeat(size)));
            format!("groups = [{}]", names.collect::<String>())
        };
        let text = |size| -> String {
            (0..8).map(|number| share("/data", &format!("/shared/{number}"), &groups(number, size))).collect()
        };
        assert!(shares(&text(4)).is_ok());
        let error = shares(&text(100)).unwrap_err();
        assert_eq!((error.key(), error.place().unwrap().line), (Some("shares.groups"), 8), "{error}");
        let same: String =
            (0..8).map(|number| share("/data", &format!("/shared/{number}"), &groups(0, 50))).collect();
        assert!(shares(&same).is_ok(), "a name counts once");
    }

    #[test]
    fn a_share_needs_homes() {
        let error = Config::from_str(&share("/data", "/shared", ""), Path::new("config.toml")).unwrap_err();
        assert_eq!(error.key(), Some("shares.source"));
        assert!(error.remedy().starts_with("Set root in [homes]"), "{error}");
        let text =
            share("/data", "/shared", "") + "[homes]\nroot = '/srv/homes'\n[files]\nbackend = 'server'";
        let error = Config::from_str(&text, Path::new("config.toml")).unwrap_err();
        assert_eq!(error.key(), Some("shares.source"));
        assert!(error.remedy().starts_with("Set backend in [files]"), "{error}");
    }

    proptest! {
        #[test]
        fn a_share_that_is_taken_stays_out_of_the_way(source in "(/(srv|homes|data|[a-z.])){0,4}", path in "(/(home|usr|shared|[a-z.{}])){0,4}/?|\\PC{0,20}") {
            if let Ok(found) = shares(&share(&source, &path, "")) {
                prop_assert!(!found[0].path.starts_with("/home") && !found[0].path.starts_with("/usr"));
                prop_assert!(!found[0].source.starts_with("/srv/homes") && !Path::new("/srv/homes").starts_with(&found[0].source));
            }
        }
    }
}
