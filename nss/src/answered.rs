//! Whom this process was told to be a hub user, which decides who is in group `jupyterhub`.
//!
//! glibc asks every module for the groups of every user, local ones too, and gives a name and a gid only. A
//! local administrator put into the group would be caught by sshd's Match block and lose their shell. Whether
//! a name is local cannot be found out here: besides /etc/passwd there are LDAP and systemd, which a module
//! must not ask, and a primary gid such as 100 belongs to local and hub users alike.
//!
//! But sshd looks a user up by name before it asks for the groups, in the same process or in one that this
//! one was forked from (`getpwnamallow`, then `match_cfg_line_group` and `initgroups`), and glibc asks this
//! module for a name only after every source before it has denied it. So whoever this module has answered for
//! is a hub user to this process, and nobody else is. It also means that the groups are told without opening
//! a file: they cannot fail after the passwd entry was given, which would leave a hub user outside of the
//! Match block.
//!
//! The first word counts, also the other way round: a name whose groups were asked for before this module had
//! answered for it belongs to somebody else, and stays theirs in this process. sshd has fixed the account's
//! uid, shell and Match block by then. Should its directory service fail a moment later, the name must not
//! become a hub user's in mid-login, or a hub token would open the other account.

use std::sync::Mutex;

/// One connection asks for one user. More names are kept in case something else in sshd's process, such as
/// another PAM module, looks up a name that is unknown on this host.
const MAX: usize = 16;

/// What was said about names in this process.
pub struct Answers(Mutex<Known>);

struct Known {
    /// The answers given, oldest first.
    answers: Vec<Answer>,
    /// Names that belong to somebody else, oldest first.
    foreign: Vec<Vec<u8>>,
}

struct Answer {
    name: Vec<u8>,
    /// The primary gid in the user's passwd entry.
    primary: u32,
    /// The gid of group `jupyterhub`.
    group: u32,
}

impl Answers {
    /// No answers.
    pub const fn new() -> Self {
        Self(Mutex::new(Known { answers: Vec::new(), foreign: Vec::new() }))
    }

    /// Keeps an answer. False: it could not be kept, or the name is somebody else's; it must not be given.
    #[must_use]
    pub fn remember(&self, name: &str, primary: u32, group: u32) -> bool {
        // Never wait: after a fork in a process with threads nobody would release the lock.
        let Ok(mut known) = self.0.try_lock() else { return false };
        if known.foreign.iter().any(|foreign| foreign == name.as_bytes()) {
            return false;
        }
        known.answers.retain(|answer| answer.name != name.as_bytes());
        if known.answers.len() >= MAX {
            known.answers.remove(0);
        }
        known.answers.push(Answer { name: name.as_bytes().to_owned(), primary, group });
        true
    }

    /// The gid of group `jupyterhub`, if the name and its primary gid are those of a hub user. A name that this
    /// module has not answered for is somebody else's from now on.
    pub fn group_of(&self, name: &[u8], primary: u32) -> Option<u32> {
        let mut known = self.0.try_lock().ok()?;
        let of_name = known.answers.iter().find(|answer| answer.name == name);
        if let Some(answer) = of_name {
            return (answer.primary == primary).then_some(answer.group);
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
    use super::*;

    #[test]
    fn only_whom_the_module_answered_for_is_in_the_group() {
        let answers = Answers::new();
        assert!(answers.remember("alice", 100, 990));
        assert_eq!(answers.group_of(b"alice", 100), Some(990));
        assert_eq!(answers.group_of(b"alice", 0), None, "somebody else's entry for the same name");
        assert_eq!(answers.group_of(b"admin", 100), None);
        assert_eq!(answers.group_of(b"", 100), None);
    }

    #[test]
    fn a_name_of_somebody_else_does_not_become_a_hub_users() {
        let answers = Answers::new();
        assert_eq!(answers.group_of(b"bob", 100), None);
        assert!(!answers.remember("bob", 100, 990), "the directory service failed in mid-login");
        assert_eq!(answers.group_of(b"bob", 100), None);
        assert!(answers.remember("alice", 100, 990));
    }

    #[test]
    fn the_newest_answers_are_kept() {
        let answers = Answers::new();
        for number in 0..100 {
            assert!(answers.remember(&format!("user{number}"), 100, 990));
            assert!(answers.remember("alice", number, 990));
        }
        assert_eq!(answers.group_of(b"alice", 99), Some(990));
        assert_eq!(answers.group_of(b"alice", 98), None);
        assert_eq!(answers.group_of(b"user99", 100), Some(990));
        assert_eq!(answers.group_of(b"user0", 100), None);
    }
}
