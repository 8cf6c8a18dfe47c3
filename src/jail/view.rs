//! What a session sees: a read-only tmpfs with `/usr`, two devices and a handful of tiny files.

use super::Failure;
use super::request::Request;
use super::uids::make_dir;
use crate::sys::mount::{self, Flags, Tree};
use accounts::Passwd;
use accounts::paths::{JAIL_DIR, RUN_DIR};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Room in the tmpfs: its files are a few hundred bytes, each takes a page.
const TMPFS_BYTES: u32 = 64 * 1024;
/// Inodes in the tmpfs: about 25 are used.
const TMPFS_INODES: u32 = 64;
/// How many terminals [`prepare_host`] provides for. A higher number only costs a line in sshd's log.
const TERMINALS: u32 = 1024;

/// On the host: what ChrootDirectory names must exist before sshd looks, and the terminals' directory is
/// made once for all sessions.
///
/// sshd opens the terminal by name (`/dev/pts/7`) after it has changed root, to check it, and logs an error
/// when it cannot. The host's /dev/pts must not be in the jail: users with the same uid could open each
/// other's terminals. A devpts of its own would number every session's terminal 0 and mix the sessions up
/// in utmp, with the administrator's own among them. So each name there is a link to `/dev/tty`, which is
/// for every process its own terminal and no other.
///
/// # Errors
/// The system's.
pub fn prepare_host() -> io::Result<()> {
    make_dir(Path::new(RUN_DIR))?;
    make_dir(Path::new(JAIL_DIR))?;
    let ready = terminals_dir();
    if ready.is_dir() {
        return make_dir(&ready);
    }
    let new = Path::new(RUN_DIR).join(format!(".pts.{}", std::process::id()));
    make_dir(&new)?;
    for number in 0..TERMINALS {
        symlink("../tty", new.join(number.to_string()))?;
    }
    match fs::rename(&new, &ready) {
        // Another login was first; theirs is as good.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            fs::remove_dir_all(&new)
        }
        result => result,
    }
}

fn terminals_dir() -> PathBuf {
    Path::new(RUN_DIR).join("pts")
}

/// Builds the view at [`JAIL_DIR`], in a mount namespace that is already our own. Call [`seal`] when
/// everything is in its place.
///
/// # Errors
/// One line: which step failed and how.
pub fn build(request: &Request) -> Result<(), Failure> {
    mount::stop_propagation().map_err(|e| format!("cannot cut the jail's mounts off from the host: {e}"))?;
    // Copied before anything is mounted over the directory they come from.
    let terminals = Tree::clone_path(&terminals_dir()).map_err(step("/dev/pts"))?;
    // Before the jail is mounted in it.
    hide_from_pam_and_sshd()?;
    let root = Path::new(JAIL_DIR);
    mount::tmpfs(root, TMPFS_BYTES, TMPFS_INODES).map_err(step("/"))?;
    for dir in ["usr", "dev", "dev/pts", "etc", "run", "home"] {
        make(root, dir)?;
    }
    // sshd changes to it and sets HOME to it.
    make(root, home_dir(request).trim_start_matches('/'))?;
    for (link, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        symlink(target, root.join(link)).map_err(|e| format!("cannot make /{link} of the jail: {e}"))?;
    }
    for (name, content) in files(request) {
        write(root, name, &content)?;
    }
    let usr = Tree::clone_path(Path::new("/usr")).map_err(step("/usr"))?;
    attach(usr, Flags::RO | Flags::NOSUID | Flags::NODEV, root, "usr")?;
    attach(terminals, Flags::RO | Flags::NOSUID | Flags::NODEV | Flags::NOEXEC, root, "dev/pts")?;
    device(root, "null", (1, 3))?;
    device(root, "tty", (5, 0))
}

/// Makes the tmpfs read-only, the last step.
///
/// # Errors
/// One line for the log.
pub fn seal() -> Result<(), Failure> {
    mount::restrict(Path::new(JAIL_DIR), Flags::RO)
        .map_err(|e| format!("cannot make the jail read-only: {e}"))
}

/// Where a path of the jail is for us, who are outside.
#[must_use]
pub fn outside(path: &str) -> PathBuf {
    Path::new(JAIL_DIR).join(path.trim_start_matches('/'))
}

fn home_dir(request: &Request) -> String {
    format!("/home/{}", request.user.user())
}

