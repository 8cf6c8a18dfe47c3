//! Hides from PAM modules and sshd what they must not find in a connection's mount namespace.

use super::failure::{Failure, step};
use super::plan::Plan;
use common::paths::RUN_DIR;
use host::homes::mounted::automounts;
use host::sys::mount::{self, Flags, Tree};
use host::sys::wait::readable;
use host::sys::{pidfd, process};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// The most symbolic links on the way to a directory that is hidden.
const MAX_LINKS: usize = 8;
/// How long we wait in all for automounters that wait for their servers.
const AUTOMOUNT_TIME: Duration = Duration::from_secs(1);

/// Hides what root's part of sshd must not find in this mount namespace; returns notes for the log.
///
/// From here on root's part of sshd runs in it too, with all PAM modules that come after ours. So
/// does a user's process that no ChrootDirectory confines, if an administrator has lost the Match
/// block. They must not find:
/// - `/run`: the sockets there lead out of every namespace. pam_systemd would have logind start
///   `user@UID.service`, a service manager that runs the units of that user's home on this host;
///   with a uid that a local user has as well, that user's D-Bus and service manager would be
///   within reach. What stays: our own directory, the journal's sockets (/dev/log points there) and
///   utmp, which sshd writes.
/// - `/home`, and the first directory of `homes.path`: the account says that the user's home is
///   there, so it may be a directory that users control. On Debian 12 pam_env reads
///   `~/.pam_environment` there, and a dead NFS server would hang it.
/// - `homes.root` and every share's source: other users' files. The user sees them in the jail
///   only.
/// - The terminals of `/dev/pts` as something that can be changed: see [`keep_terminals`].
/// - `/var/log/lastlog`: sshd 9.2 writes there at uid × 292. For computed uids that makes a sparse
///   file of 600 GB, which backups stumble over; for uids that users share it tells one when
///   another was here.
///
/// The host itself keeps them all: this is our namespace only.
///
/// # Errors
/// Fails if `/run`, `/dev/pts`, `/home`, the place of `homes.path` or lastlog cannot be hidden; any
/// other directory that cannot be hidden becomes a note.
pub fn hide_from_pam_and_sshd(plan: &Plan) -> Result<Vec<String>, Failure> {
    hide_run()?;
    keep_terminals(Path::new("/dev/pts")).map_err(step("a read-only /dev/pts"))?;
    let mut hiding = Hiding::new().map_err(|e| format!("cannot read the mounts: {e}"))?;
    hiding.hide(Path::new("/home")).map_err(step("an empty /home"))?;
    if let Some(dir) = first_directory(Path::new(&plan.home_dir)) {
        hiding.hide(&dir).map_err(step("an empty directory in the place of homes.path"))?;
    }
    let mut notes = Vec::new();
    for path in plan.root.iter().chain(plan.shares.iter().map(|share| &share.source)) {
        if let Err(e) = hiding.hide(path) {
            notes.push(format!("{} cannot be hidden from PAM: {e}", path.display()));
        }
    }
    Ok(notes)
}

