//! The configuration's `[homes]`: where homes are on this host, where sessions see them, what to do
//! if one is missing.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use crate::error::{ConfigError, excerpt};
use crate::names::UserName;
use crate::table::Table;
use crate::template::{Template, TemplateError};
use crate::uid::{ALLOWED, Ids, Rule};

/// The keys of `[homes]`.
pub const KEYS: &[&str] = &["root", "template", "path", "missing", "owner", "mode", "skeleton", "quota"];

/// The directories below `/` under which neither a home nor a share is shown.
///
/// A session has other things there, or the host needs them.
const RESERVED: [&str; 16] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys",
    "tmp", "usr", "var",
];

/// Largest limit of a quota, in bytes: larger than any file system, and far from overflowing
/// counters.
const MAX_LIMIT: u64 = 1 << 60;

/// The homes of hub users on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes {
    /// `root`: absolute, without `.` or `..`, not `/`.
    pub root: PathBuf,
    /// `template`: the path of a user's home beneath `root`.
    pub template: Template,
    /// `path`: where a session sees its home.
    pub path: ShownPath,
    /// `missing`, with the keys that say how to create one; `None` if a missing home is not
    /// created.
    pub create: Option<Create>,
}

/// How a missing home is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// `owner`: the new home's owner and group; `None`: the account's own uid and gid.
    pub owner: Option<Ids>,
    /// `mode`: permission bits, at most 0o7777.
    pub mode: u32,
    /// `skeleton`: a directory whose content is copied into the new home.
    pub skeleton: Option<PathBuf>,
    /// `quota`: the new home's limits.
    pub quota: Option<Quota>,
}

/// Limits of a home's size, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit that may be exceeded for the file system's grace time; at most `hard`.
    pub soft: u64,
    /// The limit that is never exceeded.
    pub hard: u64,
}

/// Where a session sees its home: an absolute path, with placeholders as in [`Template`] or without
/// any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPath(Template);

/// Where a directory of this host lies in relation to the homes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It contains no home and lies in none.
    Apart,
    /// It contains homes.
    Above,
    /// It is where some user's home would be.
    Home,
    /// It lies in some user's home, so that user controls where its path leads.
    Inside,
}

impl Homes {
    /// Compares the path of a directory, absolute and without `.` or `..`, with those of the homes.
    pub fn relation(&self, directory: &Path) -> Relation {
        match directory.strip_prefix(&self.root).map(|relative| self.template.compare(relative)) {
            Err(_) if self.root.starts_with(directory) => Relation::Above,
            Err(_) | Ok(None) => Relation::Apart,
            Ok(Some(Ordering::Less)) => Relation::Above,
            Ok(Some(Ordering::Equal)) => Relation::Home,
            Ok(Some(Ordering::Greater)) => Relation::Inside,
        }
    }
}

impl ShownPath {
    /// Parses a path such as `/home/{username}` or `/home/jovyan`.
    ///
    /// # Errors
    /// The message says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err("the path is not absolute".to_owned());
        };
        let first = relative.split('/').next().unwrap_or_default();
        // Sessions don't see the host's own directory of that name, and the name is the same for
        // all.
        if first.contains(['{', '}']) {
            return Err("the first component must be the same for all users".to_owned());
        }
        if RESERVED.contains(&first) {
            return Err(format!("/{first} cannot be shown to users: sessions have something else there"));
        }
        // It becomes a field of passwd(5).
        if relative.contains(':') {
            return Err("':' is not allowed".to_owned());
        }
        Template::parse_shared(relative).map(Self).map_err(|error| match error {
            TemplateError::Component => "a component of the path is empty, '.' or '..'".to_owned(),
            other => other.to_string(),
        })
    }

    /// The absolute path for a user.
    ///
    /// # Errors
    /// It would be too long.
    pub(crate) fn expand(&self, user: &UserName) -> Result<String, TemplateError> {
        self.0.expand(user).map(|path| format!("/{path}"))
    }

    /// The path, if it is the same for all users.
    pub fn constant(&self) -> Option<PathBuf> {
        let text = self.0.as_str();
        (!text.contains('{')).then(|| Path::new("/").join(text))
    }

    /// True if `path`, absolute and without `.` or `..`, is some user's home as sessions see it,
    /// above it, or beneath it.
    pub fn meets(&self, path: &Path) -> bool {
        self.0.compare(path.strip_prefix("/").unwrap_or(path)).is_some()
    }
}

