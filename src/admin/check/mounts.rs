//! Checks how the file systems of homes and shares are mounted. Pure, except that it reads
//! /proc/self/mounts and /etc/fstab.

use super::Finding;
use super::nss::read;
use host::homes::mounted::unescaped;
use std::path::{Path, PathBuf};

const TOPIC: &str = "homes";
/// Longest line of /etc/fstab that is repeated in a remedy, in bytes.
const MAX_OPTIONS: usize = 200;

/// Checks the mount that `root` is on.
pub fn check(root: &Path) -> Vec<Finding> {
    // Doesn't ask the file system, which may not answer.
    read("/proc/self/mounts").map_or_else(|_| Vec::new(), |mounts| judge(&mounts, root))
}

/// Checks whether setuid programs and devices that users put into `real` work for this host's
/// accounts. Outside of the jails only mount options prevent it.
///
/// `real` is a path without links. `what` names the directory's purpose.
pub fn open_to_accounts(topic: &str, what: &str, real: &Path) -> Option<Finding> {
    let mounts = read("/proc/self/mounts").ok()?;
    let fstab = read("/etc/fstab").unwrap_or_default();
    judge_open(&mounts, &fstab, real).map(|(what_is, remedy)| {
        let what = format!(
            "{what_is}: setuid programs and devices that users bring into {what} count for this host's accounts"
        );
        Finding::error(topic, what, remedy)
    })
}

/// A mounted file system.
struct Mount<'t> {
    point: PathBuf,
    kind: &'t str,
    options: Vec<&'t str>,
}

impl<'t> Mount<'t> {
    /// Parses a line of proc_pid_mounts(5) or fstab(5).
    fn of(line: &'t str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        fields.next().filter(|device| !device.starts_with('#'))?;
        let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { point: unescaped(point.as_bytes()), kind, options: options.split(',').collect() })
    }

    fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    /// True if setuid programs and devices don't work there, or nobody can put any there. On an
    /// automounter's directory nobody can; what it mounts is a mount of its own.
    fn is_closed(&self) -> bool {
        self.has("ro") || self.kind == "autofs" || (self.has("nosuid") && self.has("nodev"))
    }
}

/// The mount that a path is on: the deepest one, and if several are on one point, the last of them.
fn mount_of<'t>(mounts: &'t str, path: &Path) -> Option<Mount<'t>> {
    let all = mounts.lines().filter_map(Mount::of).filter(|mount| path.starts_with(&mount.point));
    all.max_by_key(|mount| mount.point.components().count())
}

/// Judges the mount that `path` is on, and those beneath it: what is wrong, and what to do.
fn judge_open(mounts: &str, fstab: &str, path: &Path) -> Option<(String, String)> {
    let beneath = || {
        let all = mounts.lines().filter_map(Mount::of);
        all.filter(|mount| mount.point.starts_with(path) && mount.point != path)
    };
    let on = mount_of(mounts, path)?;
    let mount = if on.is_closed() { beneath().find(|mount| !mount.is_closed())? } else { on };
    let (point, shown) = (mount.point.display(), path.display());
    let what = format!("{point} is mounted without nosuid,nodev");
    if path.starts_with(&mount.point) && path != mount.point {
        // A directory of a larger file system, such as this host's root, which needs its setuid
        // programs. A bind mount of the directory on itself helps, unless something is mounted
        // beneath it, which the bind mount would hide.
        let line = escaped(&shown.to_string());
        return Some((
            format!("{shown} is on {point}, which is mounted without nosuid,nodev"),
            if beneath().next().is_some() {
                format!("Give {shown} a file system of its own, mounted with nosuid,nodev")
            } else {
                format!(
                    "Put into /etc/fstab: \"{line} {line} none bind,nosuid,nodev 0 0\"; then: mount {}",
                    quoted(&shown)
                )
            },
        ));
    }
    let point = quoted(&point);
    let remount = format!("mount -o remount,nosuid,nodev {point}");
    let listed = fstab.lines().rfind(|line| Mount::of(line).is_some_and(|one| one.point == mount.point));
    Some((
        what,
        match listed.map(with_options).filter(|line| line.len() < MAX_OPTIONS) {
            Some(line) => format!("Write in /etc/fstab: \"{line}\"; then: {remount}"),
            None => format!(
                "{remount}; and the same options where it is mounted from, as /etc/fstab does not list it"
            ),
        },
    ))
}

/// Adds both options to a line of fstab(5).
fn with_options(line: &str) -> String {
    let fields = line.split_whitespace().enumerate();
    let fields =
        fields.map(|(at, field)| if at == 3 { format!("{field},nosuid,nodev") } else { field.to_owned() });
    fields.collect::<Vec<_>>().join(" ")
}

