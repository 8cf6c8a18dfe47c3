//! Checks whether the file system that belongs at a path is mounted.
//!
//! With `nofail` in /etc/fstab a host boots without its file server, and the homes' mount point is
//! an empty directory. Then every home seems to be missing; none may be created on this host's own
//! disk, and the empty directory must not pass for a share.

use super::Fault;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use wire::claim::HomeFault;

/// How many bytes to read of either file. A mount beyond that counts as missing, so no home is
/// created.
const MAX_TEXT: u64 = 1 << 20;
/// Most mount points above one path to look at.
const MAX_POINTS: usize = 32;

/// Whether links on the way to a path are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// The links are the administrator's.
    Followed,
    /// There may be no links.
    Refused,
}

/// Refuses a path beneath a mount point of /etc/fstab at which nothing is mounted. May block,
/// because it can ask a file system.
///
/// # Errors
/// [`HomeFault::Failed`]: the file system is not mounted. `what` describes `path` for the log.
pub(super) fn check(what: &str, path: &Path, links: Links) -> Result<(), Fault> {
    let failed = |why: &str| Fault::new(HomeFault::Failed, &format!("{what} {}: {why}", path.display()));
    let fstab = match read("/etc/fstab") {
        // Containers have no fstab.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|e| failed(&format!("cannot read /etc/fstab: {e}")))?,
    };
    let real = (links == Links::Followed).then(|| fs::canonicalize(path).ok()).flatten();
    let mut points = above(&fstab, path);
    points.extend(real.iter().flat_map(|real| above(&fstab, real)));
    if points.is_empty() {
        return Ok(());
    }
    let mounts = read("/proc/self/mountinfo").map_err(|e| failed(&format!("cannot read the mounts: {e}")))?;
    match points.iter().find(|point| !is_mounted(&mounts, point)) {
        Some(point) => Err(failed(&format!("/etc/fstab lists {}, and it is not mounted", point.display()))),
        None => Ok(()),
    }
}

fn is_mounted(mounts: &[u8], point: &Path) -> bool {
    // The kernel's paths contain no links; those of fstab may.
    mounted(mounts, point)
        || fs::canonicalize(point).is_ok_and(|real| real != point && mounted(mounts, &real))
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_TEXT).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns the mount points of fstab(5) at or above `path`, other than `/`. Includes those with
/// `noauto`: a file system that is mounted by hand can be missing just as well.
fn above(fstab: &[u8], path: &Path) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        let mut fields = fields(line);
        let device = fields.next()?;
        let point = unescaped(fields.next()?);
        // Skips "none" and "swap", which are not absolute.
        (!device.starts_with(b"#") && point.is_absolute()).then_some(point)
    };
    let lines = fstab.split(|byte| *byte == b'\n');
    lines
        .filter_map(point)
        .filter(|point| point.parent().is_some() && path.starts_with(point))
        .take(MAX_POINTS)
        .collect()
}

/// True if something is mounted at `point`, according to proc_pid_mountinfo(5). An automounter
/// counts: a process that passes it gets the right file system mounted, or an error.
fn mounted(mountinfo: &[u8], point: &Path) -> bool {
    let mut lines = mountinfo.split(|byte| *byte == b'\n');
    lines.any(|line| fields(line).nth(4).is_some_and(|field| unescaped(field) == point))
}

/// Returns the paths of automounters (autofs(5)): passing one waits for its mount.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub fn automounts() -> io::Result<Vec<PathBuf>> {
    read("/proc/self/mountinfo").map(|mounts| automounts_of(&mounts))
}

fn automounts_of(mountinfo: &[u8]) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        let point = fields(line).nth(4)?;
        // After a separator, because the fields before it are optional.
        let kind = fields(line).skip(6).skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"autofs").then(|| unescaped(point))
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(point).collect()
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty())
}

/// Decodes a path in which white space and backslashes are escaped, as in `\040` (getmntent(3)).
#[must_use]
pub fn unescaped(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FSTAB: &[u8] = b"# /etc/fstab: static file system information.\n\
        UUID=0a-1b / ext4 errors=remount-ro 0 1\n\
        UUID=2c none swap sw 0 0\n\
        \n\
        nas:/homes  /srv/homes\tnfs4  nofail,_netdev 0 0\n\
        #nas:/old /srv/old nfs4 defaults 0 0\n  # /srv/old /srv/old\n\
        nas:/auto /srv/auto/ nfs4 noauto,x-systemd.automount 0 0\n\
        /dev/sdb1 /srv/with\\040space\\134\\011 xfs defaults,prjquota 0 2\n\
        /dev/sdc1 /data ext4\n/dev/sdd1\n";

    fn points(path: &str) -> Vec<String> {
        above(FSTAB, Path::new(path)).iter().map(|point| point.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_mount_points_of_a_path_are_found() {
        for (path, expected) in [
            ("/srv/homes", &["/srv/homes"][..]),
            ("/srv/homes/students", &["/srv/homes"]),
            ("/srv/homes2", &[]),
            ("/srv", &[]),
            ("/", &[]),
            ("/srv/old/x", &[]),
            ("/srv/auto/a", &["/srv/auto/"]),
            ("/srv/with space\\\t/homes", &["/srv/with space\\\t"]),
            ("/data/homes", &["/data"]),
            ("none/x", &[]),
        ] {
            assert_eq!(points(path), expected, "{path}");
        }
        let many = "a /a b\n".repeat(100);
        assert_eq!(above(many.as_bytes(), Path::new("/a/b")).len(), MAX_POINTS);
    }

    #[test]
    fn what_is_mounted_is_found() {
        let mounts: &[u8] = b"22 1 0:21 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            40 22 0:35 / /srv/homes rw,nosuid shared:20 - nfs4 nas:/homes rw\n\
            41 22 0:36 / /srv/auto rw shared:21 - autofs systemd-1 rw,fd=51\n\
            42 22 8:17 / /srv/with\\040space\\134\\011 rw - xfs /dev/sdb1 rw\n\
            43 22 0:37 /srv/old /other rw - ext4 /srv/old rw\n";
        assert_eq!(automounts_of(mounts), [Path::new("/srv/auto")]);
        for (point, expected) in [
            ("/", true),
            ("/srv/homes", true),
            ("/srv/homes/", true),
            ("/srv/auto", true),
            ("/srv/with space\\\t", true),
            ("/srv/old", false),
            ("/data", false),
            ("/srv", false),
            ("rw", false),
        ] {
            assert_eq!(mounted(mounts, Path::new(point)), expected, "{point}");
        }
    }

    #[test]
    fn escapes_are_three_octal_digits() {
        for (field, plain) in [
            (&b"a\\040b"[..], &b"a b"[..]),
            (b"\\0401", b" 1"),
            (b"\\043\\134040", b"#\\040"),
            (b"\\04", b"\\04"),
            (b"\\", b"\\"),
            (b"\\400\\089", b"\\400\\089"),
            (b"\\377", b"\xff"),
        ] {
            assert_eq!(unescaped(field).as_os_str().as_encoded_bytes(), plain);
        }
    }

    #[test]
    fn this_host_is_in_order() {
        for links in [Links::Followed, Links::Refused] {
            assert!(check("homes.root", &std::env::current_dir().unwrap(), links).is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(prop_oneof![Just(b'\\'), Just(b' '), Just(b'\n'), Just(b'/'), b'0'..=b'8', any::<u8>()], 0..200)) {
            for point in above(&text, Path::new("/0/1/2")) {
                prop_assert!(Path::new("/0/1/2").starts_with(point));
            }
            mounted(&text, Path::new("/0"));
            automounts_of(&text);
        }
    }
}
