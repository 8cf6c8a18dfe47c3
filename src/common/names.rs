//! Login names that a client may give: `alice`, `alice@example.org`, `alice+gpu` for the named
//! server `gpu`.
//!
//! A login name reaches log lines, passwd entries, paths and URLs. It is checked here once, byte by
//! byte against a list of what is allowed; all other code takes a [`LoginName`], never text. The
//! hub alone decides whether a user exists, by comparing exactly. Most hubs know no capitals
//! (`Authenticator.normalize_username`): see [`LoginName::lower_case`].

use std::fmt;
use std::str::FromStr;

/// Longest user name, in bytes. Linux allows 255 for a login name (LOGIN_NAME_MAX less its NUL),
/// which a user, a `+` and a server must share; institutional e-mail addresses rarely pass 64.
pub const MAX_USER: usize = 128;
/// Longest name of a named server, in bytes.
pub(crate) const MAX_SERVER: usize = 64;
/// Longest login name, in bytes.
#[cfg(test)]
const MAX_LOGIN: usize = MAX_USER + 1 + MAX_SERVER;

/// The name that a client gives to sshd: a hub user, and perhaps one of that user's named servers.
///
/// `alice+gpu` is split at the last `+`. When an `@` follows that `+`, it belongs to an e-mail
/// address: `alice+tag@example.org` is a user, `alice+tag@example.org+gpu` is that user's server
/// `gpu`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginName {
    text: String,
    user: UserName,
    server: Option<ServerName>,
}

/// The name of a hub user. It is safe as a path component and as an argument: never `.`, `..` or an
/// option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// The name of one of a user's named servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(String);

/// Why a text is not a login name. It quotes at most one character, escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError {
    /// Which part of the name broke the rule.
    pub part: Part,
    /// The rule that was broken.
    pub rule: Rule,
}

/// The parts of a login name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The user: what precedes the `+`, or everything.
    User,
    /// The server: what follows the `+`.
    Server,
}

/// The rules for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A name has at least one character.
    Empty,
    /// A name has at most this many bytes.
    TooLong(usize),
    /// A name starts with a letter or a digit of ASCII, a user's also with `_`.
    First(char),
    /// Letters and digits of ASCII and `.`, `_`, `-` are allowed; in a user's name also `@`.
    Character(char),
    /// A `+` is part of a user's name only before an `@`.
    Plus,
}

impl LoginName {
    /// Parses a name that comes from a client.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (user, server) = match text.rsplit_once('+') {
            Some((user, server)) if !server.contains('@') => (user, Some(server)),
            _ => (text, None),
        };
        let user = UserName::parse(user)?;
        let server = server.map(ServerName::parse).transpose()?;
        Ok(Self { text: text.to_owned(), user, server })
    }

    /// Makes the user lower-case. The server keeps its case, as the hub distinguishes `GPU` from
    /// `gpu`.
    #[must_use]
    pub(crate) fn lower_case(mut self) -> Self {
        self.user.0.make_ascii_lowercase();
        if let Some(user) = self.text.get_mut(..self.user.0.len()) {
            user.make_ascii_lowercase();
        }
        self
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if programs such as chown(1) may take the name for a uid: `1000`, or `1000.adm` for a
    /// uid and a group.
    ///
    /// They do so if they find no account of that name.
    pub fn looks_like_a_uid(&self) -> bool {
        let first = self.text.split('.').next().unwrap_or_default();
        first.bytes().all(|b| b.is_ascii_digit())
    }

    /// The hub user.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// The named server, or `None` for the default server.
    pub fn server(&self) -> Option<&ServerName> {
        self.server.as_ref()
    }
}

impl UserName {
    /// Parses the name of a hub user.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let error = |rule| Err(NameError { part: Part::User, rule });
        let Some(first) = text.chars().next() else { return error(Rule::Empty) };
        if text.len() > MAX_USER {
            return error(Rule::TooLong(MAX_USER));
        }
        if !first.is_ascii_alphanumeric() && first != '_' {
            return error(Rule::First(first));
        }
        let local_part = text.rfind('@').unwrap_or(0);
        for (at, c) in text.char_indices() {
            match c {
                'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '@' => {}
                '+' if at < local_part => {}
                '+' => return error(Rule::Plus),
                other => return error(Rule::Character(other)),
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one segment of a URL's path, as JupyterHub writes it: `User.escaped_name` is
    /// `quote(name, safe='@~')`.
    pub fn path_segment(&self) -> String {
        quote(&self.0)
    }
}

impl ServerName {
    /// Parses the name of a named server.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub(crate) fn parse(text: &str) -> Result<Self, NameError> {
        let error = |rule| Err(NameError { part: Part::Server, rule });
        let Some(first) = text.chars().next() else { return error(Rule::Empty) };
        if text.len() > MAX_SERVER {
            return error(Rule::TooLong(MAX_SERVER));
        }
        if !first.is_ascii_alphanumeric() {
            return error(Rule::First(first));
        }
        match text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
            Some('+') => error(Rule::Plus),
            Some(other) => error(Rule::Character(other)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one segment of a URL's path.
    pub fn path_segment(&self) -> String {
        quote(&self.0)
    }
}

/// Percent-encodes text as Python's `urllib.parse.quote(text, safe='@~')` does, which is how
/// JupyterHub writes users into URLs.
pub fn quote(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        // Letters, digits and `_.-~` are never quoted by Python.
        if byte.is_ascii_alphanumeric() || b"_.-~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::User => "the user name",
            Part::Server => "the server name",
        };
        match self.rule {
            Rule::Empty => write!(f, "{part} is empty"),
            Rule::TooLong(limit) => write!(f, "{part} is longer than {limit} bytes"),
            Rule::First(c) => {
                write!(f, "{part} starts with '{}', not with a letter or a digit", c.escape_default())
            }
            Rule::Character(c) => {
                write!(f, "{part} contains '{}', which is not allowed in it", c.escape_default())
            }
            Rule::Plus => write!(f, "{part} contains a '+' that is not part of an e-mail address"),
        }
    }
}

impl std::error::Error for NameError {}

macro_rules! text_type {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}
text_type!(LoginName, UserName, ServerName);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> Result<(String, Option<String>), Rule> {
        LoginName::parse(text)
            .map(|n| (n.user().to_string(), n.server().map(ToString::to_string)))
            .map_err(|e| e.rule)
    }

