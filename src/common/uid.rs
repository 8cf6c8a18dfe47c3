//! Which uid and gid a hub user gets.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::names::UserName;

/// Lowest uid of a person; Debian gives those below to the system (policy 9.2.2).
pub(crate) const MIN_ID: u32 = 1000;
/// Highest uid. Some programs take ids for signed numbers, and NFS writes nobody as -2.
pub(crate) const MAX_ID: u32 = 2_147_483_646;
/// systemd's dynamic users, and its other ranges up to the end of 16 bits
/// (<https://systemd.io/UIDS-GIDS/>).
const SYSTEMD: std::ops::RangeInclusive<u32> = 61_184..=65_519;
/// nobody, and -1 of 16 bits.
const NOBODY: [u32; 2] = [65_534, 65_535];
/// Debian's `users`, the one static group below 1000 that gives no rights: homes of Jupyter images
/// belong to 1000:100.
const USERS: u32 = 100;
/// Fewest ids of a hash range: in a smaller one most users would share their uid with somebody.
const MIN_RANGE: u32 = 1000;

/// What ids are allowed, as the remedy of an error.
pub(crate) const ALLOWED: &str =
    "Use ids from 1000 to 2147483646 other than 61184-65519, 65534 and 65535; gid 100 is allowed.";

/// The uid and gid of a hub user. A value of this type has passed the rules for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    uid: u32,
    gid: u32,
}

/// Ids from `low` to `high`, both included. Hub users may get every one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    low: u32,
    high: u32,
}

/// Where a hub user's uid and gid come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// From the user's name; the gid is the same number.
    Hash(Range),
    /// From the owner and group of the user's home, which passes through [`Ids::new`].
    Home,
    /// The same for every user.
    Fixed(Ids),
}

/// An id that no hub user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// Below [`MIN_ID`]: accounts and groups of the system.
    System(Kind, u32),
    /// Handed out by systemd.
    Systemd(Kind, u32),
    /// nobody.
    Nobody(Kind, u32),
    /// Above [`MAX_ID`].
    TooHigh(Kind, u32),
    /// A range whose end comes before its start, or with fewer than 1000 ids.
    Small,
}

/// What a number names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user.
    Uid,
    /// A group.
    Gid,
}

impl Ids {
    /// Checks a uid and a gid.
    ///
    /// # Errors
    /// Fails if either is below 1000 (but gid 100, `users`, is allowed), is reserved for systemd
    /// (61184-65519), is 65534 (nobody) or 65535, or is above 2147483646 (2³¹ − 2).
    pub fn new(uid: u32, gid: u32) -> Result<Self, IdError> {
        check(Kind::Uid, uid)?;
        if gid != USERS {
            check(Kind::Gid, gid)?;
        }
        Ok(Self { uid, gid })
    }

    /// The user's uid.
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// The user's primary gid.
    pub fn gid(self) -> u32 {
        self.gid
    }
}

impl Range {
    /// The default: what systemd's list of ranges calls unused.
    pub const DEFAULT: Self = Self { low: 1_879_048_192, high: MAX_ID };

    /// Checks a range: each of its ids must be one that a hub user may have.
    ///
    /// # Errors
    /// The range is too small, or holds ids that hub users may not have.
    pub fn new(low: u32, high: u32) -> Result<Self, IdError> {
        check(Kind::Uid, low)?;
        check(Kind::Uid, high)?;
        // Both ends are allowed, so ids that are not lie between them.
        let inside = |id: &u32| low < *id && *id < high;
        if let Some(id) = Some(SYSTEMD.start()).filter(|id| inside(id)) {
            return Err(IdError::Systemd(Kind::Uid, *id));
        }
        if let Some(id) = NOBODY.iter().find(|id| inside(id)) {
            return Err(IdError::Nobody(Kind::Uid, *id));
        }
        if high.saturating_sub(low) < MIN_RANGE - 1 {
            return Err(IdError::Small);
        }
        Ok(Self { low, high })
    }

    /// Whether an id is one of them.
    pub fn contains(self, id: u32) -> bool {
        (self.low..=self.high).contains(&id)
    }

    /// The ids of a user: `low + h mod (high - low + 1)`, where `h` is the number that the first
    /// eight bytes of SHA-256 of the name make, most significant first.
    ///
    /// Every bastion with the same range computes the same ids, without state, and a user's named
    /// servers share them. Two users may get the same ones (in the default range, one chance in
    /// 5000 among 300 users): nothing may rely on uids alone to keep users apart.
    pub fn ids(self, user: &UserName) -> Ids {
        let number = digest(user);
        let size = u64::from(self.high - self.low) + 1;
        // The remainder is at most high - low, so the sum fits.
        let uid = self.low + u32::try_from(number % size).unwrap_or(0);
        Ids { uid, gid: uid }
    }
}

