//! What PAM modules and sshd itself must not find in a session's mount namespace.

use super::plan::Plan;
use super::{Failure, step};
use crate::sys::mount::{self, Flags, Tree};
use accounts::paths::RUN_DIR;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// From here on root's part of sshd runs in this mount namespace too, with whatever PAM modules come after
/// ours, and so does a session that no ChrootDirectory confines, should an administrator have lost the Match
/// block. Things that they must not find:
/// - `/run`: the sockets there lead out of every namespace. pam_systemd would have logind start
///   `user@UID.service`, a service manager that runs the units of that user's home on this host; with a uid that a
///   local user has as well, that user's D-Bus and service manager would be within reach. What stays: our own
///   directory, the journal's sockets (/dev/log points there) and utmp, which sshd writes.
/// - `/home`, and the first directory of `homes.path`: where the account says that the user's home is, a directory
///   that users may control is possible. pam_env reads `~/.pam_environment` there on Debian 12, and a dead NFS server
///   would hang it.
/// - `/var/log/lastlog`: sshd 9.2 writes there at uid × 292, which for computed uids makes a sparse file of
///   600 GB for backups to stumble over, and for uids that users share tells one when another was here.
///
/// The host itself keeps them all: this is our namespace only.
///
/// # Errors
/// One line for the log.
pub fn hide_from_pam_and_sshd(plan: &Plan) -> Result<(), Failure> {
    hide_run()?;
    let shown: Option<PathBuf> = first_directory(Path::new(&plan.home_dir));
    hide(Path::new("/home")).map_err(step("an empty /home"))?;
    match shown.filter(|dir| dir != Path::new("/home")) {
        Some(dir) => hide(&dir).map_err(step("an empty directory in the place of homes.path")),
        None => Ok(()),
    }
}

/// `/home` of `/home/alice`.
fn first_directory(path: &Path) -> Option<PathBuf> {
    path.components().find(|one| matches!(one, Component::Normal(_))).map(|one| Path::new("/").join(one))
}

/// Puts an empty directory into the place of one that may itself be, or hold, a file system that doesn't answer:
/// nothing is asked of what is mounted there, it is taken away unseen. Nothing is done when there is no such
/// directory.
fn hide(path: &Path) -> io::Result<()> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        mount::detach_all(&path)?;
        let found = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if found.is_dir() {
            mount::tmpfs(&path, 4096, 1)?;
            return mount::restrict(&path, Flags::RO);
        }
        if !found.is_symlink() {
            return Ok(());
        }
        // The administrator's, such as /home on a larger disk. What is above its target has to answer.
        path = path.parent().unwrap_or(Path::new("/")).join(fs::read_link(&path)?);
        if path.file_name().is_none() {
            break;
        }
    }
    Err(io::Error::other("its symbolic link leads nowhere good"))
}

fn hide_run() -> Result<(), Failure> {
    let failed = || step("an almost empty /run");
    let run = Path::new("/run");
    let mut kept = Vec::new();
    for path in [RUN_DIR, "/run/systemd/journal", "/run/utmp"].map(Path::new) {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() || found.is_file() => {
                kept.push((path, found.is_dir(), Tree::clone_path(path).map_err(failed())?));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed()(e)),
        }
    }
    mount::tmpfs(run, 8192, 8).map_err(failed())?;
    for (path, is_dir, tree) in kept {
        if is_dir {
            DirBuilder::new().mode(0o755).recursive(true).create(path).map_err(failed())?;
        } else {
            fs::write(path, "").map_err(failed())?;
        }
        tree.attach(path).map_err(failed())?;
    }
    hide_lastlog(&run.join(".lastlog"))?;
    mount::restrict(run, Flags::RO).map_err(failed())
}

fn hide_lastlog(empty: &Path) -> Result<(), Failure> {
    let failed = || step("an empty lastlog");
    let lastlog = Path::new("/var/log/lastlog");
    if lastlog.is_file() {
        fs::write(empty, "").map_err(failed())?;
        Tree::clone_path(empty).and_then(|tree| tree.attach(lastlog)).map_err(failed())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_is_what_is_hidden() {
        for (path, first) in [("/home/alice", Some("/home")), ("/homes/a/b", Some("/homes")), ("/", None)] {
            assert_eq!(first_directory(Path::new(path)), first.map(PathBuf::from));
        }
    }
}