    #[test]
    fn splits_user_and_server() {
        for (text, user, server) in [
            ("alice", "alice", None),
            ("Alice", "Alice", None),
            ("20231234", "20231234", None),
            ("_svc", "_svc", None),
            ("alice@example.org", "alice@example.org", None),
            ("alice+gpu", "alice", Some("gpu")),
            ("alice+GPU-2.large_x", "alice", Some("GPU-2.large_x")),
            ("alice@example.org+gpu", "alice@example.org", Some("gpu")),
            ("alice+tag@example.org", "alice+tag@example.org", None),
            ("alice+a+b@example.org", "alice+a+b@example.org", None),
            ("alice+tag@example.org+gpu", "alice+tag@example.org", Some("gpu")),
        ] {
            assert_eq!(parts(text), Ok((user.to_owned(), server.map(str::to_owned))), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_rule_that_was_broken() {
        let long_user = "a".repeat(MAX_USER + 1);
        let long_server = format!("alice+{}", "s".repeat(MAX_SERVER + 1));
        for (text, rule) in [
            ("", Rule::Empty),
            ("+gpu", Rule::Empty),
            ("alice+", Rule::Empty),
            ("+", Rule::Empty),
            (".", Rule::First('.')),
            ("..", Rule::First('.')),
            ("-oProxyCommand", Rule::First('-')),
            ("@example.org", Rule::First('@')),
            ("/etc/passwd", Rule::First('/')),
            ("alice/..", Rule::Character('/')),
            ("alice\0", Rule::Character('\0')),
            ("alice\n", Rule::Character('\n')),
            ("alice:x:0", Rule::Character(':')),
            ("alice bob", Rule::Character(' ')),
            ("alice'", Rule::Character('\'')),
            ("alice$(id)", Rule::Character('$')),
            ("alice%2f", Rule::Character('%')),
            ("älice", Rule::First('ä')),
            ("alicé", Rule::Character('é')),
            ("alice+-gpu", Rule::First('-')),
            ("alice+..", Rule::First('.')),
            ("alice+gp/u", Rule::Character('/')),
            ("alice+a+b", Rule::Plus),
            (&long_user, Rule::TooLong(MAX_USER)),
            (&long_server, Rule::TooLong(MAX_SERVER)),
        ] {
            assert_eq!(parts(text), Err(rule), "{text:?}");
        }
    }

    #[test]
    fn names_that_are_numbers_to_others() {
        for (text, expected) in [
            ("1000", true),
            ("0", true),
            ("1000.100", true),
            ("20231234.adm", true),
            ("1000x", false),
            ("1000+gpu", false),
            ("1000@example.org", false),
            ("x1000", false),
            ("a.1000", false),
            ("_1", false),
        ] {
            assert_eq!(LoginName::parse(text).unwrap().looks_like_a_uid(), expected, "{text}");
        }
    }

    #[test]
    fn the_longest_name_fits_a_login_name_of_linux() {
        let text = format!("{}+{}", "a".repeat(MAX_USER), "s".repeat(MAX_SERVER));
        assert_eq!(text.len(), MAX_LOGIN);
        assert_eq!(LoginName::parse(&text).unwrap().as_str(), text);
        const { assert!(MAX_LOGIN <= 255) };
    }

    #[test]
    fn errors_show_no_control_characters() {
        let message = LoginName::parse("a\x1b[2J").unwrap_err().to_string();
        assert!(message.contains("\\u{1b}") && !message.contains('\x1b'), "{message}");
    }

    proptest! {
        #[test]
        fn accepted_names_keep_every_promise(text in "\\PC{0,200}|[a-z+@._/-]{0,40}|[\\x00-\\x7f]{0,20}") {
            let Ok(name) = LoginName::parse(&text) else { return Ok(()) };
            prop_assert_eq!(name.as_str(), &text);
            prop_assert!(text.len() <= MAX_LOGIN);
            for part in [Some(name.user().as_str()), name.server().map(ServerName::as_str)].into_iter().flatten() {
                prop_assert!(!part.is_empty() && part != "." && part != ".." && !part.starts_with(['-', '.']));
                prop_assert!(part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-+".contains(&b)));
            }
            let lower = name.clone().lower_case();
            prop_assert_eq!(lower.user().as_str(), name.user().as_str().to_ascii_lowercase());
            prop_assert_eq!(lower.server(), name.server());
            prop_assert_eq!(LoginName::parse(lower.as_str()), Ok(lower.clone()));
            let again = match name.server() {
                Some(server) => format!("{}+{server}", name.user()),
                None => name.user().to_string(),
            };
            prop_assert_eq!(again, text);
        }

        #[test]
        fn built_names_are_read_back(user in "[a-zA-Z0-9_][a-z.-]{0,20}(\\+[a-z]{0,9}@[a-z.]{1,20})?", server in proptest::option::of("[A-Za-z0-9][a-z._-]{0,20}")) {
            let text = match &server {
                Some(server) => format!("{user}+{server}"),
                None => user.clone(),
            };
            prop_assert_eq!(parts(&text), Ok((user, server)));
        }
    }
}
