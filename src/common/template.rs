//! Where a user's home is, beneath the directory of homes: `{username}`, `{escaped}`, `{slug}`.

use crate::text::hex;
use std::cmp::Ordering;
use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::names::UserName;

/// Longest path component, in bytes: NAME_MAX of Linux's file systems.
const MAX_COMPONENT: usize = 255;
/// Longest path beneath the directory of homes, in bytes; far below PATH_MAX.
const MAX_PATH: usize = 1024;
/// kubespawner's `_slug_max_length`: names longer than this are cut and hashed.
const MAX_SLUG: usize = 48;

/// A template for the path of a user's home, relative to the directory of homes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Username,
    Escaped,
    Slug,
}

/// Why a template, or the path that it makes for a user, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// Braces around something that is no placeholder, or a brace alone.
    Placeholder,
    /// No placeholder: every user would get the same home.
    Shared,
    /// A control character or a backslash.
    Character(char),
    /// The path is absolute, or has a component that is empty, `.` or `..`.
    Component,
    /// A component of more than 255 bytes, or a path of more than 1024.
    TooLong,
}

impl Template {
    /// Reads a template such as `{username}` or `students/{escaped}/work`.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::read(text, false)
    }

    /// As [`Template::parse`], for a path that may be the same for all users.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub(crate) fn parse_shared(text: &str) -> Result<Self, TemplateError> {
        Self::read(text, true)
    }

    fn read(text: &str, may_be_shared: bool) -> Result<Self, TemplateError> {
        if text.len() > MAX_PATH {
            return Err(TemplateError::TooLong);
        }
        if let Some(c) = text.chars().find(|c| c.is_control() || *c == '\\') {
            return Err(TemplateError::Character(c));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = &rest[..rest.find(['{', '}']).unwrap_or(rest.len())];
            rest = &rest[literal.len()..];
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
                continue;
            }
            let (part, length) =
                [("{username}", Part::Username), ("{escaped}", Part::Escaped), ("{slug}", Part::Slug)]
                    .into_iter()
                    .find_map(|(word, part)| rest.starts_with(word).then_some((part, word.len())))
                    .ok_or(TemplateError::Placeholder)?;
            parts.push(part);
            rest = &rest[length..];
        }
        if !may_be_shared && parts.iter().all(|part| matches!(part, Part::Literal(_))) {
            return Err(TemplateError::Shared);
        }
        let template = Self { text: text.to_owned(), parts };
        // What is wrong for a plain name is wrong with the template.
        template.fill("a")?;
        Ok(template)
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path of a user's home, relative to the directory of homes: components that are names,
    /// joined by single slashes.
    ///
    /// # Errors
    /// The path would be too long, as it can be for a long name that is escaped.
    pub fn expand(&self, user: &UserName) -> Result<String, TemplateError> {
        self.fill(user.as_str())
    }

    /// A digest of the user's path, in hexadecimal, if other names may have the same path; `None`:
    /// no other name has it.
    ///
    /// A component with one placeholder tells names apart, unless that is the slug of a name that
    /// is no DNS label: it ends with 32 bits of the name's hash. What several placeholders in one
    /// component make is not thought about.
    pub fn digest_if_ambiguous(&self, user: &UserName) -> Option<String> {
        let name = user.as_str();
        let tells_apart = |component: &str| {
            component.matches('{').count() == 1 && (!component.contains("{slug}") || slug(name) == name)
        };
        if self.text.split('/').any(tells_apart) {
            return None;
        }
        let digest = Sha256::digest(self.fill(name).ok()?.as_bytes());
        Some(hex(&digest[..16]))
    }

    /// How `path`, relative and without `.` or `..`, lies to the one that the template makes for
    /// some user: above it (`Less`), in its place, or beneath it (`Greater`). `None`: apart from it
    /// for every user. A component with a placeholder counts as equal to any name.
    pub(crate) fn compare(&self, path: &Path) -> Option<Ordering> {
        let mut own = self.text.split('/');
        let mut other = path.iter();
        loop {
            return Some(match (own.next(), other.next()) {
                (Some(own), Some(other)) if own.contains('{') || *own == *other => continue,
                (Some(_), Some(_)) => return None,
                (Some(_), None) => Ordering::Less,
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
            });
        }
    }

    fn fill(&self, user: &str) -> Result<String, TemplateError> {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Username => path.push_str(user),
                Part::Escaped => path.push_str(&escape(user)),
                Part::Slug => path.push_str(&slug(user)),
            }
        }
        if path.len() > MAX_PATH || path.split('/').any(|name| name.len() > MAX_COMPONENT) {
            return Err(TemplateError::TooLong);
        }
        if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(TemplateError::Component);
        }
        Ok(path)
    }
}

