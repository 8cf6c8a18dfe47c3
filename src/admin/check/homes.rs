//! Checks the homes: are they there, can missing ones be created, and do they belong to their
//! users?

use super::{Finding, PATIENCE, mounts, uids};
use crate::status::names::{Component, Pattern, components};
use crate::status::patience::await_answer;
use common::UserName;
use common::homes::{Create, Homes};
use common::settings::Settings;
use common::uid::{Ids, Rule};
use host::config::{Config, Jail, Source};
use host::homes::Fault;
use host::homes::create::owns_uid_alone;
use host::homes::open::{beneath, open_dir, open_root};
use host::homes::quota::{self, Support};
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{AccessFlags, access};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const TOPIC: &str = "homes";
/// Most homes that are looked at; enough to see what most of them are like.
const MAX_HOMES: usize = 1000;

/// Checks the directory of homes.
pub fn check(config: &Config) -> Vec<Finding> {
    check_with(config, on_this_host)
}

/// Checks what depends on this host's mounts and accounts, given uids and paths of the homes.
type OnThisHost = fn(&Homes, &[(u32, PathBuf)]) -> Vec<Finding>;

fn check_with(config: &Config, on_this_host: OnThisHost) -> Vec<Finding> {
    let Some(homes) = &config.settings.homes else {
        return vec![Finding::fine(TOPIC, "none on this host (homes.root is not set)")];
    };
    let settings = config.settings.clone();
    let shared = homes.clone();
    let with_keys = config.keys.is_on() && config.keys.sources.contains(&Source::Home);
    let root = homes.root.display();
    let mut findings = mounts::check(&homes.root);
    findings.extend(
        await_answer(PATIENCE, move || look(&shared, &settings, with_keys, on_this_host)).unwrap_or_else(
            || {
                vec![Finding::error(
                    TOPIC,
                    format_args!(
                        "{root} does not answer within {} s: users have terminals only",
                        PATIENCE.as_secs()
                    ),
                    format_args!("See what hangs: findmnt -T {root}"),
                )]
            },
        ),
    );
    findings
}

/// Does the checks that may wait for a file server.
fn look(homes: &Homes, settings: &Settings, with_keys: bool, on_this_host: OnThisHost) -> Vec<Finding> {
    if let Err(fault) = open_root(homes) {
        let remedy = "Mount the file system of the homes there, or correct root in [homes]";
        return vec![Finding::error(TOPIC, fault, remedy)];
    }
    let (mut findings, mut owners_found) = (Vec::new(), Vec::new());
    match parent(homes) {
        Ok(Some(parent)) => {
            findings.extend(homes.create.as_ref().and_then(|_| creatable(&parent)));
            findings.extend(owners(&parent, homes, settings.accounts));
            if settings.accounts == Rule::Home && settings.jail == Jail::Namespaces {
                owners_found = uids_of(&parent);
            }
            if with_keys {
                findings.extend(writable_for_others(&parent));
            }
        }
        Ok(None) => {}
        Err(finding) => findings.push(finding),
    }
    findings.extend(on_this_host(homes, &owners_found));
    if let Some(create) = &homes.create {
        findings.extend(create.skeleton.as_deref().and_then(skeleton));
        findings.extend(limits(homes, create, settings));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(TOPIC, format_args!("{} is in order", homes.root.display())));
    }
    findings
}

/// Checks the mount of the homes, and local accounts with their uids.
fn on_this_host(homes: &Homes, owners: &[(u32, PathBuf)]) -> Vec<Finding> {
    open_to_accounts(homes).into_iter().chain(uids::of_homes(owners)).collect()
}

/// Checks whether setuid programs and devices in homes work on this host outside of the jails.
fn open_to_accounts(homes: &Homes) -> Option<Finding> {
    let root = open_root(homes).ok()?;
    mounts::open_to_accounts(TOPIC, "their homes", &real_path(&root)?)
}

/// The path of an open directory without links. Only the administrator makes links on the way to
/// it.
fn real_path(directory: &OwnedFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()
}

/// The uids and paths of the homes.
fn uids_of(parent: &Parent<'_>) -> Vec<(u32, PathBuf)> {
    let (Some(pattern), Some(path)) = (&parent.pattern, real_path(&parent.fd)) else { return Vec::new() };
    let entries = fs::read_dir(format!("/proc/self/fd/{}", parent.fd.as_raw_fd()));
    let entries = entries.into_iter().flatten().flatten().take(MAX_HOMES);
    let home = |entry: fs::DirEntry| {
        let facts = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
        // Connections have only uids that this accepts.
        let ids = Ids::new(facts.uid(), facts.gid()).ok()?;
        let name = entry.file_name().into_string().ok().filter(|name| pattern.takes(name))?;
        Some((ids.uid(), path.join(name)))
    };
    entries.filter_map(home).collect()
}

