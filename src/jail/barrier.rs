//! A root directory that only root can enter: without ChrootDirectory a hub user reaches nothing.
//!
//! Nobody can ask the running sshd which configuration it has read: `sshd -T` reads the files as
//! they are now. If the Match block is not in force in that sshd, the user's sshd process is not
//! chrooted and may serve sftp by itself. So the connection's mount namespace gets a root directory
//! of mode
//! 0700. A process that is neither root nor chrooted is refused the first step of every path,
//!       `/proc` and `/tmp` included, from `/` and from its working directory, which is `/`. Root's
//!       part of sshd passes, and so do the PAM modules. A chrooted process is not affected,
//!       because its paths begin in the jail.
//!
//! A `/proc` of its own would show root's part less, too. But root's part needs its own entry
//! there: it looks up the name of a terminal by it (ttyname(3)), and pam_selinux the context.

use super::failure::{Failure, step};
use host::sys::mount::{self, Flags, Tree};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Directories that get a mount of their own in the new root; all other names become links.
///
/// The names of open files (a terminal's, for one) are found by their mounts. These directories are
/// the system's, so no file server is asked for them.
const SYSTEM: [&str; 14] = [
    "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "tmp", "usr", "var",
];
/// Where the host's root is in the new one.
const HOST: &str = ".host";
/// The most names that are taken over from the host's root directory.
const MAX_NAMES: usize = 512;
/// World-writable directories. Root's part of sshd finds them empty, and only it writes there.
const EVERYBODYS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// Any directory that always exists: it is covered for a moment only.
const PLACE: &str = "/proc";

/// Makes the barrier the root directory of every process that joins this mount namespace from now
/// on.
///
/// This process stays behind the barrier, so nobody sees what it mounts afterwards.
///
/// pivot_root(2) can't do this: containers are commonly denied it, and it doesn't leave the
/// kernel's first file system. Instead, the new root, with a copy of all mounts in it, is mounted
/// on top of the old one, and setns(2) begins at the top.
///
/// # Errors
/// Fails if the barrier cannot be built; then there must be no session.
pub fn raise() -> Result<(), Failure> {
    for dir in EVERYBODYS.map(Path::new) {
        if dir.is_dir() {
            mount::tmpfs(dir, 1 << 20, 64).map_err(step("an empty /tmp, /var/tmp or /dev/shm"))?;
        }
    }
    build().map_err(step("a root directory that only root passes"))
}

fn build() -> io::Result<()> {
    let root = Path::new("/");
    let mut links = Vec::new();
    for entry in fs::read_dir(root)?.take(MAX_NAMES) {
        let entry = entry?;
        // The type comes from the directory itself: nothing that may be mounted there is asked.
        let target = if entry.file_type()?.is_symlink() {
            fs::read_link(entry.path())?
        } else {
            Path::new(HOST).join(entry.file_name())
        };
        links.push((entry.file_name(), target));
    }
    let clone = |path: &Path| Tree::clone_descriptor(File::open(path)?.as_fd());
    let host = clone(root)?;
    let mut system = Vec::new();
    for name in SYSTEM {
        let path = root.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            system.push((name, clone(&path)?));
        }
    }
    let place = Path::new(PLACE);
    mount::tmpfs_of_mode(place, 0o700, 16 << 10, u32::try_from(links.len() + 4).unwrap_or(u32::MAX))?;
    fs::create_dir(place.join(HOST))?;
    for (name, tree) in system {
        fs::create_dir(place.join(name))?;
        tree.attach(&place.join(name))?;
    }
    for (name, target) in links {
        if name != HOST && !place.join(&name).is_dir() {
            symlink(target, place.join(name))?;
        }
    }
    host.attach(&place.join(HOST))?;
    mount::restrict(place, Flags::RO)?;
    mount::relocate(place, root)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::mounter::tests::{leave, root};
    use super::*;
    use host::sys::process::in_child;
    use nix::sched::{CloneFlags, setns};
    use nix::unistd::{Gid, Uid, setgid, setuid};
    use std::io::ErrorKind;
    use std::os::fd::AsRawFd;

    #[test]
    fn root_passes_and_nobody_else() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(in_child(|| {
            leave();
            mount::stop_propagation().unwrap();
            // The namespace as we stay in it, to join it again.
            let before = File::open("/proc/self/ns/mnt").unwrap();
            raise().unwrap();
            assert!(fs::read_dir("/").unwrap().count() > 1 && !Path::new("/.host").exists());
            setns(before, CloneFlags::CLONE_NEWNS).unwrap();
            assert!(Path::new("/.host/etc").exists());
            assert!(fs::read_to_string("/etc/passwd").unwrap().starts_with("root:"));
            assert!(Path::new("/proc/self/status").exists() && fs::read_dir("/proc/self/fd").is_ok());
            assert!(!dir.path().exists() && fs::read_dir("/tmp").unwrap().count() == 0);
            assert!(fs::create_dir("/new").is_err());
            let null = File::open("/dev/null").unwrap();
            let name = format!("/proc/self/fd/{}", null.as_raw_fd());
            assert_eq!(fs::read_link(name).unwrap(), Path::new("/dev/null"));
            setgid(Gid::from_raw(65534)).unwrap();
            setuid(Uid::from_raw(65534)).unwrap();
            for path in ["/etc/passwd", "/proc", "/tmp", "/usr", "etc", ".", ".host/etc", "/../etc"] {
                let denied = fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
                assert!(denied, "{path}");
            }
            assert!(fs::read_dir("/").is_err());
        }));
    }
}