/// Quotes a path for a shell.
fn quoted(path: &impl ToString) -> String {
    let path = path.to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:=,".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// Escapes a path for fstab(5).
fn escaped(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011")
}

/// Judges the options of the mount that `root` is on.
fn judge(mounts: &str, root: &Path) -> Vec<Finding> {
    let Some(mount) = mount_of(mounts, root) else { return Vec::new() };
    let (point, kind, options) = (mount.point.display(), mount.kind, &mount.options);
    let has = |option: &str| mount.has(option);
    let mut findings = Vec::new();
    if has("ro") {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{point} is mounted read-only: users cannot change their files by sftp"),
            // The kernel makes a damaged file system read-only; that one must not be remounted.
            format_args!("See why it is (dmesg; /etc/fstab); if it is sound: mount -o remount,rw {point}"),
        ));
    }
    if !kind.starts_with("nfs") {
        return findings;
    }
    if has("soft") || has("softerr") {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{point} is mounted \"soft\": while the file server is slow, writes fail, and files are left incomplete"),
            format_args!("Mount {point} \"hard\": a server that hangs costs a login five seconds, and nobody anything else"),
        ));
    }
    if has("nolock") || has("local_lock=all") {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{point} is mounted with locks of this host's own: users' servers don't see them, and both may change a file"),
            format_args!("Mount {point} without nolock and local_lock"),
        ));
    }
    if let Some(version) =
        options.iter().find_map(|option| option.strip_prefix("vers=")).filter(|text| text.starts_with('2'))
    {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{point} is mounted by NFS {version}, which cuts files off at 2 GB"),
            "Mount it with vers=4.2, or 3",
        ));
    }
    findings
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(options: &str, kind: &str) -> String {
        let mounts = format!(
            "/dev/sda / ext4 ro 0 0\nold /srv/homes ext4 ro 0 0\nserver:/x /srv/homes {kind} {options} 0 0\ny /srv/homes2 nfs soft 0 0\n"
        );
        judge(&mounts, Path::new("/srv/homes/students")).iter().map(|found| found.text() + "\n").collect()
    }

    #[test]
    fn only_options_that_hurt_are_named() {
        for good in [
            "rw,relatime,vers=4.2,hard,proto=tcp,timeo=600,noexec,softreval",
            "rw,vers=3,hard,local_lock=none",
        ] {
            assert_eq!(found(good, "nfs4"), "");
        }
        assert!(found("rw,vers=4.2,soft", "nfs4").contains("/srv/homes is mounted \"soft\""));
        assert!(found("rw,softerr", "nfs").contains("\"soft\""));
        assert!(found("rw,vers=3,nolock,local_lock=all", "nfs").contains("locks of this host's own"));
        assert!(found("rw,vers=2", "nfs").contains("NFS 2"));
        assert_eq!(found("ro,soft,nolock", "nfs").lines().count(), 3);
        assert!(found("ro", "ext4").contains("mounted read-only"));
        assert_eq!(found("rw,soft", "cifs"), "");
    }

    #[test]
    fn nonsense_is_no_mount() {
        for mounts in ["", "\n\n", "x", "a b c", "# /srv ext4 ro"] {
            assert!(judge(mounts, Path::new("/srv homes")).is_empty(), "{mounts}");
            assert_eq!(judge_open(mounts, mounts, Path::new("/srv homes")), None, "{mounts}");
        }
        assert_eq!(judge("x /srv\\040homes ext4 ro 0 0", Path::new("/srv homes")).len(), 1);
    }

    const MOUNTS: &str = "/dev/sda / ext4 rw 0 0\nnas:/h /srv/homes nfs4 rw,vers=4.2 0 0\nnas:/s /srv/safe nfs4 rw,nosuid,nodev 0 0\n\
                          nas:/r /srv/read nfs4 ro,relatime 0 0\nnas:/a /srv/safe/alice nfs4 rw,nosuid 0 0\n\
                          auto /srv/auto autofs rw 0 0\nx /srv/auto/bob nfs rw,nodev,nosuid 0 0\n\
                          x /srv/many/bob nfs rw 0 0\ny /srv/a\\040b ext4 rw 0 0\n";

    fn open(path: &str, fstab: &str) -> Option<String> {
        judge_open(MOUNTS, fstab, Path::new(path)).map(|(what, remedy)| format!("{what}. {remedy}"))
    }

    #[test]
    fn a_mount_without_both_options_is_told_with_its_line() {
        let fstab = "# old /srv/homes nfs4 defaults\nnas:/h\t/srv/homes nfs4 nofail 0 0\nx /srv/a\\040b ext4 defaults 0 2\n";
        assert_eq!(
            open("/srv/homes", fstab).unwrap(),
            "/srv/homes is mounted without nosuid,nodev. Write in /etc/fstab: \"nas:/h /srv/homes nfs4 \
             nofail,nosuid,nodev 0 0\"; then: mount -o remount,nosuid,nodev /srv/homes"
        );
        assert!(open("/srv/homes", "").unwrap().contains("as /etc/fstab does not list it"));
        assert!(
            open("/srv/a b", fstab).unwrap().contains("\"x /srv/a\\040b ext4 defaults,nosuid,nodev 0 2\"")
        );
        assert!(open("/srv/a b", fstab).unwrap().ends_with("mount -o remount,nosuid,nodev '/srv/a b'"));
        for fine in ["/srv/read", "/srv/read/x", "/srv/auto", "/srv/safe/bob"] {
            assert_eq!(open(fine, fstab), None, "{fine}");
        }
    }

    #[test]
    fn a_directory_of_a_larger_file_system_is_mounted_on_itself() {
        assert_eq!(
            open("/data/a b", "").unwrap(),
            "/data/a b is on /, which is mounted without nosuid,nodev. Put into /etc/fstab: \"/data/a\\040b /data/a\\040b none \
             bind,nosuid,nodev 0 0\"; then: mount '/data/a b'"
        );
        assert!(
            open("/srv/homes/students", "")
                .unwrap()
                .contains("\"/srv/homes/students /srv/homes/students none")
        );
        // That would hide what is mounted in it.
        let many = open("/srv/many", "").unwrap();
        assert!(
            many.ends_with("Give /srv/many a file system of its own, mounted with nosuid,nodev"),
            "{many}"
        );
    }

    #[test]
    fn mounts_in_the_directory_count_too() {
        let found = open("/srv/safe", "").unwrap();
        assert!(
            found.starts_with("/srv/safe/alice is mounted without")
                && found.contains("nodev /srv/safe/alice;"),
            "{found}"
        );
    }
}
