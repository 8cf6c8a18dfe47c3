//! Which rights sshd's user gives our programs: root's, which they use to start and then give up,
//! or those of an ordinary user, as whom a whole bastion can run (`session.jail = "none"`).

use crate::config::{Config, Jail};
use crate::sys::process;
use common::ConfigError;
use common::paths::OWN_SSHD_CONFIG;
use common::uid::Rule;
use nix::unistd::{User, geteuid};
use std::io;
use std::path::Path;

/// The rights of this process at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// sshd runs as root.
    Root,
    /// sshd and everything else run as the user with this uid.
    Ordinary(u32),
}

impl Rights {
    /// Returns the present rights.
    #[must_use]
    pub fn of_this_process() -> Self {
        let uid = geteuid();
        if uid.is_root() { Self::Root } else { Self::Ordinary(uid.as_raw()) }
    }

    /// Returns the uid of sshd and of the bastion's administrator; only they are listened to.
    #[must_use]
    pub fn owner(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Ordinary(uid) => uid,
        }
    }

    /// Checks that a bastion with this configuration can run with these rights: only root can make
    /// a jail, and root's sshd must make one.
    ///
    /// # Errors
    /// The configuration asks for something else.
    pub fn suit(self, config: &Config) -> Result<(), ConfigError> {
        match (self, config.settings.jail) {
            (Self::Root, Jail::Namespaces) => Ok(()),
            (Self::Ordinary(uid), Jail::None) => match config.settings.accounts {
                Rule::Fixed(ids) if ids.uid() == uid => Ok(()),
                _ => Err(ConfigError::new(
                    format!("sshd runs as uid {uid}, and hub users would have another"),
                    format!("Set in [accounts]: uid = \"fixed\" and fixed = [{uid}, 100]."),
                )),
            },
            (Self::Root, Jail::None) => Err(ConfigError::new(
                "session.jail = \"none\", and sshd runs as root: its sessions would not be confined",
                "Remove jail from [session], or run sshd as the user of accounts.fixed.",
            )),
            (Self::Ordinary(uid), Jail::Namespaces) => Err(ConfigError::new(
                format!("a jail of namespaces is made by root only, and this is uid {uid}"),
                "sshd's PAM module runs this as root. Where sshd itself isn't root's: session.jail = \"none\".",
            )),
        }
    }

    /// Returns the sshd configuration file of a bastion whose sshd does not run as root; `None` if
    /// this is not such a bastion.
    #[must_use]
    pub fn own_sshd_config(self) -> Option<&'static str> {
        (self != Self::Root && Path::new(OWN_SSHD_CONFIG).exists()).then_some(OWN_SSHD_CONFIG)
    }

    /// Gives up all privileges for good: root becomes `user`.
    ///
    /// # Errors
    /// There is no such user, a system call failed, or a privilege is left. The caller must exit at
    /// once.
    pub fn give_up(self, user: Option<(u32, u32)>) -> io::Result<()> {
        match (self, user) {
            (Self::Root, Some((uid, gid))) => process::drop_privileges(uid, gid),
            (Self::Root, None) => Err(io::Error::other("there is nobody to become")),
            (Self::Ordinary(_), _) => process::stay_unprivileged(),
        }
    }

    /// Returns whom root becomes in [`Rights::give_up`]: uid and gid of a system user that the
    /// package creates. `None` without root.
    ///
    /// # Errors
    /// There is no such user, or it cannot be looked up.
    pub fn system_user(self, name: &str) -> io::Result<Option<(u32, u32)>> {
        if self != Self::Root {
            return Ok(None);
        }
        let user = User::from_name(name)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such user; reinstall the package"))?;
        Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn root_needs_a_jail_and_nobody_else_can_make_one() {
        let config = |text: &str| Config::from_str(text, Path::new("/c")).unwrap();
        let jail = config("");
        let none = config("[session]\njail = 'none'\n[accounts]\nuid = 'fixed'\nfixed = [1000, 100]");
        assert!(Rights::Root.suit(&jail).is_ok() && Rights::Ordinary(1000).suit(&none).is_ok());
        assert!(Rights::Root.suit(&none).unwrap_err().to_string().contains("not be confined"));
        assert!(Rights::Ordinary(1001).suit(&none).unwrap_err().to_string().contains("[1001, 100]"));
        assert!(Rights::Ordinary(1000).suit(&jail).unwrap_err().to_string().contains("root only"));
        assert_eq!((Rights::Root.owner(), Rights::Ordinary(7).owner()), (0, 7));
        assert!(Rights::Root.give_up(None).is_err());
    }
}
