//! Checks that sshd finds hub users, and local accounts before them: /etc/nsswitch.conf, the NSS
//! module, nscd.

use super::Finding;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const TOPIC: &str = "nss";
const NSSWITCH: &str = "/etc/nsswitch.conf";
const NSCD: &str = "/etc/nscd.conf";
/// The socket of nscd.
const NSCD_SOCKET: &str = "/run/nscd/socket";
/// The module's name in nsswitch.conf.
const MODULE: &str = "jupyterhub";
/// The module's file.
const MODULE_FILE: &str = "libnss_jupyterhub.so.2";
/// Longest file that is read, in bytes.
const MAX_FILE: usize = 64 << 10;

/// Checks all three.
pub fn check() -> Vec<Finding> {
    let mut findings = match read(NSSWITCH) {
        Ok(text) => databases(&text),
        Err(error) => vec![Finding::unknown(
            TOPIC,
            format_args!("cannot read {NSSWITCH}: {error}"),
            "Make it readable for everybody: chmod 644 /etc/nsswitch.conf",
        )],
    };
    findings.extend(module(&library_directories(), 0));
    if fs::metadata(NSCD_SOCKET).is_ok() {
        findings.extend(nscd(&read(NSCD).unwrap_or_default()));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(TOPIC, "hub users come last in nsswitch.conf, and the module is there"));
    }
    findings
}

/// Reads a configuration file of the system as text.
///
/// # Errors
/// The file cannot be read, or is longer than 64 KiB.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = fs::read(path)?;
    if bytes.len() > MAX_FILE {
        return Err(io::Error::other("it is longer than 64 KiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The directories of the system's shared libraries. Debian has one more for each architecture.
pub fn library_directories() -> Vec<PathBuf> {
    let multiarch = |base: &str| {
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    let mut found = multiarch("/usr/lib");
    found.extend(multiarch("/lib"));
    found.extend(["/usr/lib", "/usr/lib64", "/lib64", "/lib"].map(PathBuf::from));
    found
}

/// Checks that nsswitch.conf(5) names our module, as the last one.
fn databases(text: &str) -> Vec<Finding> {
    ["passwd", "group", "initgroups"].into_iter().filter_map(|name| database(text, name)).collect()
}

/// Checks the line of one database.
fn database(text: &str, name: &str) -> Option<Finding> {
    let line = text.lines().rev().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, services)| services)
    });
    let services: Vec<&str> = match line {
        Some(services) => services.split_whitespace().collect(),
        // Without this line glibc uses the line `group`.
        None if name == "initgroups" => return None,
        None => Vec::new(),
    };
    let others: Vec<&str> = services.iter().copied().filter(|word| *word != MODULE).collect();
    let others = if others.is_empty() { vec!["files"] } else { others };
    let write = format!("Write into {NSSWITCH}: \"{name}: {} {MODULE}\"", others.join(" "));
    let Some(at) = services.iter().position(|word| *word == MODULE) else {
        let what =
            format!("hub users are unknown to this host: {NSSWITCH} has no {MODULE} in its line {name}");
        return Some(Finding::error(TOPIC, what, write));
    };
    if services.iter().skip(at + 1).any(|word| !word.starts_with('[')) {
        let what = format!(
            "{MODULE} is not the last in the line {name} of {NSSWITCH}: a hub user could take the place of an account \
             that comes behind it"
        );
        return Some(Finding::error(TOPIC, what, write));
    }
    // "[NOTFOUND=return]" ends the search if the service before it doesn't know the user.
    let stops = |word: &&&str| {
        let action = word.to_ascii_lowercase().replace(' ', "");
        action.contains("notfound=return") || action.contains("!success=return")
    };
    services.iter().take(at).find(stops).map(|action| {
        Finding::error(
            TOPIC,
            format_args!("{action} in the line {name} of {NSSWITCH} ends the search before {MODULE}"),
            format_args!("Remove {action} from that line"),
        )
    })
}

/// Checks that the module is installed, and that only `root` can change it.
fn module(directories: &[PathBuf], root: u32) -> Option<Finding> {
    const REINSTALL: &str = "Reinstall the package: apt install --reinstall jupyterhub-openssh";
    let Some((path, facts)) = directories.iter().find_map(|directory| {
        let path = directory.join(MODULE_FILE);
        fs::metadata(&path).ok().map(|facts| (path, facts))
    }) else {
        let what = format!("hub users are unknown to this host: the NSS module {MODULE_FILE} is missing");
        return Some(Finding::error(TOPIC, what, REINSTALL));
    };
    let shown = path.display();
    if !facts.is_file() || facts.uid() != root || facts.mode() & 0o022 != 0 {
        return Some(Finding::error(
            TOPIC,
            format_args!("others than root can change {shown}, which every program on this host loads"),
            REINSTALL,
        ));
    }
    let mut magic = [0; 4];
    let elf = fs::File::open(&path).and_then(|mut file| io::Read::read_exact(&mut file, &mut magic)).is_ok()
        && magic == *b"\x7fELF";
    (facts.mode() & 0o444 != 0o444 || !elf).then(|| {
        Finding::error(TOPIC, format_args!("the NSS module {shown} cannot be loaded by everybody"), REINSTALL)
    })
}

