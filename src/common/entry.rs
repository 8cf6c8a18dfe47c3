//! The passwd entry of a hub user.

use crate::names::LoginName;
use crate::paths;
use crate::uid::Ids;

/// A passwd(5) entry without its password field.
///
/// That field is always `*`, so no local password ever matches, and pam_unix(8) looks for no shadow
/// entry, as it would for `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwd {
    /// The login name as the hub has it, which may differ in case from the one that was typed.
    pub name: String,
    /// The user's uid and primary gid.
    pub ids: Ids,
    /// The comment field, the same for all.
    pub gecos: &'static str,
    /// The home's path in a session's jail: [`crate::Settings::home_dir`].
    pub dir: String,
    /// The session program, which marks the entry as ours.
    pub shell: &'static str,
}

impl Passwd {
    /// Makes the entry of a hub user.
    pub fn new(name: &LoginName, ids: Ids, dir: String) -> Self {
        Self { name: name.to_string(), ids, gecos: "JupyterHub user", dir, shell: paths::SESSION_SHELL }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_named_server_shares_its_users_home_directory() {
        let name = LoginName::parse("alice@example.org+gpu").unwrap();
        let dir = crate::Settings::parse("").unwrap().home_dir(name.user()).unwrap();
        let entry = Passwd::new(&name, Ids::new(1000, 100).unwrap(), dir);
        assert_eq!(entry.name, "alice@example.org+gpu");
        assert_eq!(entry.dir, "/home/alice@example.org");
        assert_eq!(entry.shell, "/usr/lib/jupyterhub-openssh/session");
        assert_eq!((entry.ids.uid(), entry.ids.gid()), (1000, 100));
    }
}
