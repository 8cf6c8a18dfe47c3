//! Which of this host's files the user is to see: the home, and shares.

use common::UserName;
use common::homes::Homes;
use common::uid::{Ids, Rule};
use host::config::{Backend, Config, Share};
use host::homes;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::jail::Request;

/// How long homes and shares may take, from the start of the jail.
const TIME: Duration = Duration::from_secs(5);
/// The same if the NSS module may have waited for the home before us, for two seconds.
const TIME_AFTER_NSS: Duration = Duration::from_secs(3);

/// What the jail of one connection is to show.
///
/// The process that mounts and the one that waits for it use the same plan.
pub struct Plan {
    /// The user.
    pub user: UserName,
    /// The user's uid and gid.
    pub ids: Ids,
    /// Where homes are; `None` if this host has none, or doesn't serve them.
    pub homes: Option<Homes>,
    /// Where this host's homes are, served or not: nobody in the jail may see this directory.
    pub root: Option<PathBuf>,
    /// The absolute path of the home in the jail.
    pub home_dir: String,
    /// The path of the home on this host; a local account with this home is the same user.
    pub own_home: Option<PathBuf>,
    /// Whether no other user has the uid, in case a quota has to be set.
    pub owns_uid_alone: bool,
    /// All shares, whatever groups they are for.
    pub shares: Vec<Share>,
    /// Whether other programs than the sftp server serve files, too.
    pub rsync: bool,
    /// How long homes and shares may take.
    pub time: Duration,
    /// When that time is over.
    pub end: Instant,
}

impl Plan {
    /// Returns how many directories and files the mount points of the home and all shares can need.
    #[must_use]
    pub fn most_inodes(&self) -> usize {
        let components = |path: &Path| path.components().count();
        components(Path::new(&self.home_dir))
            + self.shares.iter().map(|share| components(&share.path)).sum::<usize>()
    }

    /// Makes the plan for a request that came at `start`.
    ///
    /// # Errors
    /// Fails if the path of the home would be too long.
    pub fn new(config: Config, request: &Request, start: Instant) -> Result<Self, String> {
        let settings = config.settings;
        let user = request.user.user().clone();
        let home_dir =
            settings.home_dir(&user).map_err(|e| format!("homes.path makes no path of {user}: {e}"))?;
        let own_home = settings.homes.as_ref().map(|homes| homes::open::path(homes, &user).into());
        let time = if settings.accounts == Rule::Home { TIME_AFTER_NSS } else { TIME };
        Ok(Self {
            user,
            ids: request.ids,
            home_dir,
            own_home,
            owns_uid_alone: homes::create::owns_uid_alone(&settings),
            root: settings.homes.as_ref().map(|homes| homes.root.clone()),
            homes: settings.homes.filter(|_| config.files.backend == Backend::Homes),
            shares: config.shares,
            rsync: config.files.rsync,
            time,
            end: start + time,
        })
    }

    /// True if a share would be seen above, in or beneath this user's home.
    ///
    /// The configuration refuses what clashes for every user; with a template, one user's name may
    /// clash all the same.
    #[must_use]
    pub fn clashes(&self, share: &Share) -> bool {
        let home = Path::new(&self.home_dir);
        self.homes.is_some() && (share.path.starts_with(home) || home.starts_with(&share.path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn homes_that_are_not_served_are_not_mounted_but_hidden() {
        let request = format!("user alice\nhandle {}\nuid 20001\ngid 20001\nsshd 4711\n\n", "0a".repeat(32));
        let request = Request::parse(request.as_bytes()).unwrap();
        for (text, mounted, hidden) in [
            ("", false, None),
            ("[homes]\nroot = '/srv/homes'", true, Some("/srv/homes")),
            ("[homes]\nroot = '/srv/homes'\n[files]\nbackend = 'server'", false, Some("/srv/homes")),
        ] {
            let config = Config::from_str(text, Path::new("config.toml")).unwrap();
            let plan = Plan::new(config, &request, Instant::now()).unwrap();
            assert_eq!(
                (plan.homes.is_some(), plan.root.as_deref()),
                (mounted, hidden.map(Path::new)),
                "{text}"
            );
        }
    }
}