/// True if a hub user gets a group of this host that lists the user's name as a member.
///
/// Groups below [`MIN_ID`], all but `users`, belong to the system and may give rights. Somebody who
/// registers at the hub under the name of a person who has left must not get that person's `docker`
/// or `adm`.
pub fn is_group_passed_on(gid: u32) -> bool {
    gid >= MIN_ID || gid == USERS
}

/// A number for each name, as good as random: the first 8 bytes of SHA-256.
#[must_use]
pub fn digest(user: &UserName) -> u64 {
    let hash = Sha256::digest(user.as_str().as_bytes());
    hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a uid may be a hub user's. For look-ups by uid, which every process on the host makes.
pub fn is_allowed(uid: u32) -> bool {
    check(Kind::Uid, uid).is_ok()
}

fn check(kind: Kind, id: u32) -> Result<(), IdError> {
    match id {
        0..MIN_ID => Err(IdError::System(kind, id)),
        _ if NOBODY.contains(&id) => Err(IdError::Nobody(kind, id)),
        _ if SYSTEMD.contains(&id) => Err(IdError::Systemd(kind, id)),
        id if id > MAX_ID => Err(IdError::TooHigh(kind, id)),
        _ => Ok(()),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uid => "uid",
            Self::Gid => "gid",
        })
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(kind, id) => write!(f, "{kind} {id} is below 1000: it belongs to the system"),
            Self::Systemd(kind, id) => write!(f, "{kind} {id} is in 61184-65519, which systemd hands out"),
            Self::Nobody(kind, id) => write!(f, "{kind} {id} is nobody's"),
            Self::TooHigh(kind, id) => write!(f, "{kind} {id} is above {MAX_ID}"),
            Self::Small => write!(f, "the range holds fewer than {MIN_RANGE} ids"),
        }
    }
}

impl std::error::Error for IdError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_of_the_system_are_refused() {
        for uid in
            [0, 1, 100, 999, 61_184, 65_000, 65_519, 65_534, 65_535, MAX_ID + 1, u32::MAX - 1, u32::MAX]
        {
            assert!(Ids::new(uid, 1000).is_err(), "uid {uid}");
            assert!(!is_allowed(uid), "uid {uid}");
            if uid != 100 {
                assert!(Ids::new(1000, uid).is_err(), "gid {uid}");
            }
        }
        for id in [1000, 61_183, 65_520, 65_533, 65_536, 200_000, MAX_ID] {
            assert!(Ids::new(id, id).is_ok(), "{id}");
        }
        assert!(Ids::new(1000, 100).is_ok(), "the ids of Jupyter's images");
    }

    #[test]
    fn ranges_hold_allowed_ids_only() {
        assert_eq!(Range::new(Range::DEFAULT.low, Range::DEFAULT.high), Ok(Range::DEFAULT));
        let range = Range::new(100_000, 100_999).unwrap();
        assert_eq!(
            [99_999, 100_000, 100_999, 101_000].map(|id| range.contains(id)),
            [false, true, true, false]
        );
        for (low, high) in [
            (0, 5000),
            (999, 5000),
            (5000, 1000),
            (100_000, 100_998),
            (2000, 70_000),
            (65_520, 70_000),
            (61_000, 62_000),
            (3_000_000_000, 3_100_000_000),
            (1_000_000, u32::MAX),
        ] {
            assert!(Range::new(low, high).is_err(), "{low}-{high}");
        }
    }

    proptest! {
        #[test]
        fn hashed_ids_are_in_range_and_allowed(name in "[a-z][a-z0-9@.]{0,40}", low in 65_536..2_000_000_000_u32, size in 999..100_000_000_u32) {
            let range = Range::new(low, low + size).unwrap();
            let ids = range.ids(&UserName::parse(&name).unwrap());
            prop_assert!((low..=low + size).contains(&ids.uid()));
            prop_assert_eq!(Ids::new(ids.uid(), ids.gid()), Ok(ids));
        }

        #[test]
        fn every_id_of_an_accepted_range_is_allowed(low in 0..70_000_u32, size in 0..70_000_u32, at in 0..70_000_u32) {
            if Range::new(low, low + size).is_ok() {
                prop_assert!(is_allowed(low + at % (size + 1)));
            }
        }
    }
}
