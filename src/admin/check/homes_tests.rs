//! The directory of homes on this host's own disk, in good order and not.
#![allow(clippy::unwrap_used)]
use super::*;
use std::os::unix::fs::{PermissionsExt, chown};

/// The findings for homes in `root` with these keys; `true` if a finding is an error.
fn findings(root: &Path, homes: &str, accounts: &str) -> Vec<(bool, String)> {
    let text = format!("[homes]\nroot = '{}'\n{homes}\n[accounts]\n{accounts}", root.display());
    let config = Config::from_str(&text, Path::new("config.toml")).unwrap();
    check_with(&config, |_, _| Vec::new())
        .into_iter()
        .map(|finding| (finding.is_error(), finding.text()))
        .collect()
}

fn one(root: &Path, homes: &str, accounts: &str) -> (bool, String) {
    let found = findings(root, homes, accounts);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

fn sandbox() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn home(path: &Path, uid: u32) {
    fs::create_dir_all(path).unwrap();
    chown(path, Some(uid), Some(100)).unwrap();
}

/// Only root can give files away; CI runs as root.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn the_directory_of_homes_must_be_there() {
    let dir = sandbox();
    let good = format!("homes: {} is in order", dir.path().display());
    assert_eq!(one(dir.path(), "", ""), (false, good));
    let (broken, text) = one(&dir.path().join("none"), "", "");
    assert!(broken && text.contains("/none: No such file or directory. Mount the file system"), "{text}");
    fs::write(dir.path().join("file"), "").unwrap();
    let (broken, text) = one(&dir.path().join("file"), "", "");
    assert!(broken && text.contains("/file: Not a directory. "), "{text}");
    let (broken, text) = one(dir.path(), "template = 'students/{username}'", "");
    assert!(broken && text.contains("/students: No such file or directory. Make it a directory"), "{text}");
    let config = Config::from_str("", Path::new("config.toml")).unwrap();
    assert_eq!(
        check_with(&config, |_, _| Vec::new()),
        [Finding::fine(TOPIC, "none on this host (homes.root is not set)")]
    );
}

#[test]
fn owners_are_what_the_rule_says() {
    if !is_root() {
        return;
    }
    let dir = sandbox();
    let at = |name: &str| dir.path().join(name);
    home(&at("alice"), 1000);
    home(&at("lost+found"), 0);
    fs::write(at("notes"), "").unwrap();
    let fine = (false, format!("homes: {} is in order", dir.path().display()));
    assert_eq!(one(dir.path(), "", "uid = 'home'"), fine);
    assert_eq!(one(dir.path(), "", "uid = 'fixed'\nfixed = [1000, 100]"), fine);
    let (broken, text) = one(dir.path(), "", "uid = 'hash'");
    assert!(
        broken && text.contains("1 of 1 directories in ") && text.contains("alice of 1000:100"),
        "{text}"
    );
    assert!(text.ends_with("set uid in [accounts] to \"home\""), "{text}");
    assert!(one(dir.path(), "", "uid = 'fixed'\nfixed = [2000, 100]").0);
    assert_eq!(
        one(dir.path(), "template = '{slug}'", "uid = 'hash'"),
        fine,
        "whose it is cannot be told from a slug"
    );
    home(&at("alice"), 2_089_708_914);
    assert_eq!(one(dir.path(), "", "uid = 'hash'"), fine);
    home(&at("shared"), 0);
    let (broken, text) = one(dir.path(), "", "uid = 'home'");
    assert!(!broken && text.contains("1 of 2 directories") && text.contains("shared of 0:100"), "{text}");
}

#[test]
fn homes_whose_keys_do_not_count_are_named() {
    let dir = sandbox();
    let home = dir.path().join("alice");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let found = || {
        let text = format!(
            "[homes]\nroot = '{}'\n[accounts]\nuid = 'hash'\n[keys]\nservice_token_file = '/t'",
            dir.path().display()
        );
        let config = Config::from_str(&text, Path::new("config.toml")).unwrap();
        let found = check_with(&config, |_, _| Vec::new());
        found.iter().any(|found| found.text().contains("can write to 1 homes"))
    };
    chmod(&home, 0o755);
    chmod(&home.join(".ssh"), 0o700);
    assert!(!found());
    chmod(&home.join(".ssh"), 0o770);
    assert!(found());
    chmod(&home.join(".ssh"), 0o700);
    chmod(&home, 0o775);
    assert!(found());
    fs::remove_dir(home.join(".ssh")).unwrap();
    assert!(!found(), "without keys it concerns nobody");
}

#[test]
fn homes_are_made_where_root_alone_can_write() {
    if !is_root() {
        return;
    }
    let dir = sandbox();
    const CREATE: &str = "missing = 'create'";
    assert!(!one(dir.path(), CREATE, "").0);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let (broken, text) = one(dir.path(), CREATE, "");
    assert!(
        broken && text.contains("others than root can write to ") && text.contains("chmod go-w"),
        "{text}"
    );
    assert!(!one(dir.path(), "", "").0, "nothing is made there");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(dir.path(), Some(1000), None).unwrap();
    assert!(one(dir.path(), CREATE, "").0);
    chown(dir.path(), Some(0), None).unwrap();
    let (broken, text) = one(dir.path(), "missing = 'create'\ntemplate = '{username}/work'", "");
    assert!(!broken && text.contains("a missing home is made only if"), "{text}");
}

#[test]
fn what_new_homes_get_is_looked_at() {
    if !is_root() {
        return;
    }
    let (dir, skel) = (sandbox(), sandbox());
    let keys = |path: &Path| format!("missing = 'create'\nskeleton = '{}'", path.display());
    assert!(!one(dir.path(), &keys(skel.path()), "").0);
    let (broken, text) = one(dir.path(), &keys(&skel.path().join("none")), "");
    assert!(broken && text.contains("homes.skeleton ") && text.contains("remove skeleton"), "{text}");
    chown(skel.path(), Some(1000), None).unwrap();
    let (broken, text) = one(dir.path(), &keys(skel.path()), "");
    assert!(!broken && text.contains("others than root can change what new homes get"), "{text}");
    let quota = "missing = 'create'\nquota = ['1G', '2G']";
    for (broken, text) in findings(dir.path(), quota, "") {
        // If the tests run on a file system with quotas, nothing is wrong.
        assert_eq!(broken, text.contains("missing homes are not made: quota is set, but"), "{text}");
    }
}