/// The escaped name that dockerspawner, and kubespawner before 7, use for volumes: each byte that
/// is no lower-case letter or digit of ASCII becomes `-` and two hexadecimal digits.
///
/// The same as `escapism.escape(name, safe=ascii_lowercase + digits, escape_char='-').lower()`.
pub fn escape(name: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() {
            out.push(char::from(byte));
            continue;
        }
        // escapism writes a byte as `%X`, without a leading zero: a newline is `-a`.
        out.push('-');
        if byte >= 16 {
            out.push(char::from(HEX[usize::from(byte >> 4)]));
        }
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
    out
}

/// The slug that kubespawner from 7 on puts in place of `{username}`:
/// `kubespawner.slugs.safe_slug(name, max_length=48)`.
///
/// A name that is a valid DNS label stays as it is; of any other, what is valid is kept and eight
/// digits of the name's SHA-256 are added.
pub fn slug(name: &str) -> String {
    let label = name.len() <= MAX_SLUG
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if label { name.to_owned() } else { strip_and_hash(name) }
}

/// kubespawner's `strip_and_hash(name, max_length=48)`.
fn strip_and_hash(name: &str) -> String {
    const HASH: usize = 8;
    const LENGTH: usize = MAX_SLUG - (HASH + 3);
    let mut safe = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            safe.push(c);
        } else if !safe.is_empty() && !safe.ends_with('-') {
            safe.push('-');
        }
    }
    safe.truncate(LENGTH);
    let mut safe = safe.trim_end_matches('-').to_owned();
    if safe.is_empty() {
        safe.push('x');
    } else if !safe.starts_with(|c: char| c.is_ascii_lowercase()) {
        safe.truncate(LENGTH - 2);
        safe.insert_str(0, "x-");
    }
    let hash = Sha256::digest(name.as_bytes());
    format!("{safe}---{}", hex(&hash[..HASH / 2]))
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placeholder => {
                write!(f, "braces hold something other than username, escaped or slug")
            }
            Self::Shared => write!(f, "there is no placeholder: all users would share one home"),
            Self::Character(c) => write!(f, "'{}' is not allowed", c.escape_default()),
            Self::Component => {
                write!(f, "the path is absolute, or a component of it is empty, '.' or '..'")
            }
            Self::TooLong => write!(f, "the path, or a component of it, is too long"),
        }
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn expand(template: &str, user: &str) -> Result<String, TemplateError> {
        Template::parse(template)?.expand(&UserName::parse(user).unwrap())
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (template, user, path) in [
            ("{username}", "alice", "alice"),
            ("{username}", "Alice@Example.org", "Alice@Example.org"),
            ("{escaped}", "alice@example.org", "alice-40example-2eorg"),
            ("{slug}", "alice@example.org", "alice-example-org---7a64adf2"),
            ("students/{username}/work", "bob", "students/bob/work"),
            ("claim-{escaped}", "Bob", "claim--42ob"),
            ("{username}-{slug}", "bob", "bob-bob"),
            ("Häuser/{username}", "bob", "Häuser/bob"),
        ] {
            assert_eq!(expand(template, user).unwrap(), path);
        }
    }

    #[test]
    fn templates_that_could_leave_the_directory_are_refused() {
        for (template, error) in [
            ("", TemplateError::Shared),
            ("homes", TemplateError::Shared),
            ("/{username}", TemplateError::Component),
            ("{username}/", TemplateError::Component),
            ("a//{username}", TemplateError::Component),
            ("./{username}", TemplateError::Component),
            ("../{username}", TemplateError::Component),
            ("{username}/..", TemplateError::Component),
            ("{user}", TemplateError::Placeholder),
            ("{username", TemplateError::Placeholder),
            ("username}", TemplateError::Placeholder),
            ("{{username}}", TemplateError::Placeholder),
            ("a\\{username}", TemplateError::Character('\\')),
            ("a\n{username}", TemplateError::Character('\n')),
            ("a\0{username}", TemplateError::Character('\0')),
        ] {
            assert_eq!(Template::parse(template), Err(error), "{template:?}");
        }
        assert_eq!(Template::parse(&format!("{{slug}}{}", "a".repeat(2000))), Err(TemplateError::TooLong));
    }

    #[test]
    fn paths_are_above_in_place_of_or_beneath_a_users() {
        for (template, path, expected) in [
            ("{username}", "", Some(Ordering::Less)),
            ("{username}", "bob", Some(Ordering::Equal)),
            ("{username}", "bob/x/y", Some(Ordering::Greater)),
            ("home/{slug}/work", "home", Some(Ordering::Less)),
            ("home/{slug}/work", "home/bob", Some(Ordering::Less)),
            ("home/{slug}/work", "home/bob/work", Some(Ordering::Equal)),
            ("home/{slug}/work", "home/bob/work/x", Some(Ordering::Greater)),
            ("home/{slug}/work", "home/bob/other", None),
            ("home/{slug}/work", "homes", None),
            ("home/{slug}/work", "shared/bob/work", None),
            ("u-{username}", "shared", Some(Ordering::Equal)),
        ] {
            assert_eq!(
                Template::parse(template).unwrap().compare(Path::new(path)),
                expected,
                "{template} {path}"
            );
        }
        let jovyan = Template::parse_shared("home/jovyan").unwrap();
        assert_eq!(jovyan.compare(Path::new("home/shared")), None);
        assert_eq!(jovyan.compare(Path::new("home/jovyan/x")), Some(Ordering::Greater));
    }

    #[test]
    fn only_a_path_that_is_shown_may_be_the_same_for_all() {
        assert_eq!(Template::parse("home/jovyan"), Err(TemplateError::Shared));
        let template = Template::parse_shared("home/jovyan").unwrap();
        assert_eq!(template.expand(&UserName::parse("alice").unwrap()).unwrap(), "home/jovyan");
        for (text, error) in [
            ("", TemplateError::Component),
            ("home/", TemplateError::Component),
            ("home/../etc", TemplateError::Component),
            ("home/{user}", TemplateError::Placeholder),
            ("home/\u{1b}", TemplateError::Character('\u{1b}')),
        ] {
            assert_eq!(Template::parse_shared(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_long_name_that_does_not_fit_when_escaped_is_an_error() {
        let name = "A".repeat(128);
        assert_eq!(expand("{escaped}", &name), Err(TemplateError::TooLong));
        assert!(expand("{slug}", &name).is_ok());
    }

    #[test]
    fn paths_that_two_names_can_have() {
        let digest = |template: &str, name: &str| {
            Template::parse(template).unwrap().digest_if_ambiguous(&UserName::parse(name).unwrap())
        };
        for (template, name, expected) in [
            ("{username}", "a.b@c", false),
            ("{escaped}", "a.b@c", false),
            ("{slug}", "alice", false),
            ("u-{slug}/work", "alice", false),
            ("{slug}", "a.b@c", true),
            ("u-{slug}/work", "a.b@c", true),
            ("{slug}", "Alice", true),
            ("{slug}/{username}", "a.b@c", false),
            ("{username}-{escaped}", "alice", true),
        ] {
            assert_eq!(digest(template, name).is_some(), expected, "{template} {name}");
        }
        let [one, other] = ["a_a_a.a_a@a@a.a@a_a_a.a", "a_a_a_a.a_a_a.a@a@a_a_a"];
        assert_eq!((digest("{slug}", one), slug(one)), (digest("{slug}", other), slug(other)));
        assert_ne!(digest("{slug}", one), digest("u-{slug}", one));
    }

    proptest! {
        /// Upper case, `-` and `--` included: what is escaped can be read back.
        #[test]
        fn escaped_names_are_told_apart(one in "[A-Za-z0-9_][A-Za-z0-9._@-]{0,5}", other in "[A-Za-z0-9_][A-Za-z0-9._@-]{0,5}") {
            prop_assert_eq!(escape(&one) == escape(&other), one == other);
        }

        /// A name that is its own slug is no other name's.
        #[test]
        fn a_label_is_nobody_elses_slug(label in "[a-z]([a-z0-9-]{0,46}[a-z0-9])?", other in "[A-Za-z0-9_][A-Za-z0-9._@-]{0,40}") {
            prop_assert!(slug(&label) != label || slug(&other) != label || other == label);
        }

        #[test]
        fn what_is_made_stays_beneath_the_directory(template in "([a-z./{}-]|\\{username\\}|\\{escaped\\}|\\{slug\\}|\\PC){0,12}", user in "[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}") {
            if let Ok(path) = expand(&template, &user) {
                prop_assert!(path.len() <= MAX_PATH && !path.contains('\0'));
                prop_assert!(path.split('/').all(|c| !matches!(c, "" | "." | "..") && c.len() <= MAX_COMPONENT));
            }
        }

        #[test]
        fn a_users_own_path_is_never_apart(template in "([a-z/]|\\{username\\}|\\{escaped\\}|\\{slug\\}){1,6}", user in "[a-z][A-Za-z0-9._@-]{0,20}") {
            if let Ok(path) = expand(&template, &user) {
                let template = Template::parse(&template).unwrap();
                prop_assert_eq!(template.compare(Path::new(&path)), Some(Ordering::Equal));
                prop_assert_eq!(template.compare(&Path::new(&path).join("x")), Some(Ordering::Greater));
            }
        }

        #[test]
        fn any_text_is_escaped_without_a_panic(text in "\\PC*") {
            prop_assert!(escape(&text).bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(slug(&text).len() <= MAX_SLUG);
            prop_assert!(slug(&text).bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