/// The directory that has a directory for each user, and how those are named.
struct Parent<'h> {
    path: PathBuf,
    fd: OwnedFd,
    facts: FileStat,
    /// How homes are named; `None` if the users' directories are not the homes themselves.
    pattern: Option<Pattern<'h>>,
}

/// Finds the directory that has a directory for each user; `None` if there is no single one.
fn parent(homes: &Homes) -> Result<Option<Parent<'_>>, Finding> {
    let mut path = homes.root.clone();
    let mut relative = PathBuf::new();
    let mut rest = components(homes.template.as_str());
    for component in rest.by_ref() {
        match component {
            Component::Fixed(name) => relative.push(name),
            Component::User(pattern) => {
                let pattern = rest.next().is_none().then_some(pattern);
                // `push` would add a slash if `relative` is empty.
                path.extend(&relative);
                let opened = open_root(homes).and_then(|root| {
                    let fault = |e| Fault::of_error(&path.display().to_string(), e);
                    let fd = beneath(root.as_fd(), &relative).map_err(fault)?;
                    let facts = fstat(&fd).map_err(fault)?;
                    Ok((fd, facts))
                });
                let remedy = "Make it a directory of root's, or correct template in [homes]";
                let (fd, facts) = opened.map_err(|fault| Finding::error(TOPIC, fault, remedy))?;
                return Ok(Some(Parent { path, fd, facts, pattern }));
            }
        }
    }
    Ok(None)
}

/// Checks that root, and only root, can create homes there.
fn creatable(parent: &Parent<'_>) -> Option<Finding> {
    let path = parent.path.display();
    if parent.pattern.is_none() {
        return Some(Finding::warning(
            TOPIC,
            format_args!(
                "a missing home is made only if the user's directory in {path} is there, and root's"
            ),
            "End template with the user's directory, or set missing in [homes] to \"refuse\"",
        ));
    }
    if parent.facts.st_uid != 0 || parent.facts.st_mode & 0o022 != 0 {
        return Some(Finding::error(
            TOPIC,
            format_args!("missing homes are not made: others than root can write to {path}"),
            format_args!(
                "If nothing but this host makes homes there: chown root {path}; chmod go-w {path}. Otherwise set missing in [homes] \
                 to \"refuse\""
            ),
        ));
    }
    // By the descriptor. This asks an NFS server, which refuses if it takes root for nobody.
    access(format!("/proc/self/fd/{}", parent.fd.as_raw_fd()).as_str(), AccessFlags::W_OK | AccessFlags::X_OK)
        .err()
        .map(|error| {
            Finding::error(
                TOPIC,
                format_args!("missing homes are not made: root may not write to {path} ({})", error.desc()),
                "Allow it (an NFS export needs no_root_squash), or set missing in [homes] to \"refuse\"",
            )
        })
}

/// Checks that only root can change the skeleton of new homes.
fn skeleton(path: &Path) -> Option<Finding> {
    let shown = path.display();
    let found = open_dir(path).map_err(io::Error::from).and_then(|fd| fs::File::from(fd).metadata());
    match found {
        Err(error) => Some(Finding::error(
            TOPIC,
            format_args!("missing homes are not made: homes.skeleton {shown}: {error}"),
            "Make it a directory, or remove skeleton from [homes]",
        )),
        Ok(facts) if facts.uid() != 0 || facts.mode() & 0o022 != 0 => Some(Finding::warning(
            TOPIC,
            format_args!("others than root can change what new homes get from {shown}"),
            format_args!("Give it to root alone: chown root {shown}; chmod go-w {shown}"),
        )),
        Ok(_) => None,
    }
}

/// Checks that the file system can set the quota of new homes.
fn limits(homes: &Homes, create: &Create, settings: &Settings) -> Option<Finding> {
    create.quota?;
    let root = homes.root.display();
    let support = open_root(homes)
        .map_err(|fault| fault.to_string())
        .and_then(|fd| quota::support(fd.as_fd()).map_err(|error| error.to_string()));
    let why = match support {
        Ok(Support { project: true, .. }) => return None,
        Ok(Support { user: true, .. }) if owns_uid_alone(settings) => return None,
        Ok(Support { user: true, .. }) => "has user quotas on, but homes share their uid".to_owned(),
        Ok(_) => "has no quotas on".to_owned(),
        Err(error) => format!("cannot be asked for quotas ({error})"),
    };
    Some(Finding::error(
        TOPIC,
        format_args!("missing homes are not made: quota is set, but the file system of {root} {why}"),
        "Mount it with the option prjquota (ext4, while it is not mounted, needs tune2fs -O quota,project first), or remove quota \
         from [homes]",
    ))
}