/// Reads `[homes]`; `None` if `root` is unset, which means that this host has no homes.
///
/// All keys are checked, even if `root` is unset or missing homes are not created: so one key
/// switches creation off and on.
///
/// # Errors
/// A value is not allowed.
pub(crate) fn read(table: &Table<'_>) -> Result<Option<Homes>, ConfigError> {
    let root = directory(table, "root")?;
    let template = Template::parse(table.text("template")?.unwrap_or("{username}")).map_err(|error| {
        table.refuse("template", error.to_string(), "Use a path such as {username} or students/{escaped}.")
    })?;
    let path = ShownPath::parse(table.text("path")?.unwrap_or("/home/{username}")).map_err(|problem| {
        table.refuse("path", problem, "Use a path such as /home/{username} or /home/jovyan.")
    })?;
    let create = read_create(table)?;
    let create = match table.text("missing")?.unwrap_or("refuse") {
        "create" => Some(create),
        "refuse" => None,
        other => {
            return Err(table.refuse(
                "missing",
                format!("\"{}\" is not what can be done about a missing home", excerpt(other)),
                "Use \"refuse\" or \"create\".",
            ));
        }
    };
    let homes = root.map(|root| Homes { root, template, path, create });
    if let Some(homes) = &homes {
        check_skeleton(table, homes)?;
    }
    Ok(homes)
}

/// Checks that homes are created for the uid of the user's account.
///
/// # Errors
/// `owner` is another uid, so sessions would not be given the home.
pub(crate) fn check_owner(table: &Table<'_>, homes: Option<&Homes>, rule: Rule) -> Result<(), ConfigError> {
    let create = homes.and_then(|homes| homes.create.as_ref());
    let Some(owner) = create.and_then(|create| create.owner) else { return Ok(()) };
    let problem = match rule {
        Rule::Home => return Ok(()),
        Rule::Fixed(ids) if ids.uid() == owner.uid() => return Ok(()),
        Rule::Fixed(ids) => {
            format!("users have uid {} and cannot use homes of uid {}", ids.uid(), owner.uid())
        }
        Rule::Hash(_) => {
            format!("users have a uid each (\"hash\") and cannot use homes of uid {}", owner.uid())
        }
    };
    Err(table.refuse(
        "owner",
        problem,
        "Remove it: a home then belongs to its user. Or set uid in [accounts] to \"home\".",
    ))
}

/// Reads the path of a directory that users may see, which must not lie in /dev, /proc or /sys.
///
/// # Errors
/// The value is not such a path.
pub fn directory(table: &Table<'_>, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];
    match table.path(key)? {
        Some(path) if KERNEL.iter().any(|kernel| path.starts_with(kernel)) => Err(table.refuse(
            key,
            "there are no files of users in this directory",
            "Use a directory outside of /dev, /proc and /sys.",
        )),
        path => Ok(path),
    }
}

fn read_create(table: &Table<'_>) -> Result<Create, ConfigError> {
    let owner = match table.pair("owner")? {
        Some((uid, gid)) => {
            Some(Ids::new(uid, gid).map_err(|error| table.refuse("owner", error.to_string(), ALLOWED))?)
        }
        None => None,
    };
    let mode = table.mode("mode", 0o7777)?.unwrap_or(0o700);
    if mode & 0o700 != 0o700 {
        return Err(table.refuse(
            "mode",
            "the owner could not use a home with this mode",
            "Allow the owner everything, as in \"0700\" or \"2770\".",
        ));
    }
    let quota = match table.texts("quota")? {
        None => None,
        Some(texts) => Some(read_quota(table, &texts)?),
    };
    Ok(Create { owner, mode, skeleton: directory(table, "skeleton")?, quota })
}

/// Checks that `skeleton` neither is under the control of a user nor contains homes.
fn check_skeleton(table: &Table<'_>, homes: &Homes) -> Result<(), ConfigError> {
    let skeleton = homes.create.as_ref().and_then(|create| create.skeleton.as_deref());
    match skeleton.map(|skeleton| homes.relation(skeleton)) {
        None | Some(Relation::Apart) => Ok(()),
        Some(_) => Err(table.refuse(
            "skeleton",
            "the directory is that of users' homes, lies in one of them, or contains them",
            "Use a directory that only root can change, such as /etc/skel.",
        )),
    }
}

