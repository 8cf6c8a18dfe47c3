//! Checks whether the running sshd has read its configuration as it is now.

use super::Finding;
use super::block::TOPIC;
use super::run::run;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CONFIG: &str = "/etc/ssh/sshd_config";
const DIRECTORY: &str = "/etc/ssh/sshd_config.d";
/// Most files of the directory that are compared.
const MAX_FILES: usize = 200;

/// Compares the times of the files with that of the PID file, which sshd writes at each start and
/// reload.
pub fn check(pid_file: &str) -> Option<Finding> {
    let read_at = changed(Path::new(pid_file)).filter(|_| is_running(pid_file));
    match read_at {
        Some(read_at) => stale(&files(), read_at),
        // A socket unit starts an sshd for each connection, and that reads the files again.
        None if systemd_says_active() => None,
        None => Some(Finding::warning(
            TOPIC,
            format_args!("sshd does not seem to run ({pid_file})"),
            if Path::new("/run/systemd/system").exists() {
                "systemctl start ssh"
            } else {
                "service ssh start"
            },
        )),
    }
}

/// True if the process in the PID file is an sshd.
fn is_running(pid_file: &str) -> bool {
    let pid = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    pid.is_some_and(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end().starts_with("sshd"))
    })
}

/// True if systemd says that sshd, or its socket, is active.
fn systemd_says_active() -> bool {
    Path::new("/run/systemd/system").exists()
        && run("/usr/bin/systemctl", &["is-active", "ssh.service", "ssh.socket"], Duration::from_secs(2))
            .is_ok_and(|said| said.out.lines().any(|line| line == "active"))
}

/// Lists what sshd reads: its file, the drop-ins, and the directory, which changes when a drop-in
/// is removed.
fn files() -> Vec<PathBuf> {
    let entries =
        fs::read_dir(DIRECTORY).into_iter().flatten().flatten().take(MAX_FILES).map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    found.extend([PathBuf::from(CONFIG), PathBuf::from(DIRECTORY)]);
    found
}

/// When a file was changed last, in nanoseconds since 1970.
fn changed(path: &Path) -> Option<i128> {
    let facts = fs::metadata(path).ok()?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let content = nanoseconds(facts.mtime(), facts.mtime_nsec());
    // Only the inode's time tells that a file was moved here or made readable. That of a directory
    // changes for many other reasons.
    Some(if facts.is_dir() { content } else { content.max(nanoseconds(facts.ctime(), facts.ctime_nsec())) })
}

/// Warns if one of the files was changed after sshd had read it.
fn stale(files: &[PathBuf], read_at: i128) -> Option<Finding> {
    let newer = files.iter().find(|path| changed(path).is_some_and(|at| at > read_at))?;
    Some(Finding::warning(
        TOPIC,
        format_args!(
            "{} was changed after sshd had read its configuration: what counts is what was there before",
            newer.display()
        ),
        "sshd -t && systemctl reload ssh",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_newer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        fs::write(&path, "").unwrap();
        let at = changed(&path).unwrap();
        assert_eq!(stale(&[path.clone(), dir.path().join("none")], at), None);
        assert!(stale(&[path], at - 1).unwrap().what.contains("x.conf was changed"));
        assert!(!is_running("/nonexistent") && !is_running("/proc/self/status"));
    }
}