/// Checks that the homes belong to their users' uids: users don't see other ones.
fn owners(parent: &Parent<'_>, homes: &Homes, rule: Rule) -> Option<Finding> {
    let pattern = parent.pattern.as_ref()?;
    let plain = homes.template.as_str().rsplit('/').next() == Some("{username}");
    let path = parent.path.display();
    // An NFS server that takes root for nobody may not let it list the homes. Then say nothing.
    let entries = fs::read_dir(format!("/proc/self/fd/{}", parent.fd.as_raw_fd())).ok()?;
    let (mut count, mut others) = (0_usize, Vec::new());
    for entry in entries.flatten().take(MAX_HOMES) {
        let name = entry.file_name().into_string().ok().filter(|name| pattern.takes(name));
        let facts = entry.metadata().ok().filter(fs::Metadata::is_dir);
        let (Some(name), Some(facts)) = (name, facts) else { continue };
        count += 1;
        if !belongs(rule, plain.then_some(name.as_str()), facts.uid(), facts.gid()) {
            others.push((name, facts.uid(), facts.gid()));
        }
    }
    let (name, uid, gid) = others.first()?;
    let (rule, remedy) = match rule {
        Rule::Home => ("home", "Give each home to its user's uid, which must be 1000 or higher".to_owned()),
        Rule::Hash(_) => {
            ("hash", "If homes have the right owners, set uid in [accounts] to \"home\"".to_owned())
        }
        Rule::Fixed(ids) => {
            ("fixed", format!("Give them to uid {}, or set uid in [accounts] to \"home\"", ids.uid()))
        }
    };
    let problem = format!(
        "{} of {count} directories in {path} belong to no uid that uid = \"{rule}\" gives their user, such as {name} \
         of {uid}:{gid}: sessions are not shown them",
        others.len()
    );
    // If some are right, the others may not be homes.
    let all = others.len() == count;
    Some(if all { Finding::error(TOPIC, problem, remedy) } else { Finding::warning(TOPIC, problem, remedy) })
}

/// Warns about homes to which others can write: their keys don't count, because others could add
/// keys.
fn writable_for_others(parent: &Parent<'_>) -> Option<Finding> {
    let pattern = parent.pattern.as_ref()?;
    let entries = fs::read_dir(format!("/proc/self/fd/{}", parent.fd.as_raw_fd())).ok()?;
    let (mut count, mut wrong) = (0_usize, None);
    for entry in entries.flatten().take(MAX_HOMES) {
        let Some(name) = entry.file_name().into_string().ok().filter(|name| pattern.takes(name)) else {
            continue;
        };
        let Ok(home) = entry.metadata() else { continue };
        if !home.is_dir() {
            continue;
        }
        // On an NFS export root may not see into a home. Then say nothing about it.
        let ssh = entry.path().join(".ssh");
        let open = |facts: fs::Metadata| facts.is_dir() && facts.mode() & 0o022 != 0;
        let ssh_open = fs::symlink_metadata(&ssh).is_ok_and(open);
        // A home without keys may be writable for others.
        if ssh_open || (home.mode() & 0o022 != 0 && fs::symlink_metadata(&ssh).is_ok()) {
            count += 1;
            wrong.get_or_insert(name);
        }
    }
    let (name, path) = (wrong?, parent.path.display());
    Some(Finding::warning(
        TOPIC,
        format_args!(
            "others than their owner can write to {count} homes in {path}, or to .ssh in them, such as {name}'s: the keys in \
             them do not count"
        ),
        format_args!("chmod go-w {path}/{name} {path}/{name}/.ssh"),
    ))
}

/// True if a home with this owner can be the user's. `user` is the user's name, if it is known.
fn belongs(rule: Rule, user: Option<&str>, uid: u32, gid: u32) -> bool {
    match rule {
        Rule::Home => Ids::new(uid, gid).is_ok(),
        Rule::Fixed(ids) => ids.uid() == uid,
        Rule::Hash(range) => {
            user.and_then(|user| UserName::parse(user).ok()).is_none_or(|user| range.ids(&user).uid() == uid)
        }
    }
}

#[cfg(test)]
#[path = "homes_tests.rs"]
mod tests;
