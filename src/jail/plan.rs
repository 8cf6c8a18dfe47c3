//! What of this host's files a session is to see: its home, and shares.

use super::request::Request;
use crate::config::{Config, Share};
use crate::homes;
use accounts::UserName;
use accounts::homes::Homes;
use accounts::uid::{Ids, Rule};
use std::path::Path;
use std::time::{Duration, Instant};

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
    /// `None`: this host has no homes.
    pub homes: Option<Homes>,
    /// Where the session sees its home: absolute.
    pub home_dir: String,
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
    /// The plan for a request that came at `start`.
    ///
    /// # Errors
    /// The path of the home would be too long.
    pub fn new(config: Config, request: &Request, start: Instant) -> Result<Self, String> {
        let settings = config.settings;
        let user = request.user.user().clone();
        let home_dir =
            settings.home_dir(&user).map_err(|e| format!("homes.path makes no path of {user}: {e}"))?;
        let time = if settings.accounts == Rule::Home { TIME_AFTER_NSS } else { TIME };
        Ok(Self {
            user,
            ids: request.ids,
            home_dir,
            owns_uid_alone: homes::create::owns_uid_alone(&settings),
            homes: settings.homes,
            shares: config.shares,
            rsync: config.files.rsync,
            time,
            end: start + time,
        })
    }

    /// Whether a share would be seen above, in or beneath this user's home. The configuration refuses what is so for
    /// every user; with a template some user's name may be what nobody thought of.
    #[must_use]
    pub fn clashes(&self, share: &Share) -> bool {
        let home = Path::new(&self.home_dir);
        self.homes.is_some() && (share.path.starts_with(home) || home.starts_with(&share.path))
    }
}
