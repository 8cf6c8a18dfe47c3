//! How the file system of the homes is mounted, where that can hurt. Pure but for reading the table of mounts.

use super::Finding;
use super::nss::read;
use std::path::Path;

const TOPIC: &str = "homes";

/// Looks at the mount that `root` is on.
pub fn check(root: &Path) -> Vec<Finding> {
    // Without asking the file system: it may not answer.
    read("/proc/self/mounts").map_or_else(|_| Vec::new(), |mounts| judge(&mounts, root))
}

struct Mount<'t> {
    point: &'t str,
    kind: &'t str,
    options: Vec<&'t str>,
}

/// The mount that a path is on, going by proc_pid_mounts(5): the longest, of several on one point the last.
fn mount_of<'t>(mounts: &'t str, path: &Path) -> Option<Mount<'t>> {
    let all = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        // A space in a mount point is `\040` there: such homes are looked at as far as the mount above.
        path.starts_with(point).then(|| Mount { point, kind, options: options.split(',').collect() })
    });
    all.max_by_key(|mount| mount.point.len())
}

fn judge(mounts: &str, root: &Path) -> Vec<Finding> {
    let Some(Mount { point, kind, options }) = mount_of(mounts, root) else { return Vec::new() };
    let has = |option: &str| options.contains(&option);
    let mut findings = Vec::new();
    if has("ro") {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("{point} is mounted read-only: users cannot change their files by sftp"),
            // The kernel makes a damaged one read-only, which is not to be written to.
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
        for mounts in ["", "\n\n", "x", "a b c", "x /srv\\040homes ext4 ro 0 0"] {
            assert!(judge(mounts, Path::new("/srv homes")).is_empty(), "{mounts}");
        }
    }
}