/// Makes /dev/pts read-only, so that sshd cannot give a terminal to the user's uid.
///
/// sshd does that by the terminal's name (chown(2)), and any process of that uid on this host could
/// then read what is typed in it and type itself. On a read-only /dev/pts the terminal stays
/// root's. sshd accepts that as long as only the group `tty` may write to it (sshpty.c,
/// pty_setowner). sshd and the session program have it open by then and don't need its name any
/// more; its number, `who` and `w` are as ever.
fn keep_terminals(terminals: &Path) -> io::Result<()> {
    match Tree::clone_path(terminals) {
        Ok(tree) => tree.restrict(Flags::RO)?.attach(terminals),
        // There are no terminals at all.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Returns `/home` for `/home/alice`.
fn first_directory(path: &Path) -> Option<PathBuf> {
    path.components().find(|one| matches!(one, Component::Normal(_))).map(|one| Path::new("/").join(one))
}

/// True if sshd, PAM modules or we may need something at this path, above it, or beneath it.
fn is_needed(path: &Path) -> bool {
    // Everything in these is the system's.
    const WHOLE: [&str; 21] = [
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/run",
        "/sbin",
        "/sys",
        "/usr/bin",
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/usr/libexec",
        "/usr/libx32",
        "/usr/sbin",
        "/usr/share",
        "/var/log",
    ];
    // Something in these may be a user's.
    const SHARED: [&str; 9] = [
        "/tmp",
        "/usr/local/bin",
        "/usr/local/lib",
        "/usr/local/sbin",
        "/var/cache",
        "/var/lib",
        "/var/mail",
        "/var/spool",
        "/var/tmp",
    ];
    WHOLE.iter().any(|dir| path.starts_with(dir))
        || WHOLE.iter().chain(&SHARED).any(|dir| Path::new(dir).starts_with(path))
}

/// Hides one directory after the other.
struct Hiding {
    automounts: Vec<PathBuf>,
    end: Instant,
    /// What is hidden already; it must not be removed as if the host had mounted it.
    hidden: Vec<PathBuf>,
}

impl Hiding {
    fn new() -> io::Result<Self> {
        Ok(Self { automounts: automounts()?, end: Instant::now() + AUTOMOUNT_TIME, hidden: Vec::new() })
    }

    /// Puts an empty directory in the place of `path`; does nothing if there is no such directory.
    ///
    /// The directory may be, contain, or lie in a file system that doesn't answer. So nothing that
    /// is mounted there or on the way is asked: it is detached unseen.
    ///
    /// # Errors
    /// Fails if the path leads to a directory of the system, if it has too many symbolic links, or
    /// if the kernel refuses.
    fn hide(&mut self, path: &Path) -> io::Result<()> {
        let mut path = path.to_owned();
        'link: for _ in 0..=MAX_LINKS {
            // Step by step: beyond a link there may be another file system.
            let mut at = PathBuf::from("/");
            let mut rest = path.components();
            while let Some(component) = rest.next() {
                match component {
                    Component::Normal(name) => at.push(name),
                    Component::ParentDir => {
                        at.pop();
                        continue;
                    }
                    _ => continue,
                }
                if self.hidden.contains(&at) {
                    return Ok(());
                }
                if !is_needed(&at) {
                    self.detach(&at)?;
                }
                let found = match fs::symlink_metadata(&at) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    found => found?,
                };
                if found.is_symlink() {
                    // The administrator's link, such as /home on a larger disk.
                    path = at.parent().unwrap_or(&at).join(fs::read_link(&at)?).join(rest.as_path());
                    continue 'link;
                }
                if !found.is_dir() {
                    return Ok(());
                }
            }
            if is_needed(&at) {
                return Err(io::Error::other(format!("{} is needed", at.display())));
            }
            mount::tmpfs(&at, 4096, 1)?;
            mount::restrict(&at, Flags::RO)?;
            self.hidden.push(at);
            return Ok(());
        }
        Err(io::Error::other("its symbolic links lead nowhere good"))
    }

    /// Detaches what is mounted here.
    ///
    /// If an automounter is mounting something at that moment, even umount2(2) waits for it, so a
    /// child does this.
    fn detach(&self, at: &Path) -> io::Result<()> {
        if !self.automounts.iter().any(|point| point == at) {
            return mount::detach_all(at);
        }
        let Some(pid) = process::fork_single_threaded()? else {
            let done = process::close_all_but(&[]).and_then(|()| mount::detach_all(at));
            process::exit_now(i32::from(done.is_err()))
        };
        let ended = pidfd::open(pid)?;
        let in_time = readable(ended.as_fd(), self.end)?;
        let pid = Pid::from_raw(pid);
        if !in_time {
            kill(pid, Signal::SIGKILL)?;
            // A child that cannot be killed is left to the system.
            readable(ended.as_fd(), Instant::now() + Duration::from_millis(50))?;
        }
        match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ if in_time => Err(io::Error::other("an automounter there cannot be taken away")),
            _ => Err(io::Error::other("an automounter there waits for its server")),
        }
    }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::mounter::tests::{leave, never_answers, root};
    use super::*;
    use host::sys::process::in_child;
    use std::os::unix::fs::symlink;

    /// Works through a link, whatever is mounted on what, and doesn't ask a file system that never
    /// answers.
    #[test]
    fn a_directory_is_hidden_without_a_look_at_it() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (home, link) = (dir.path().join("home"), dir.path().join("link"));
        fs::create_dir(&home).unwrap();
        fs::write(home.join("file"), "").unwrap();
        symlink("home", &link).unwrap();
        for path in [&home, &link] {
            assert!(in_child(|| {
                leave();
                let _daemon = never_answers(&home);
                mount::stop_propagation().unwrap();
                mount::tmpfs(&home, 4096, 4).unwrap();
                Hiding::new().unwrap().hide(path).unwrap();
                assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
                assert!(fs::create_dir(home.join("new")).is_err());
                // What was mounted is gone, not covered.
                mount::detach_all(&home).unwrap();
                assert!(home.join("file").exists());
            }));
        }
        Hiding::new().unwrap().hide(&dir.path().join("none")).unwrap();
        Hiding::new().unwrap().hide(&home.join("file")).unwrap();
    }

    /// A new terminal can be made and used, but its owner can't be changed.
    #[test]
    fn terminals_stay_roots() {
        if !root() {
            return;
        }
        assert!(in_child(|| {
            leave();
            mount::stop_propagation().unwrap();
            keep_terminals(Path::new("/dev/pts")).unwrap();
            let pty = nix::pty::openpty(None, None).unwrap();
            let name = nix::unistd::ttyname(&pty.slave).unwrap();
            let change = std::os::unix::fs::chown(&name, Some(1000), None).unwrap_err();
            assert_eq!(change.kind(), io::ErrorKind::ReadOnlyFilesystem);
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&name).unwrap()), 0);
            nix::unistd::write(&pty.master, b"typed\n").unwrap();
            let mut typed = [0; 16];
            assert_eq!(nix::unistd::read(&pty.slave, &mut typed), Ok(6));
            keep_terminals(Path::new("/nonexistent")).unwrap();
        }));
    }

    #[test]
    fn links_that_lead_nowhere_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for target in ["link", "/", ".."] {
            let link = dir.path().join("link");
            let _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            assert!(Hiding::new().unwrap().hide(&link).is_err(), "{target}");
        }
    }

    /// Nothing on the way of a path is asked either, and what is hidden stays hidden.
    #[test]
    fn what_lies_in_a_file_system_that_never_answers_is_hidden() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("disk/homes/students")).unwrap();
        fs::create_dir_all(at("srv/data/inner")).unwrap();
        symlink("../disk", at("srv/link")).unwrap();
        assert!(in_child(|| {
            leave();
            let _daemon = never_answers(&at("disk"));
            mount::stop_propagation().unwrap();
            let mut hiding = Hiding::new().unwrap();
            hiding.hide(&at("srv/link/homes")).unwrap();
            assert_eq!(hiding.hidden, [at("disk/homes")], "beneath the mount, which is gone");
            assert_eq!(fs::read_dir(at("disk/homes")).unwrap().count(), 0);
            for path in ["srv/data", "srv/data/inner", "srv/link/homes/students", "disk/homes"] {
                hiding.hide(&at(path)).unwrap();
            }
            assert_eq!(hiding.hidden, [at("disk/homes"), at("srv/data")]);
            hiding.hide(&at("srv")).unwrap();
            assert_eq!(fs::read_dir(at("srv")).unwrap().count(), 0);
            assert_eq!(fs::read_dir(at("disk")).unwrap().count(), 1);
        }));
    }

    /// A direct automounter, as x-systemd.automount makes one, that is mounting: any look at it
    /// waits.
    #[test]
    fn an_automounter_that_waits_holds_nobody_up() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["homes", "data"] {
            fs::create_dir(at(name)).unwrap();
        }
        assert!(in_child(|| {
            leave();
            let (asked, write) = nix::unistd::pipe().unwrap();
            let group = nix::unistd::getppid();
            let options = format!(
                "fd={},pgrp={group},minproto=5,maxproto=5,direct",
                std::os::fd::AsRawFd::as_raw_fd(&write)
            );
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("test"), &at("homes"), Some("autofs"), flags, Some(options.as_str()))
                .unwrap();
            let user = match process::fork_single_threaded().unwrap() {
                None => process::exit_now(i32::from(fs::read_dir(at("homes")).is_err())),
                Some(pid) => Pid::from_raw(pid),
            };
            // Wait until the automounter has been asked.
            assert!(readable(asked.as_fd(), Instant::now() + Duration::from_secs(5)).unwrap());
            mount::stop_propagation().unwrap();
            let start = Instant::now();
            let mut hiding = Hiding::new().unwrap();
            let why = hiding.hide(&at("homes")).unwrap_err().to_string();
            assert_eq!(why, "an automounter there waits for its server");
            hiding.hide(&at("data")).unwrap();
            assert!(start.elapsed() < AUTOMOUNT_TIME * 3, "{:?}", start.elapsed());
            kill(user, Signal::SIGKILL).unwrap();
            waitpid(user, None).unwrap();
        }));
    }

    #[test]
    fn what_the_system_needs_stays() {
        for (path, needed) in [
            ("/", true),
            ("/usr", true),
            ("/usr/lib/security", true),
            ("/usr/local", true),
            ("/usr/local/homes", false),
            ("/usr/home", false),
            ("/etc/skel", true),
            (RUN_DIR, true),
            ("/var", true),
            ("/var/lib", true),
            ("/var/lib/homes", false),
            ("/var/log", true),
            ("/var/homes", false),
            ("/tmp", true),
            ("/tmp/homes", false),
            ("/srv", false),
            ("/home", false),
            ("/opt/homes", false),
        ] {
            assert_eq!(is_needed(Path::new(path)), needed, "{path}");
        }
    }

    #[test]
    fn the_first_directory_is_what_is_hidden() {
        for (path, first) in [("/home/alice", Some("/home")), ("/homes/a/b", Some("/homes")), ("/", None)] {
            assert_eq!(first_directory(Path::new(path)), first.map(PathBuf::from));
        }
    }
}
