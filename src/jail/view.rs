//! The jail's file system: a read-only tmpfs with the programs that run in it, two devices and a
//! few tiny files.
//!
//! [`super::trees`] attaches the home and the shares to it.

use super::failure::{Failure, step};
use super::hide::hide_from_pam_and_sshd;
use super::plan::Plan;
use super::programs::{self, Programs, Shown};
use common::Passwd;
use common::paths::{JAIL_DIR, RUN_DIR};
use host::sys::mount::{self, Flags, Tree};
use host::uids::make_dir;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use wire::jail::Request;

/// The size of the tmpfs, in bytes: its files have a few hundred bytes and take a page each; and a
/// time zone.
const TMPFS_BYTES: u32 = 96 * 1024;
/// Inodes in the tmpfs besides those of programs, homes and shares: about 30 are used.
const TMPFS_INODES: usize = 64;
/// The largest time zone that is copied (tzfile(5)), in bytes; the largest of Debian's has 4 KiB.
const MAX_ZONE: u64 = 16 * 1024;
/// How many terminals [`prepare_host`] provides for. A higher number costs a line in sshd's log.
const TERMINALS: u32 = 1024;

/// Makes the directories on the host that all connections need.
///
/// ChrootDirectory must exist before sshd looks, and the terminals' directory is made once for all.
///
/// sshd opens the terminal by name (`/dev/pts/7`) after it has changed root, to check it, and logs
/// an error if it cannot. The host's /dev/pts must not be in the jail: nothing there is the user's.
/// A devpts of its own would give every connection's terminal the number 0 and mix the connections
/// up in utmp, with the administrator's own among them. So each name there is a link to `/dev/tty`,
/// which is each process's own terminal and no other.
///
/// # Errors
/// Fails if a directory or link cannot be made.
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
        // Another login was first; its directory is as good.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            fs::remove_dir_all(&new)
        }
        result => result,
    }
}

fn terminals_dir() -> PathBuf {
    Path::new(RUN_DIR).join("pts")
}

/// Builds the view at [`JAIL_DIR`], in a mount namespace that is already our own; returns notes for
/// the log.
///
/// Call [`seal`] when everything is in its place.
///
/// # Errors
/// Fails if a step does, and says which.
pub fn build(request: &Request, plan: &Plan) -> Result<Vec<String>, Failure> {
    mount::stop_propagation().map_err(|e| format!("cannot cut the jail's mounts off from the host: {e}"))?;
    // Copied before anything is mounted over the directory they come from.
    let terminals = Tree::clone_path(&terminals_dir()).map_err(step("/dev/pts"))?;
    // Before the jail is mounted in it.
    let mut notes = hide_from_pam_and_sshd(plan)?;
    let Programs { shown, notes: more } = programs::find(plan.rsync)?;
    notes.extend(more);
    let root = Path::new(JAIL_DIR);
    // Each needs a file and at most two new directories.
    let inodes = TMPFS_INODES + 3 * shown.len() + plan.most_inodes();
    mount::tmpfs(root, TMPFS_BYTES, u32::try_from(inodes).unwrap_or(u32::MAX)).map_err(step("/"))?;
    for dir in ["dev/pts", "etc", "run"] {
        make(root, dir)?;
    }
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, root.join(link)).map_err(|e| format!("cannot make /{link} of the jail: {e}"))?;
    }
    for (name, content) in files(request, plan) {
        write(root, name, content.as_bytes())?;
    }
    if let Some(zone) = time_zone() {
        write(root, "etc/localtime", &zone)?;
    }
    for Shown { at, file } in &shown {
        show(root, at, file)?;
    }
    attach(terminals, Flags::RO | Flags::NOSUID | Flags::NODEV | Flags::NOEXEC, root, "dev/pts")?;
    device(root, "null", (1, 3))?;
    device(root, "tty", (5, 0))?;
    Ok(notes)
}

/// Shows one file of the host in the jail, and nothing around it.
fn show(root: &Path, at: &str, file: &fs::File) -> Result<(), Failure> {
    make(root, at.rsplit_once('/').map_or("", |(dir, _)| dir))?;
    write(root, at, b"")?;
    let tree =
        Tree::clone_descriptor(file.as_fd()).map_err(|e| format!("cannot mount /{at} for the jail: {e}"))?;
    attach(tree, Flags::RO | Flags::NOSUID | Flags::NODEV, root, at)
}

/// Makes a directory for a home or a share: root's, to be entered but neither listed nor changed.
///
/// # Errors
/// Fails if the directory cannot be made.
pub fn mount_point(root: &Path, at: &str) -> Result<(), Failure> {
    let at = at.trim_start_matches('/');
    make(root, at)?;
    fs::set_permissions(root.join(at), fs::Permissions::from_mode(0o711))
        .map_err(|e| format!("cannot make /{at} of the jail: {e}"))
}

/// Reads the host's time zone, for times in logs and listings. Without one it is UTC.
fn time_zone() -> Option<Vec<u8>> {
    let mut zone = Vec::new();
    let file = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/etc/localtime").ok()?;
    file.metadata().ok().filter(fs::Metadata::is_file)?;
    file.take(MAX_ZONE + 1).read_to_end(&mut zone).ok()?;
    (zone.len() as u64 <= MAX_ZONE && zone.starts_with(b"TZif")).then_some(zone)
}

/// Makes the tmpfs read-only, as the last step.
///
/// # Errors
/// Fails if the kernel refuses.
pub fn seal() -> Result<(), Failure> {
    mount::restrict(Path::new(JAIL_DIR), Flags::RO)
        .map_err(|e| format!("cannot make the jail read-only: {e}"))
}

/// Returns where a path of the jail is for us, outside it.
#[must_use]
pub fn outside(path: &str) -> PathBuf {
    Path::new(JAIL_DIR).join(path.trim_start_matches('/'))
}

/// Returns the files under /etc: enough for getpwuid(3), getgrgid(3) and `localhost` without a
/// lookup elsewhere.
fn files(request: &Request, plan: &Plan) -> [(&'static str, String); 4] {
    let Passwd { name, ids, gecos, dir, shell } =
        Passwd::new(&request.user, request.ids, plan.home_dir.clone());
    let (uid, gid) = (ids.uid(), ids.gid());
    [
        ("etc/passwd", format!("{name}:*:{uid}:{gid}:{gecos}:{dir}:{shell}\n")),
        ("etc/group", format!("{name}:*:{gid}:\n")),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
    ]
}

/// Puts the host's device `name` into the jail, after checking what it is.
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
    write(root, &format!("dev/{name}"), b"")?;
    // Read-only applies to the node's owner and mode, not to what is written to the device.
    attach(tree, Flags::RO | Flags::NOSUID | Flags::NOEXEC, root, &format!("dev/{name}"))?;
    // A host whose /dev is mounted nodev (some containers) is found out here, not by the user.
    match fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(root.join("dev").join(name))
    {
        Ok(_) => Ok(()),
        // There is no terminal to open in this process; the device works.
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

/// Makes a directory and its parents.
fn make(root: &Path, dir: &str) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(root.join(dir))
        .map_err(|e| format!("cannot make /{dir} of the jail: {e}"))
}

fn write(root: &Path, name: &str, content: &[u8]) -> Result<(), Failure> {
    fs::write(root.join(name), content).map_err(|e| format!("cannot write /{name} of the jail: {e}"))
}
