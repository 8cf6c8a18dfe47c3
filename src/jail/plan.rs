//! What of this host's files a session is to see: its home, and shares.

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
/// The same when the NSS module may have waited for the home before us, for two seconds.
const TIME_AFTER_NSS: Duration = Duration::from_secs(3);

/// The plan for one session, the same in the process that mounts and in the one that waits for it.
pub struct Plan {
    /// Whose home.
    pub user: UserName,
    /// The session's.
    pub ids: Ids,
    /// `None`: this host has no homes, or none that are to be served.
    pub homes: Option<Homes>,
    /// Where the homes are all the same, which nobody in the session is to see.
    pub root: Option<PathBuf>,
    /// Where the session sees its home: absolute.
    pub home_dir: String,
    /// Where this host has it: an account of this host with this home is the user herself.
    pub own_home: Option<PathBuf>,
    /// Whether the uid is this user's alone, should a quota have to be set.
    pub owns_uid_alone: bool,
    /// All shares, for whatever groups.
    pub shares: Vec<Share>,
    /// Whether more programs than the sftp server serve files.
    pub rsync: bool,
    /// How long homes and shares may take.
    pub time: Duration,
    /// When that is over.
    pub end: Instant,
}

impl Plan {
    /// The most directories and files that the mount points of the home and all shares can need.
    #[must_use]
    pub fn most_inodes(&self) -> usize {
        let components = |path: &Path| path.components().count();
        components(Path::new(&self.home_dir))
            + self.shares.iter().map(|share| components(&share.path)).sum::<usize>()
    }

    /// The plan for a request that came at `start`.
    ///
    /// # Errors
    /// The path of the home would be too long.
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

    /// Whether a share would be seen above, in or beneath this user's home. The configuration
    /// refuses what is so for every user; with a template some user's name may be what nobody
    /// thought of.
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
