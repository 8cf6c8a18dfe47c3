//! What this module has answered in this process; it decides who is in group `jupyterhub`.
//!
//! glibc asks every module for the groups of every user, local ones too, and tells it a name and a
//! gid only. If a local administrator were put into the group, sshd's Match block would apply to
//! them and they would lose their shell. The module cannot find out whether a name is local: apart
//! from /etc/passwd there are LDAP and systemd, which a module must not ask, and a primary gid such
//! as 100 belongs to local and hub users alike.
//!
//! But sshd looks up a user by name before it asks for the groups, in the same process or in a
//! parent of it (`getpwnamallow`, then `match_cfg_line_group` and `initgroups`), and glibc asks
//! this module for a name only after every source before it has said no. So the users that this
//! module has answered for are hub users, and nobody else is. The groups also need no file then, so
//! they cannot fail after the passwd entry was given, which would leave a hub user outside of the
//! Match block.
//!
//! The first question counts, in both directions. If the groups of a name are asked for before this
//! module has answered for it, the name is somebody else's and remains so in this process. By then
//! sshd has fixed the account's uid, shell and Match block; if the directory service failed a
//! moment later and the name became a hub user's in mid-login, a hub token would open the other
//! account.
//!
//! The first answer counts for the whole entry. A user has one uid in a login, even if the uid
//! comes from a home whose file server answers once and hangs the next time; and a login waits for
//! such a home only once.

use std::sync::Mutex;

use common::Passwd;

/// How many names are kept. A connection asks for one user; other code in sshd's process, such as
/// another PAM module, may look up a few more that are unknown on this host.
const MAX: usize = 16;

/// The answers given in this process. Never waits for its lock.
pub struct Answers(Mutex<Known>);

struct Known {
    /// The answers given, oldest first.
    answers: Vec<Answer>,
    /// Names that belong to somebody else, oldest first.
    foreign: Vec<Vec<u8>>,
}

struct Answer {
    /// The name that was asked for, which may differ in case from the entry's.
    asked: String,
    entry: Passwd,
    /// The gid of group `jupyterhub`.
    group: u32,
}

/// What was answered about a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing so far.
    Nothing,
    /// It is a hub user's, with this entry.
    Entry(Passwd),
    /// It is somebody else's, or the lock was taken: the module must not answer for it.
    NotOurs,
}

impl Answers {
    /// No answers.
    pub const fn new() -> Self {
        Self(Mutex::new(Known { answers: Vec::new(), foreign: Vec::new() }))
    }

    /// What was answered about a name in this process.
    pub fn said(&self, name: &str) -> Said {
        // Never wait: if another thread held the lock during a fork, nobody releases it in the
        // child.
        let Ok(known) = self.0.try_lock() else { return Said::NotOurs };
        if known.foreign.iter().any(|foreign| foreign == name.as_bytes()) {
            return Said::NotOurs;
        }
        match known.answers.iter().find(|answer| answer.entry.name == name || answer.asked == name) {
            Some(answer) => Said::Entry(answer.entry.clone()),
            None => Said::Nothing,
        }
    }

    /// Keeps the first answer for a name, which was asked for as `asked`. If this returns false, it
    /// must not be given: it could not be kept, or the name was answered for before.
    #[must_use]
    pub fn remember(&self, asked: &str, entry: &Passwd, group: u32) -> bool {
        let Ok(mut known) = self.0.try_lock() else { return false };
        let said = known.foreign.iter().any(|foreign| foreign == entry.name.as_bytes())
            || known.answers.iter().any(|answer| answer.entry.name == entry.name);
        if said {
            return false;
        }
        if known.answers.len() >= MAX {
            known.answers.remove(0);
        }
        known.answers.push(Answer { asked: asked.to_owned(), entry: entry.clone(), group });
        true
    }

    /// The gid of group `jupyterhub`, if the name and its primary gid are a hub user's.
    ///
    /// A name that this module has not answered for is somebody else's from now on.
    pub fn group_of(&self, name: &[u8], primary: u32) -> Option<u32> {
        let mut known = self.0.try_lock().ok()?;
        let of_name = known.answers.iter().find(|answer| answer.entry.name.as_bytes() == name);
        if let Some(answer) = of_name {
            return (answer.entry.ids.gid() == primary).then_some(answer.group);
        }
        if !known.foreign.iter().any(|foreign| foreign == name) {
            if known.foreign.len() >= MAX {
                known.foreign.remove(0);
            }
            known.foreign.push(name.to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use common::LoginName;
    use common::uid::Ids;

    fn entry(name: &str, gid: u32) -> Passwd {
        let ids = Ids::new(1000, gid).unwrap();
        Passwd::new(&LoginName::parse(name).unwrap(), ids, format!("/home/{name}"))
    }

    #[test]
    fn only_whom_the_module_answered_for_is_in_the_group() {
        let answers = Answers::new();
        assert!(answers.remember("alice", &entry("alice", 100), 990));
        assert_eq!(answers.group_of(b"alice", 100), Some(990));
        assert_eq!(answers.group_of(b"alice", 0), None, "somebody else's entry for the same name");
        assert_eq!(answers.group_of(b"admin", 100), None);
        assert_eq!(answers.group_of(b"", 100), None);
    }

    #[test]
    fn a_name_of_somebody_else_does_not_become_a_hub_users() {
        let answers = Answers::new();
        assert_eq!(answers.said("bob"), Said::Nothing);
        assert_eq!(answers.group_of(b"bob", 100), None);
        assert_eq!(answers.said("bob"), Said::NotOurs);
        assert!(
            !answers.remember("bob", &entry("bob", 100), 990),
            "the directory service failed in mid-login"
        );
        assert_eq!(answers.group_of(b"bob", 100), None);
        assert!(answers.remember("alice", &entry("alice", 100), 990));
    }

    #[test]
    fn the_first_answer_for_a_name_counts() {
        let answers = Answers::new();
        assert!(answers.remember("alice", &entry("alice", 100), 990));
        assert!(!answers.remember("alice", &entry("alice", 2000), 990));
        assert_eq!(answers.said("alice"), Said::Entry(entry("alice", 100)));
        assert_eq!(answers.group_of(b"alice", 2000), None);
        assert_eq!(answers.group_of(b"alice", 100), Some(990));
    }

    #[test]
    fn an_answer_is_remembered_by_both_of_its_names() {
        let answers = Answers::new();
        assert!(answers.remember("Alice", &entry("alice", 100), 990));
        for name in ["Alice", "alice"] {
            assert_eq!(answers.said(name), Said::Entry(entry("alice", 100)));
        }
        assert_eq!(answers.said("ALICE"), Said::Nothing);
        assert_eq!(answers.group_of(b"alice", 100), Some(990));
        assert_eq!(answers.group_of(b"Alice", 100), None, "sshd asks for the groups of the entry's name");
    }

    #[test]
    fn the_newest_answers_are_kept() {
        let answers = Answers::new();
        for number in 0..100 {
            assert!(answers.remember("", &entry(&format!("user{number}"), 100), 990));
        }
        assert_eq!(answers.group_of(b"user99", 100), Some(990));
        assert_eq!(answers.group_of(b"user84", 100), Some(990));
        assert_eq!(answers.group_of(b"user0", 100), None);
    }
}