/// Checks that a running nscd(8) doesn't answer for accounts. The module answers only in sshd, so
/// nscd knows no hub users.
fn nscd(text: &str) -> Option<Finding> {
    let enabled = |database: &str| {
        text.lines().rev().find_map(|line| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            (words.next() == Some("enable-cache") && words.next() == Some(database))
                .then(|| words.next() == Some("yes"))
        }) == Some(true)
    };
    let cached: Vec<&str> = ["passwd", "group"].into_iter().filter(|name| enabled(name)).collect();
    (!cached.is_empty()).then(|| {
        Finding::warning(
            TOPIC,
            format_args!("nscd caches {}: it answers sshd that there are no hub users", cached.join(" and ")),
            format_args!(
                "Set enable-cache {} no in {NSCD}, then: systemctl restart nscd",
                cached.join(" no and enable-cache ")
            ),
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn found(text: &str) -> Vec<String> {
        databases(text).iter().map(Finding::text).collect()
    }

    #[test]
    fn our_module_comes_last_in_each_line() {
        const GROUP: &str = "group: files jupyterhub\n";
        for good in [
            "passwd:\t files  jupyterhub # ours",
            "passwd: files [NOTFOUND=continue] sss jupyterhub [SUCCESS=return]",
            "#passwd: files\n  passwd : files systemd jupyterhub",
            // The last line counts.
            "passwd: files\npasswd: files jupyterhub",
        ] {
            assert!(found(&format!("{good}\n{GROUP}")).is_empty(), "{good}");
        }
        for (bad, what, remedy) in [
            ("passwd: files", "no jupyterhub in its line passwd", "\"passwd: files jupyterhub\""),
            ("", "no jupyterhub in its line passwd", "\"passwd: files jupyterhub\""),
            (
                "passwd: files # jupyterhub",
                "no jupyterhub in its line passwd",
                "\"passwd: files jupyterhub\"",
            ),
            ("passwd: files notjupyterhub", "no jupyterhub", "\"passwd: files notjupyterhub jupyterhub\""),
            (
                "passwd: files jupyterhub sss",
                "is not the last in the line passwd",
                "\"passwd: files sss jupyterhub\"",
            ),
            ("passwd: jupyterhub files", "is not the last", "\"passwd: files jupyterhub\""),
            (
                "passwd: files [NOTFOUND=return] jupyterhub",
                "ends the search before",
                "Remove [NOTFOUND=return]",
            ),
            (
                "passwd: files [!SUCCESS=return] jupyterhub",
                "ends the search before",
                "Remove [!SUCCESS=return]",
            ),
            (
                "initgroups: files\npasswd: files jupyterhub",
                "its line initgroups",
                "\"initgroups: files jupyterhub\"",
            ),
        ] {
            let found = found(&format!("{bad}\n{GROUP}"));
            assert!(
                found.len() == 1 && found[0].contains(what) && found[0].contains(remedy),
                "{bad}: {found:?}"
            );
        }
        assert_eq!(found("\0\u{202e}:::\n: :\npasswd").len(), 2);
    }

    #[test]
    fn nscd_may_run_but_not_for_accounts() {
        for good in [
            "",
            "enable-cache hosts yes",
            "enable-cache passwd no\nenable-cache group no",
            "#enable-cache passwd yes",
            "enable-cache passwd yes\nenable-cache passwd no",
        ] {
            assert_eq!(nscd(good), None, "{good}");
        }
        let text = nscd("\tenable-cache\t\tpasswd\t\tyes\n enable-cache group yes # x").unwrap().text();
        assert!(text.contains("caches passwd and group"), "{text}");
        assert!(
            text.contains("Set enable-cache passwd no and enable-cache group no in /etc/nscd.conf"),
            "{text}"
        );
    }

    #[test]
    fn the_module_is_roots_and_a_library() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().uid();
        let at = [dir.path().join("none"), dir.path().to_owned()];
        let text = |root| module(&at, root).map(|found| found.text());
        assert!(text(root).unwrap().contains("is missing"));
        let path = dir.path().join(MODULE_FILE);
        fs::write(&path, "\x7fELF and more").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(text(root), None);
        assert!(text(root + 1).unwrap().contains("others than root can change"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(text(root).unwrap().contains("cannot be loaded"));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(text(root).unwrap().contains("cannot be loaded"));
    }
}
