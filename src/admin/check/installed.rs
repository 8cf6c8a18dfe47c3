//! Checks what the package installs: programs, system users and directories, with their owners and
//! permissions.

use super::Finding;
use common::{paths, uid};
use host::rights::Rights;
use nix::unistd::{Group, User};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const TOPIC: &str = "package";
/// The remedy for a file that is missing or damaged.
const REINSTALL: &str = "Reinstall the package: apt install --reinstall jupyterhub-openssh";
/// The remedy for directories that the package's file for systemd-tmpfiles makes.
const TMPFILES: &str = "systemd-tmpfiles --create jupyterhub-openssh.conf";
/// Programs that belong to root, and the permissions that they need at least.
const PROGRAMS: [(&str, u32); 4] = [
    (paths::PROGRAM, 0o555),
    (paths::SESSION_SHELL, 0o111),
    (paths::JAIL_PROGRAM, 0o555),
    (paths::AUTHORIZED_KEYS_PROGRAM, 0o111),
];

/// Checks them all. `remote` is true if keys come from the hub or from a web page.
pub fn check(remote: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        PROGRAMS.iter().filter_map(|(path, mode)| program(Path::new(path), *mode, 0)).collect();
    let users =
        [paths::GATEWAY_USER, paths::KEYS_USER].map(|name| (name, User::from_name(name).ok().flatten()));
    for (name, user) in &users {
        if user.is_none() {
            let what = format!("there is no system user {name}: no session can start");
            findings.push(Finding::error(TOPIC, what, "dpkg-reconfigure jupyterhub-openssh"));
        }
    }
    if let [_, (_, Some(user))] = &users {
        findings.extend(hub_keys(Path::new(paths::HUB_KEYS_PROGRAM), user.uid.as_raw(), remote));
        if remote {
            findings.extend(cache(Path::new(paths::KEYS_CACHE), user.uid.as_raw()));
        }
    }
    findings.extend(group());
    if Rights::of_this_process().own_sshd_config().is_none() {
        for path in [paths::RUN_DIR, paths::JAIL_DIR, paths::UID_DIR] {
            findings.extend(directory(Path::new(path), 0));
        }
        findings.extend(jail(Path::new(paths::JAIL_DIR)));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(TOPIC, "programs, system users and directories are in place"));
    }
    findings
}

/// Checks a program that root or hub users run.
fn program(path: &Path, mode: u32, root: u32) -> Option<Finding> {
    let shown = path.display();
    let Ok(facts) = fs::metadata(path) else {
        return Some(Finding::error(TOPIC, format_args!("there is no program {shown}"), REINSTALL));
    };
    if facts.uid() != root || facts.mode() & 0o022 != 0 {
        return Some(Finding::error(
            TOPIC,
            format_args!("others than root can change {shown}"),
            format_args!("chown root:root {shown}; chmod {:o} {shown}", mode | 0o200 | (mode & 0o100) << 2),
        ));
    }
    (!facts.is_file() || facts.mode() & mode != mode).then(|| {
        Finding::error(TOPIC, format_args!("{shown} cannot be executed by everybody who has to"), REINSTALL)
    })
}

/// Checks `hub-keys`, which is setuid to a system user.
fn hub_keys(path: &Path, owner: u32, used: bool) -> Option<Finding> {
    let shown = path.display();
    let problem = match fs::metadata(path) {
        Err(_) => format!("there is no program {shown}"),
        Ok(facts) if facts.uid() != owner || facts.mode() & 0o6001 != 0o6001 => {
            format!("{shown} does not run as {}", paths::KEYS_USER)
        }
        Ok(facts) if facts.mode() & 0o022 != 0 => format!("others can change {shown}"),
        Ok(_) => return None,
    };
    let keys_user = paths::KEYS_USER;
    let remedy = if path.exists() {
        // dpkg keeps such an override when it upgrades.
        format!(
            "dpkg-statoverride --force-statoverride-add --update --add {keys_user} {keys_user} 6755 {shown}"
        )
    } else {
        REINSTALL.to_owned()
    };
    Some(if used {
        Finding::error(TOPIC, format_args!("{problem}: keys of the hub and of url are not found"), remedy)
    } else {
        Finding::warning(
            TOPIC,
            format_args!("{problem}; keys of the hub and of url would not be found"),
            remedy,
        )
    })
}

/// Checks the cache of answers of the hub and of web pages.
fn cache(path: &Path, owner: u32) -> Option<Finding> {
    let kept = fs::metadata(path).is_ok_and(|facts| facts.is_dir() && facts.uid() == owner);
    let (shown, user) = (path.display(), paths::KEYS_USER);
    (!kept).then(|| {
        Finding::warning(
            TOPIC,
            format_args!("there is no directory {shown} of {user}'s: each login asks the hub and url again"),
            format_args!("install -d -o {user} -g {user} -m 700 {shown}"),
        )
    })
}

/// Checks the group whose members sshd treats as hub users.
fn group() -> Vec<Finding> {
    let name = paths::GROUP;
    match Group::from_name(name) {
        Ok(Some(group)) => {
            let primary = fs::read_to_string("/etc/passwd").unwrap_or_default();
            members(&group.mem, &primary, group.gid.as_raw())
        }
        Ok(None) => vec![Finding::error(
            TOPIC,
            format_args!("there is no group {name}: no hub user is known to sshd"),
            "dpkg-reconfigure jupyterhub-openssh",
        )],
        Err(error) => vec![Finding::unknown(
            TOPIC,
            format_args!("the group {name} could not be looked up: {error}"),
            format_args!("Try: getent group {name}"),
        )],
    }
}

