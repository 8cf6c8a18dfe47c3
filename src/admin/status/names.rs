//! Decides by the template which names in a directory can be homes.

use common::UserName;

/// A component of a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Component<'a> {
    /// A directory of this name, above all homes.
    Fixed(&'a str),
    /// A directory for each user.
    User(Pattern<'a>),
}

/// A component with placeholders.
#[derive(Debug, PartialEq, Eq)]
pub struct Pattern<'a> {
    before: &'a str,
    middle: &'a str,
    after: &'a str,
}

/// The components of a template's text.
pub fn components(template: &str) -> impl Iterator<Item = Component<'_>> {
    template.split('/').map(|component| match (component.find('{'), component.rfind('}')) {
        (Some(start), Some(end)) if start < end => Component::User(Pattern {
            before: &component[..start],
            middle: &component[start..=end],
            after: &component[end + 1..],
        }),
        _ => Component::Fixed(component),
    })
}

impl Pattern<'_> {
    /// True if some user's home could have this name, unlike `lost+found` or an editor's backup.
    pub fn takes(&self, name: &str) -> bool {
        let Some(user) = name.strip_prefix(self.before).and_then(|rest| rest.strip_suffix(self.after)) else {
            return false;
        };
        match self.middle {
            "{username}" => UserName::parse(user).is_ok(),
            "{escaped}" | "{slug}" => {
                !user.is_empty()
                    && user.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            }
            _ => !user.is_empty() && !user.chars().any(char::is_control),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use common::template::Template;
    use proptest::prelude::*;

    #[test]
    fn names_that_no_user_has_are_left_out() {
        for (template, names, others) in [
            ("{username}", &["alice", "a.b@c-d", "Bob"][..], &["lost+found", ".new", "", "a b", "ü"][..]),
            (
                "{escaped}",
                &["alice-40example-2eorg"],
                &["Alice", "lost+found", ".jupyterhub-openssh-new", ""],
            ),
            ("{slug}", &["alice---7a64adf2"], &["a_b"]),
            ("claim-{escaped}", &["claim-bob", "claim--42ob"], &["claim-", "claim", "bob", "xclaim-bob"]),
            ("u{username}.d", &["ubob.d"], &["ubob", "bob.d", "u.d", "u"]),
            ("{username}-{slug}", &["bob-bob", "x"], &["", "a\nb"]),
        ] {
            let Some(Component::User(pattern)) = components(template).next() else {
                unreachable!("{template}")
            };
            for name in names {
                assert!(pattern.takes(name), "{template} {name:?}");
            }
            for name in others {
                assert!(!pattern.takes(name), "{template} {name:?}");
            }
        }
    }

    #[test]
    fn fixed_components_are_told_from_users() {
        let found: Vec<_> = components("a/Häuser/{slug}/work").collect();
        assert!(matches!(
            found[..],
            [Component::Fixed("a"), Component::Fixed("Häuser"), Component::User(_), Component::Fixed("work")]
        ));
    }

    proptest! {
        #[test]
        fn every_users_home_is_taken(
            template in "([a-zü/.-]|\\{username\\}|\\{escaped\\}|\\{slug\\}){1,6}",
            user in "[A-Za-z0-9_][A-Za-z0-9._@-]{0,20}",
        ) {
            if let (Ok(template), Ok(user)) = (Template::parse(&template), UserName::parse(&user)) {
                if let Ok(path) = template.expand(&user) {
                    for (component, name) in components(template.as_str()).zip(path.split('/')) {
                        let taken = match component {
                            Component::Fixed(text) => text == name,
                            Component::User(pattern) => pattern.takes(name),
                        };
                        prop_assert!(taken, "{} {}", template.as_str(), name);
                    }
                }
            }
        }
    }
}