/// The files under /etc: enough for getpwuid(3), getgrgid(3) and `localhost`, without a lookup elsewhere.
fn files(request: &Request) -> [(&'static str, String); 4] {
    let Passwd { name, ids, gecos, dir, shell } = Passwd::new(&request.user, request.ids, home_dir(request));
    let (uid, gid) = (ids.uid(), ids.gid());
    [
        ("etc/passwd", format!("{name}:*:{uid}:{gid}:{gecos}:{dir}:{shell}\n")),
        ("etc/group", format!("{name}:*:{gid}:\n")),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
    ]
}

/// From here on root's part of sshd runs in this mount namespace too, with whatever PAM modules come after
/// ours, and so does a session that no ChrootDirectory confines, should an administrator have lost the Match
/// block. Things that they must not find:
/// - `/run`: the sockets there lead out of every namespace. pam_systemd would have logind start
///   `user@UID.service`, a service manager that runs the units of that user's home on this host; with a uid that a
///   local user has as well, that user's D-Bus and service manager would be within reach. What stays: our own
///   directory, the journal's sockets (/dev/log points there) and utmp, which sshd writes.
/// - `/home`: where the account says that the user's home is, a directory that users may control is
///   possible. pam_env reads `~/.pam_environment` there on Debian 12, and a dead NFS server would hang it.
/// - `/var/log/lastlog`: sshd 9.2 writes there at uid × 292, which for computed uids makes a sparse file of
///   600 GB for backups to stumble over, and for uids that users share tells one when another was here.
///
/// The host itself keeps them all: this is our namespace only.
fn hide_from_pam_and_sshd() -> Result<(), Failure> {
    hide_run()?;
    let home = Path::new("/home");
    if home.is_dir() {
        mount::tmpfs(home, 8192, 2).map_err(step("an empty /home"))?;
        let lastlog = Path::new("/var/log/lastlog");
        if lastlog.is_file() {
            let empty = home.join(".lastlog");
            fs::write(&empty, "").map_err(step("an empty lastlog"))?;
            let tree = Tree::clone_path(&empty).map_err(step("an empty lastlog"))?;
            tree.attach(lastlog).map_err(step("an empty lastlog"))?;
        }
        mount::restrict(home, Flags::RO).map_err(step("an empty /home"))?;
    }
    Ok(())
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
    mount::restrict(run, Flags::RO).map_err(failed())
}

/// Puts the host's device `name` into the jail, after a look at what it is.
fn device(root: &Path, name: &str, numbers: (u64, u64)) -> Result<(), Failure> {
    let host = Path::new("/dev").join(name);
    let tree = Tree::clone_path(&host).map_err(step("a device"))?;
    let node = fs::File::from(tree.descriptor().as_fd().try_clone_to_owned().map_err(step("a device"))?);
    let found = node.metadata().map_err(step("a device"))?;
    let rdev = found.rdev();
    if found.mode() & libc::S_IFMT != libc::S_IFCHR
        || (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)) != numbers
    {
        return Err(format!("{} of this host is not the device it should be", host.display()));
    }
    write(root, &format!("dev/{name}"), "")?;
    // Read-only concerns the node's owner and mode, not what is written to the device.
    attach(tree, Flags::RO | Flags::NOSUID | Flags::NOEXEC, root, &format!("dev/{name}"))?;
    // A host whose /dev is mounted nodev (some containers) is noticed here and not by the user.
    match fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(root.join("dev").join(name))
    {
        Ok(_) => Ok(()),
        // Nobody's terminal: there is none in this process.
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        Err(e) => Err(format!(
            "cannot open {} in the jail (is the host's /dev mounted nodev?): {e}",
            host.display()
        )),
    }
}

fn attach(tree: Tree, flags: Flags, root: &Path, at: &str) -> Result<(), Failure> {
    tree.restrict(flags)
        .and_then(|tree| tree.attach(&root.join(at)))
        .map_err(|e| format!("cannot mount /{at} of the jail: {e}"))
}

fn make(root: &Path, dir: &str) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o755)
        .create(root.join(dir))
        .map_err(|e| format!("cannot make /{dir} of the jail: {e}"))
}

fn write(root: &Path, name: &str, content: &str) -> Result<(), Failure> {
    fs::write(root.join(name), content).map_err(|e| format!("cannot write /{name} of the jail: {e}"))
}

fn step(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |e| format!("cannot mount {what} for the jail: {e}")
}
