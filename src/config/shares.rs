//! `[[shares]]`: directories of this host that sessions see besides the home.

use std::path::{Path, PathBuf};

use accounts::ConfigError;
use accounts::homes::{Homes, ShownPath};
use accounts::table::{Document, Table};

/// Most shares of a bastion.
const MAX_SHARES: usize = 64;

/// A directory that several users see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// `source`: the directory on this host; absolute.
    pub source: PathBuf,
    /// `path`: where sessions see it; absolute, outside of the home.
    pub path: PathBuf,
    /// `writable`: whether sessions may change what the file system allows them to; read-only otherwise.
    pub writable: bool,
    /// `groups`: the hub's groups whose members see it; empty: everybody.
    pub groups: Vec<String>,
}

impl Share {
    /// Whether a member of the hub's `groups` sees it.
    #[must_use]
    pub fn is_for(&self, groups: &[String]) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| groups.contains(group))
    }
}

pub(super) fn read(document: &Document<'_>, homes: Option<&Homes>) -> Result<Vec<Share>, ConfigError> {
    let tables = document.tables("shares", &["source", "path", "writable", "groups"])?;
    if let Some(extra) = tables.get(MAX_SHARES) {
        return Err(extra.refuse("source", format!("more than {MAX_SHARES} shares"), "Remove some."));
    }
    let mut shares: Vec<Share> = Vec::new();
    for table in &tables {
        let share = read_one(table)?;
        if shares.iter().any(|other| overlap(&other.path, &share.path)) {
            return Err(table.refuse(
                "path",
                "another share is shown there",
                "Give each share a path of its own, none beneath another.",
            ));
        }
        shares.push(share);
    }
    let _ = homes; // a share inside a home, or the other way round, is refused
    Ok(shares)
}

fn read_one(table: &Table<'_>) -> Result<Share, ConfigError> {
    let missing = |key: &str| table.refuse(key, "it is not set", "Every share needs a source and a path.");
    let source = table.path("source")?.ok_or_else(|| missing("source"))?;
    let path = table.path("path")?.ok_or_else(|| missing("path"))?;
    let text = table.text("path")?.unwrap_or_default();
    ShownPath::parse(text)
        .map_err(|problem| table.refuse("path", problem, "Use a path such as /shared/data."))?;
    let groups = table.texts("groups")?.unwrap_or_default();
    Ok(Share {
        source,
        path,
        writable: table.boolean("writable")?.unwrap_or(false),
        groups: groups.into_iter().map(str::to_owned).collect(),
    })
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
