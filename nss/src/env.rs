//! The files that the module looks at: the host's, or a test's.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::paths;

use crate::home;

/// The programs of OpenSSH that look up the login's user, with Debian's paths: sshd up to 9.7,
/// sshd-session since 9.8, sshd-auth since 10.0.
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth"];

/// The suffix that proc(5) adds to the name of a program whose file was replaced while it runs, as
/// in an upgrade.
///
/// A file of that name is no way around: only root can make one in these directories.
const DELETED: &str = " (deleted)";

/// The places that the module looks at.
pub struct Env {
    /// The configuration file.
    pub config: PathBuf,
    /// The group file, group(5).
    pub group: PathBuf,
    /// The directory of uids that have had a session, [`paths::UID_DIR`].
    pub uid_dir: PathBuf,
    /// A symbolic link to the program that this process runs.
    pub exe: PathBuf,
    /// The uid that must own the configuration and `uid_dir`.
    pub trusted: u32,
    /// Finds the owner of a home.
    pub owner: fn(&Path, &str) -> home::Owner,
}

impl Env {
    /// The places on this host.
    pub fn host() -> Self {
        Self {
            config: paths::CONFIG_FILE.into(),
            group: "/etc/group".into(),
            uid_dir: paths::UID_DIR.into(),
            exe: "/proc/self/exe".into(),
            trusted: 0,
            owner: home::owner,
        }
    }

    /// True if this process is sshd; false without /proc, as in a chroot.
    ///
    /// In a mount namespace of their own, users can give another program one of these names and
    /// look up hub users with it. That reveals nothing: the answer follows from the name and the
    /// configuration.
    pub fn is_sshd(&self) -> bool {
        let Ok(exe) = fs::read_link(&self.exe) else { return false };
        let exe = exe.as_os_str().as_bytes();
        let exe = exe.strip_suffix(DELETED.as_bytes()).unwrap_or(exe);
        SSHD.iter().any(|sshd| sshd.as_bytes() == exe)
    }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use tempfile::TempDir;

    /// A host in a directory: sshd runs, the group exists, the configuration is empty.
    pub fn sandbox() -> (TempDir, Env) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("uids")).unwrap();
        fs::set_permissions(at("uids"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("group"), "root:x:0:\njupyterhub:x:990:\n").unwrap();
        symlink("/usr/sbin/sshd", at("exe")).unwrap();
        let env = Env {
            config: at("config.toml"),
            group: at("group"),
            uid_dir: at("uids"),
            exe: at("exe"),
            trusted: fs::metadata(dir.path()).unwrap().uid(),
            owner: home::owner,
        };
        configure(&env, "");
        (dir, env)
    }

    /// Writes the configuration.
    pub fn configure(env: &Env, text: &str) {
        fs::write(&env.config, text).unwrap();
        fs::set_permissions(&env.config, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Makes the process look like another program.
    pub fn run_as(env: &Env, program: &str) {
        fs::remove_file(&env.exe).unwrap();
        symlink(program, &env.exe).unwrap();
    }

    #[test]
    fn sshd_is_known_by_its_whole_path() {
        let (_dir, env) = sandbox();
        for (program, expected) in [
            ("/usr/sbin/sshd", true),
            ("/usr/lib/openssh/sshd-session", true),
            ("/usr/lib/openssh/sshd-auth", true),
            ("/usr/sbin/sshd (deleted)", true),
            ("/usr/sbin/sshd (deleted) (deleted)", false),
            ("/usr/sbin/sshd2", false),
            ("/home/eve/usr/sbin/sshd", false),
            ("/usr/local/sbin/sshd", false),
            ("sshd", false),
            ("/usr/bin/ls", false),
        ] {
            run_as(&env, program);
            assert_eq!(env.is_sshd(), expected, "{program}");
        }
        fs::remove_file(&env.exe).unwrap();
        assert!(!env.is_sshd());
        assert!(!Env::host().is_sshd());
    }
}
