//! `[homes]`: where the homes of hub users are on this host, where sessions see them, and what is done when one
//! is missing.

use std::path::PathBuf;

use crate::error::ConfigError;
use crate::names::UserName;
use crate::table::Table;
use crate::template::{Template, TemplateError};
use crate::uid::Ids;

/// The keys of `[homes]`.
pub const KEYS: &[&str] = &["root", "template", "path", "missing", "owner", "mode", "skeleton", "quota"];

/// First components of the paths that a session has for other things, or that a host cannot do without in its
/// place: neither a home nor a share is shown beneath them.
const RESERVED: [&str; 16] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys",
    "tmp", "usr", "var",
];

/// Where the homes of the hub's users are on this host, and what sessions see of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes {
    /// `root`: absolute, without `.` or `..`, not `/`.
    pub root: PathBuf,
    /// `template`: the path of a user's home beneath `root`.
    pub template: Template,
    /// `path`: where a session sees its home.
    pub path: ShownPath,
    /// `missing`, with the keys that say how to create one; `None`: a missing home is refused.
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
    /// May be exceeded for the file system's grace time. At most `hard`.
    pub soft: u64,
    /// May not be exceeded.
    pub hard: u64,
}

/// Where a session sees its home: an absolute path, with placeholders as in [`Template`] or without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPath(Template);

impl ShownPath {
    /// Reads a path such as `/home/{username}` or `/home/jovyan`.
    ///
    /// # Errors
    /// What is wrong, for a message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err("the path is not absolute".to_owned());
        };
        let first = relative.split('/').next().unwrap_or_default();
        if first.contains('{') || RESERVED.contains(&first) {
            return Err(format!("/{first} cannot be shown to users: sessions have something else there"));
        }
        Template::parse_shared(relative).map(Self).map_err(|error| error.to_string())
    }

    /// The path for a user: absolute.
    ///
    /// # Errors
    /// It would be too long.
    pub fn expand(&self, user: &UserName) -> Result<String, TemplateError> {
        self.0.expand(user).map(|path| format!("/{path}"))
    }
}

/// Reads `[homes]`; `None` while `root` is unset: this host has no homes.
///
/// # Errors
/// A value is not allowed, or a key is set that has no meaning without another.
pub fn read(table: &Table<'_>) -> Result<Option<Homes>, ConfigError> {
    let template = Template::parse(table.text("template")?.unwrap_or("{username}")).map_err(|error| {
        table.refuse("template", error.to_string(), "Use a path such as {username} or students/{escaped}.")
    })?;
    let path = ShownPath::parse(table.text("path")?.unwrap_or("/home/{username}")).map_err(|problem| {
        table.refuse("path", problem, "Use a path such as /home/{username} or /home/jovyan.")
    })?;
    let create = match table.text("missing")?.unwrap_or("refuse") {
        "create" => Some(read_create(table)?),
        "refuse" => {
            read_create(table)?;
            None
        }
        _ => {
            return Err(table.refuse(
                "missing",
                "this is not what can be done about a missing home",
                "Use \"refuse\" or \"create\".",
            ));
        }
    };
    Ok(table.path("root")?.map(|root| Homes { root, template, path, create }))
}

fn read_create(table: &Table<'_>) -> Result<Create, ConfigError> {
    let owner = match table.pair("owner")? {
        Some((uid, gid)) => Some(
            Ids::new(uid, gid)
                .map_err(|error| table.refuse("owner", error.to_string(), crate::uid::ALLOWED))?,
        ),
        None => None,
    };
    let mode = table.mode("mode", 0o7777)?.unwrap_or(0o700);
    if mode & 0o700 != 0o700 {
        return Err(table.refuse(
            "mode",
            "the owner could not use a home with this mode",
            "Use a mode that starts with 7, such as \"0700\".",
        ));
    }
    let quota = match table.texts("quota")? {
        None => None,
        Some(texts) => Some(read_quota(table, &texts)?),
    };
    Ok(Create { owner, mode, skeleton: table.path("skeleton")?, quota })
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

/// A size such as `500M`: a number and a unit of 1024, 1024², … bytes.
fn size(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()? {
        b'K' => (text.strip_suffix('K')?, 10),
        b'M' => (text.strip_suffix('M')?, 20),
        b'G' => (text.strip_suffix('G')?, 30),
        b'T' => (text.strip_suffix('T')?, 40),
        _ => return None,
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes < 1 << 60)
}
