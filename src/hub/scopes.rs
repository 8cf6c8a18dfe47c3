//! Decides which servers the scopes of a token cover. Pure.
//!
//! In JupyterHub's documentation, "Scopes in JupyterHub", a scope is `NAME` or `NAME!FILTER=VALUE`,
//! with the filters `user`, `group`, `server` and `service`; the value extends to the end of the
//! text.
//! The hub expands a token's scopes before it shows them (`servers` becomes itself,
//! `start:servers`, …; `!user` becomes `!user=alice`), so only these expanded forms count here.
//! Everything else covers nothing.

/// One user's server, as scopes see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The server's name; empty for the default server.
    pub server: &'a str,
    /// The groups that the user is a member of.
    pub groups: &'a [String],
}

impl Target<'_> {
    /// True if `scope` is `name`, without a filter or with one that matches this server.
    #[must_use]
    pub(crate) fn is_covered_by(&self, scope: &str, name: &str) -> bool {
        let Some(rest) = scope.strip_prefix(name) else { return false };
        if rest.is_empty() {
            return true;
        }
        match rest.strip_prefix('!').and_then(|filter| filter.split_once('=')) {
            Some(("user", user)) => !user.is_empty() && user == self.user,
            Some(("server", server)) => server.split_once('/') == Some((self.user, self.server)),
            Some(("group", group)) => !group.is_empty() && self.groups.iter().any(|own| own == group),
            _ => false,
        }
    }

    /// True if one of `scopes` is one of `names` for this server.
    #[must_use]
    pub(crate) fn has_any(&self, scopes: &[String], names: &[&str]) -> bool {
        scopes.iter().any(|scope| names.iter().any(|name| self.is_covered_by(scope, name)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let groups = ["staff".to_owned(), String::new()];
        let default = Target { user: "alice", server: "", groups: &groups };
        let gpu = Target { user: "alice", server: "gpu", groups: &groups };
        for (scope, on_default, on_gpu) in [
            ("access:servers", true, true),
            ("access:servers!user=alice", true, true),
            ("access:servers!server=alice/", true, false),
            ("access:servers!server=alice/gpu", false, true),
            ("access:servers!group=staff", true, true),
            ("access:servers!group=students", false, false),
            ("access:servers!group=", false, false),
            ("access:servers!user=", false, false),
            ("access:servers!user=bob", false, false),
            ("access:servers!user=alic", false, false),
            ("access:servers!user=alice ", false, false),
            ("access:servers!user=alice!group=x", false, false),
            ("access:servers!user=Alice", false, false),
            ("access:servers!user", false, false),
            ("access:servers!server", false, false),
            ("access:servers!server=alice", false, false),
            ("access:servers!server=bob/", false, false),
            ("access:servers!server=alice/gpu/", false, false),
            ("access:servers!service=alice", false, false),
            ("access:servers!", false, false),
            ("access:servers=", false, false),
            ("access:servers2", false, false),
            ("access:services", false, false),
            (" access:servers", false, false),
            ("servers", false, false),
            ("", false, false),
        ] {
            assert_eq!(default.is_covered_by(scope, "access:servers"), on_default, "{scope}");
            assert_eq!(gpu.is_covered_by(scope, "access:servers"), on_gpu, "{scope}");
        }
    }

    proptest! {
        /// A scope for another user or server opens nothing of alice's.
        #[test]
        fn nothing_of_others(user in "[a-z@.+/=!-]{0,12}", server in "[a-z/=!-]{0,8}") {
            let alice = Target { user: "alice", server: "", groups: &[] };
            if user != "alice" {
                let scope = format!("access:servers!user={user}");
                prop_assert!(!alice.is_covered_by(&scope, "access:servers"));
            }
            if format!("{user}/{server}") != "alice/" {
                let scope = format!("access:servers!server={user}/{server}");
                prop_assert!(!alice.is_covered_by(&scope, "access:servers"));
            }
        }
    }
}