fn read_quota(table: &Table<'_>, texts: &[&str]) -> Result<Quota, ConfigError> {
    let sizes: Option<Vec<u64>> = texts.iter().map(|text| size(text)).collect();
    match sizes.as_deref() {
        Some(&[soft, hard]) if 0 < soft && soft <= hard => Ok(Quota { soft, hard }),
        _ => Err(table.refuse(
            "quota",
            "this is not a soft and a hard limit",
            "Write two sizes, the lower one first, as in [\"1G\", \"2G\"]; the units are K, M, G and T.",
        )),
    }
}

/// Parses a size such as `500M`: a number and a unit of 1024, 1024², … bytes.
fn size(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    // FromStr would accept a leading +.
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes < MAX_LIMIT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::settings::Settings;
    use proptest::prelude::*;

    fn homes(text: &str) -> Homes {
        Settings::parse(&format!("[homes]\n{text}")).unwrap().homes.unwrap()
    }

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[test]
    fn a_root_is_all_that_is_needed() {
        let homes = homes("root = '/srv/homes/'");
        assert_eq!(homes.root, Path::new("/srv/homes"));
        assert_eq!(homes.template.as_str(), "{username}");
        assert_eq!(homes.path.expand(&user("alice@example.org")).unwrap(), "/home/alice@example.org");
        assert_eq!(homes.create, None);
    }

    #[test]
    fn every_key_is_read() {
        let text = "root = '/srv/homes'\ntemplate = 'students/{escaped}'\npath = '/home/jovyan'\n\
                    missing = 'create'\nmode = '2770'\nskeleton = '/etc/skel'\nquota = ['500M', '2T']";
        let found = homes(text);
        assert_eq!(found.template.as_str(), "students/{escaped}");
        assert_eq!(found.path.expand(&user("alice")).unwrap(), "/home/jovyan");
        let expected = Create {
            owner: None,
            mode: 0o2770,
            skeleton: Some("/etc/skel".into()),
            quota: Some(Quota { soft: 500 << 20, hard: 2 << 40 }),
        };
        assert_eq!(found.create, Some(expected));
        let defaults = homes("root = '/srv/homes'\nmissing = 'create'").create.unwrap();
        assert_eq!(defaults, Create { owner: None, mode: 0o700, skeleton: None, quota: None });
        let off = text.replace("create", "refuse");
        assert_eq!(homes(&off).create, None, "creation is switched off by one key");
        assert_eq!(homes(&off.replace("missing = 'refuse'", "")).create, None);
    }

    #[test]
    fn the_account_has_the_home_where_the_session_sees_it() {
        let dir = |text: &str, name: &str| Settings::parse(text).unwrap().home_dir(&user(name));
        assert_eq!(dir("", "alice").unwrap(), "/home/alice");
        let text = "[homes]\nroot = '/srv'\npath = '/home/{escaped}'";
        assert_eq!(dir(text, "a@b").unwrap(), "/home/a-40b");
        assert_eq!(dir(text, &"A".repeat(128)), Err(TemplateError::TooLong));
    }

    #[test]
    fn an_owner_is_the_uid_of_the_account() {
        let read = |accounts: &str, homes: &str| {
            Settings::parse(&format!("[accounts]\n{accounts}\n[homes]\nroot = '/srv'\n{homes}"))
        };
        let owned = "missing = 'create'\nowner = [1000, 100]";
        let create = read("uid = 'home'", owned).unwrap().homes.unwrap().create.unwrap();
        assert_eq!(create.owner, Some(Ids::new(1000, 100).unwrap()));
        assert!(read("uid = 'fixed'\nfixed = [1000, 1000]", owned).is_ok());
        assert!(read("uid = 'hash'", "missing = 'create'").is_ok());
        assert!(read("uid = 'hash'", "owner = [1000, 100]").is_ok(), "no effect");
        for (accounts, problem) in [
            ("uid = 'hash'", "users have a uid each (\"hash\") and cannot use homes of uid 1000"),
            ("uid = 'fixed'\nfixed = [2000, 100]", "users have uid 2000 and cannot use homes of uid 1000"),
        ] {
            let error = read(accounts, owned).unwrap_err();
            assert_eq!((error.key(), error.problem()), (Some("homes.owner"), problem));
            assert!(error.remedy().starts_with("Remove it: "), "{error}");
        }
        assert!(read("", owned).is_ok(), "\"home\" is the rule where there are homes");
        assert!(read("uid = 'home'", "missing = 'create'").is_ok(), "the uid is computed");
    }

    #[test]
    fn faults_name_their_key_line_and_remedy() {
        const PATH: &str = "Use a path such as /home/{username} or /home/jovyan.";
        const TEMPLATE: &str = "Use a path such as {username}";
        const MODE: &str = "Write three or four octal digits";
        const QUOTA: &str = "Write two sizes";
        const SKELETON: &str = "Use a directory that only root can change";
        for (line, key, problem, remedy) in [
            ("root = 'srv'", "root", "the path is not absolute", "Write the whole path"),
            ("root = '/srv/../etc'", "root", "the path is not absolute", "Write the whole path"),
            ("root = '/proc/1/root'", "root", "there are no files of users", "Use a directory outside of"),
            ("root = '/dev/shm'", "root", "there are no files of users", "Use a directory outside of"),
            ("root = 5", "root", "the value is not a text", "Put the value in double quotes."),
            ("roots = ''", "roots", "unknown key in [homes]", "Did you mean root?"),
            ("template = 'all'", "template", "there is no placeholder", TEMPLATE),
            ("template = '/{username}'", "template", "the path is absolute", TEMPLATE),
            ("template = '{home}'", "template", "braces hold something other", TEMPLATE),
            ("path = 'home/{username}'", "path", "the path is not absolute", PATH),
            ("path = ''", "path", "the path is not absolute", PATH),
            ("path = '/'", "path", "a component of the path is empty", PATH),
            ("path = '//home'", "path", "a component of the path is empty", PATH),
            ("path = '/home/'", "path", "a component of the path is empty", PATH),
            ("path = '/home/../etc'", "path", "a component of the path is empty", PATH),
            ("path = '/../etc/{username}'", "path", "a component of the path is empty", PATH),
            ("path = '/{username}'", "path", "the first component must be the same", PATH),
            ("path = '/home-{username}/x'", "path", "the first component must be the same", PATH),
            ("path = '/usr/{username}'", "path", "/usr cannot be shown to users", PATH),
            ("path = '/etc'", "path", "/etc cannot be shown to users", PATH),
            ("path = '/home/{user}'", "path", "braces hold something other", PATH),
            ("path = '/home/a:{username}'", "path", "':' is not allowed", PATH),
            ("path = \"/home/\\n{username}\"", "path", "'\\n' is not allowed", PATH),
            (
                "missing = 'make'",
                "missing",
                "\"make\" is not what can be done",
                "Use \"refuse\" or \"create\".",
            ),
            ("missing = true", "missing", "the value is not a text", "Put the value in double quotes."),
            ("owner = [1000]", "owner", "the value is not a pair of numbers", "Write two numbers"),
            ("owner = [0, 0]", "owner", "uid 0 is below 1000", "Use ids from 1000"),
            ("owner = [1000, 27]", "owner", "gid 27 is below 1000", "Use ids from 1000"),
            ("mode = 700", "mode", "the value is not a text", "Put the value in double quotes."),
            ("mode = ''", "mode", "the value is not a mode", MODE),
            ("mode = '07000'", "mode", "the value is not a mode", MODE),
            ("mode = '0o70'", "mode", "the value is not a mode", MODE),
            ("mode = '0800'", "mode", "the value is not a mode", MODE),
            ("mode = '+700'", "mode", "the value is not a mode", MODE),
            ("mode = '0500'", "mode", "the owner could not use", "Allow the owner everything"),
            ("skeleton = 'skel'", "skeleton", "the path is not absolute", "Write the whole path"),
            ("skeleton = '/proc'", "skeleton", "there are no files of users", "Use a directory outside of"),
            ("quota = '1G'", "quota", "the value is not a list of texts", "Write texts in double quotes"),
            ("quota = [1, 2]", "quota", "the value is not a list of texts", "Write texts in double quotes"),
            ("quota = []", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['1G']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['1G', '2G', '3G']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['2G', '1G']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['0K', '1G']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['1', '2']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['G', '2G']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['-1G', '+2G']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['1GiB', '2g']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['1ä', '2ä']", "quota", "this is not a soft and a hard limit", QUOTA),
            ("quota = ['1M', '9999999999T']", "quota", "this is not a soft and a hard limit", QUOTA),
            (
                "skeleton = '/srv'\nroot = '/srv/h'\nmissing = 'create'",
                "skeleton",
                "the directory is",
                SKELETON,
            ),
            (
                "skeleton = '/srv/h/a'\nroot = '/srv/h'\nmissing = 'create'",
                "skeleton",
                "the directory",
                SKELETON,
            ),
        ] {
            let error = match Settings::parse(&format!("[homes]\n{line}\n")) {
                Err(error) => error,
                Ok(settings) => panic!("{line}: {settings:?}"),
            };
            assert_eq!(error.key(), Some(format!("homes.{key}").as_str()), "{line}");
            assert_eq!(error.place().map(|place| place.line), Some(2), "{line}");
            assert!(error.problem().starts_with(problem), "{line}: {error}");
            assert!(error.remedy().starts_with(remedy), "{line}: {error}");
            assert_eq!(error.to_string().lines().count(), 2, "{line}: {error}");
        }
    }

    #[test]
    fn directories_are_apart_from_the_homes_or_not() {
        let homes = homes("root = '/srv/homes'\ntemplate = 'students/{username}/work'");
        for (directory, expected) in [
            ("/srv", Relation::Above),
            ("/srv/homes", Relation::Above),
            ("/srv/homes/students", Relation::Above),
            ("/srv/homes/students/bob", Relation::Above),
            ("/srv/homes/students/bob/work", Relation::Home),
            ("/srv/homes/students/bob/work/x", Relation::Inside),
            ("/srv/homes/students/bob/public", Relation::Apart),
            ("/srv/homes/shared", Relation::Apart),
            ("/srv/homes2", Relation::Apart),
            ("/data", Relation::Apart),
        ] {
            assert_eq!(homes.relation(Path::new(directory)), expected, "{directory}");
        }
    }

    #[test]
    fn a_path_of_a_session_meets_a_home_or_not() {
        let meets = |shown: &str, path: &str| ShownPath::parse(shown).unwrap().meets(Path::new(path));
        for path in ["/home", "/home/shared", "/home/bob/x"] {
            assert!(meets("/home/{username}", path), "{path}");
        }
        for path in ["/shared", "/homes", "/shared/home/bob"] {
            assert!(!meets("/home/{username}", path), "{path}");
        }
        assert!(meets("/home/jovyan", "/home/jovyan/data"));
        assert!(!meets("/home/jovyan", "/home/shared"));
        assert_eq!(ShownPath::parse("/home/jovyan").unwrap().constant().unwrap(), Path::new("/home/jovyan"));
        assert_eq!(ShownPath::parse("/home/{slug}").unwrap().constant(), None);
    }

    proptest! {
        #[test]
        fn a_shown_path_is_absolute_plain_and_out_of_the_way(
            text in "/?([a-z/.:{}]|usr|home|\\{username\\}|\\{escaped\\}|\\{slug\\}|\\PC){0,10}",
            name in "[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}",
        ) {
            if let Ok(shown) = ShownPath::parse(&text) {
                if let Ok(path) = shown.expand(&user(&name)) {
                    let relative = path.strip_prefix('/').unwrap();
                    prop_assert!(relative.split('/').all(|part| !matches!(part, "" | "." | "..")));
                    prop_assert!(!RESERVED.contains(&relative.split('/').next().unwrap()));
                    prop_assert!(!path.contains([':', '\n', '\0']));
                    prop_assert!(shown.meets(Path::new(&path)));
                }
            }
        }

        #[test]
        fn sizes_are_whole_kibibytes(text in "[0-9+]{0,22}[KMGTkB]?|\\PC*") {
            if let Some(bytes) = size(&text) {
                prop_assert!(bytes % 1024 == 0 && bytes < MAX_LIMIT);
            }
        }

        #[test]
        fn any_value_is_read_without_a_panic(
            key in "root|template|path|missing|owner|mode|skeleton|quota",
            value in "\\PC{0,40}|\"\\PC{0,40}\"|\\[[0-9]{1,12}, ?[0-9]{1,12}\\]|\\[\"[0-9]{0,22}[KMGT]\", \"\\PC{0,4}\"\\]|[0-9]{1,22}",
        ) {
            let _ = Settings::parse(&format!("[homes]\nroot = '/srv'\n{key} = {value}\n"));
            let _ = Settings::parse(&format!("[homes]\n{key} = {value}\n"));
        }
    }
}