/// Finds local accounts in the group, as members or by their primary group.
fn members(members: &[String], passwd: &str, gid: u32) -> Vec<Finding> {
    let name = paths::GROUP;
    let what =
        |user: &str| format!("the local account {user} is in the group {name}: sshd treats it as a hub user");
    let mut findings: Vec<Finding> = members
        .iter()
        .map(|user| Finding::error(TOPIC, what(user), format_args!("gpasswd -d {user} {name}")))
        .collect();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, id, group, ..] = fields[..] else { continue };
        if group.parse() != Ok(gid) {
            continue;
        }
        // A service may need its group to reach its files, so it gets another one.
        let remedy = if id.parse().is_ok_and(uid::is_allowed) {
            format!("usermod -g users {user}")
        } else {
            format!(
                "Give that service a group of its own: addgroup --system {user}-service; usermod -g {user}-service {user}; \
                 then chgrp its files, and restart it"
            )
        };
        findings.push(Finding::error(TOPIC, what(user), remedy));
    }
    findings
}

/// Checks a directory beneath /run. sshd requires that ChrootDirectory and all directories above it
/// belong to root.
fn directory(path: &Path, root: u32) -> Option<Finding> {
    let fine = fs::symlink_metadata(path).is_ok_and(|facts| {
        facts.is_dir() && facts.uid() == root && facts.permissions().mode() & 0o7777 == 0o755
    });
    let shown = path.display();
    (!fine).then(|| {
        Finding::error(
            TOPIC,
            format_args!(
                "{shown} is not a directory of root's with mode 0755: sshd ends each session of a hub user"
            ),
            TMPFILES,
        )
    })
}

/// Checks that ChrootDirectory is empty on the host: a session program without a jail would see
/// what is in it.
fn jail(path: &Path) -> Option<Finding> {
    let full = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let shown = path.display();
    full.then(|| {
        Finding::error(
            TOPIC,
            format_args!("{shown} is not empty: something is mounted on it or was put there"),
            format_args!(
                "See what it is: findmnt -R {shown}; ls -la {shown}. Unmount what is mounted (umount) before you remove anything"
            ),
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn programs_are_roots_and_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let (path, root) = (dir.path().join("x"), fs::metadata(dir.path()).unwrap().uid());
        let text = |mode, root| program(&path, mode, root).map(|found| found.text());
        assert!(text(0o555, root).unwrap().contains("there is no program"));
        fs::write(&path, "").unwrap();
        chmod(&path, 0o755);
        assert_eq!(text(0o555, root), None);
        assert!(text(0o555, root + 1).unwrap().contains("others than root can change"));
        chmod(&path, 0o775);
        assert!(text(0o555, root).unwrap().contains("chmod 755"));
        chmod(&path, 0o711);
        assert_eq!(text(0o111, root), None);
        assert!(text(0o555, root).unwrap().contains("cannot be executed"));
    }

    #[test]
    fn the_program_with_an_id_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (path, owner) = (dir.path().join("hub-keys"), fs::metadata(dir.path()).unwrap().uid());
        assert!(hub_keys(&path, owner, true).unwrap().text().contains("there is no program"));
        fs::write(&path, "").unwrap();
        chmod(&path, 0o755);
        let found = hub_keys(&path, owner, true).unwrap();
        assert!(
            found.is_error()
                && found.text().contains("does not run as")
                && found.text().contains("dpkg-statoverride")
        );
        assert!(!hub_keys(&path, owner, false).unwrap().is_error());
        chmod(&path, 0o6755);
        assert_eq!(hub_keys(&path, owner, true), None);
        assert!(hub_keys(&path, owner + 1, true).unwrap().is_error());
        chmod(&path, 0o6775);
        assert!(hub_keys(&path, owner, true).unwrap().text().contains("others can change"));
        assert_eq!(cache(dir.path(), owner), None);
        assert!(cache(&path, owner).unwrap().text().contains("asks the hub and url again"));
    }

    #[test]
    fn local_members_are_named() {
        let passwd = "root:x:0:0::/:\nbob:x:1001:990::/:/bin/sh\nshort:x\n:::\nada:x:1000:100:::";
        let texts: Vec<_> = members(&["eve".to_owned()], passwd, 990).iter().map(Finding::text).collect();
        assert!(
            texts.len() == 2
                && texts[0].contains("gpasswd -d eve jupyterhub")
                && texts[1].contains("account bob")
                && texts[1].ends_with("usermod -g users bob")
        );
        // The hub itself may run here, under a name of its own that is its group's.
        let hub = members(&[], "jupyterhub:x:990:990::/:/usr/sbin/nologin", 990).remove(0).text();
        assert!(hub.contains("usermod -g jupyterhub-service jupyterhub;") && hub.contains("chgrp"), "{hub}");
        assert!(members(&[], passwd, 991).is_empty());
    }

    #[test]
    fn directories_are_roots_and_the_jail_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().uid();
        chmod(dir.path(), 0o755);
        assert_eq!(directory(dir.path(), root), None);
        assert_eq!(jail(dir.path()), None);
        assert!(directory(dir.path(), root + 1).is_some());
        assert!(
            directory(&dir.path().join("none"), root).unwrap().text().contains("systemd-tmpfiles --create")
        );
        fs::write(dir.path().join("x"), "").unwrap();
        assert!(jail(dir.path()).unwrap().text().contains("is not empty"));
        assert!(jail(dir.path()).unwrap().text().contains("Unmount what is mounted"));
        chmod(dir.path(), 0o775);
        assert!(directory(dir.path(), root).is_some());
    }
}
