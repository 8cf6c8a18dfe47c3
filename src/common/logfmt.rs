//! Formats lines of the system log as logfmt, such as `event=login outcome=refused by=token
//! reason="…"`.
//!
//! All events are declared here; docs/logs.md explains each.

use crate::text::head;
use std::fmt::{self, Display, Write};

/// Longest value, in bytes before quoting. Enough for a path or a command line, and short enough
/// that the fields after it are still read.
const MAX_VALUE: usize = 1400;

/// Declares the events, each with its word.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The event that a line reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// All events.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word after `event=`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

events! {
    /// The PAM module told sshd whether to let a user in; exactly one line per attempt.
    Login = "login",
    /// The gateway verified the token of a login.
    Token = "token",
    /// The keeper had a token made, or revoked it.
    Keeper = "keeper",
    /// A source of keys was asked about an offered key.
    Key = "key",
    /// The jail is complete and the session begins.
    SessionOpened = "session-opened",
    /// The session has ended.
    SessionClosed = "session-closed",
    /// There is no session although the login was granted.
    SessionFailed = "session-failed",
    /// A limit of the session is near or reached.
    Limit = "limit",
    /// An administrator ended the session.
    Disconnect = "disconnect",
    /// The gateway rejected a client of one of its sockets.
    Denied = "denied",
    /// The home or a share is missing or not as configured.
    Home = "home",
    /// Other accounts have the session's uid, too.
    Uid = "uid",
    /// The client asked for a shell, a command or a file service.
    ChannelOpened = "channel-opened",
    /// A shell, command or file service has ended.
    ChannelClosed = "channel-closed",
    /// A shell, command or file service could not be started.
    ChannelRefused = "channel-refused",
    /// A line of sftp-server's about files.
    Transfer = "transfer",
    /// A terminal of the user's server was opened, closed or left.
    Terminal = "terminal",
    /// The agent in the user's server started, ended or failed.
    Agent = "agent",
    /// The user's server was started or could not be reached.
    Server = "server",
    /// The connection to the user's server was lost or restored.
    Link = "link",
    /// A name could not be looked up.
    Lookup = "lookup",
    /// This host's kernel lacks something to confine our processes.
    Sandbox = "sandbox",
    /// Lines of this process were lost because no logger took them.
    Lost = "log-lost",
    /// An error that an administrator, or the project, has to fix.
    Fault = "fault",
}

/// A log line under construction. Values are quoted, so that none can add a field or a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    event: Event,
    text: String,
}

impl Line {
    /// Starts a line about `event`.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self { event, text: format!("event={}", event.as_str()) }
    }

    /// Makes a line about `event` with a sentence only.
    #[must_use]
    pub fn of(event: Event, message: impl Display) -> Self {
        Self::new(event).message(message)
    }

    /// Adds `key=value`, and quotes the value if necessary.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        self.text.push(' ');
        push_field(&mut self.text, key, &value.to_string());
        self
    }

    /// Adds `key=value` if there is a value.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a sentence for people.
    #[must_use]
    pub fn message(self, text: impl Display) -> Self {
        self.with("message", text)
    }

    /// The event that the line reports.
    #[must_use]
    pub fn event(&self) -> Event {
        self.event
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Formats the fields that start each line of a process, such as `session=1a2b3c4d user=alice
/// peer=192.0.2.7`.
#[must_use]
pub fn fields(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        if !text.is_empty() {
            text.push(' ');
        }
        push_field(&mut text, key, value);
    }
    text
}

fn push_field(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    let value = value.trim_end_matches('\n');
    let plain = |c: char| c.is_alphanumeric() || (c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\'));
    if !value.is_empty() && value.len() <= MAX_VALUE && value.chars().all(plain) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for (at, c) in value.char_indices() {
        if at >= MAX_VALUE {
            text.push('…');
            break;
        }
        push_quoted(text, c);
    }
    text.push('"');
}

/// Adds a character to a quoted value, with the escapes of JSON, as readers of logfmt expect.
///
/// Escaped is what would end the value or the line, and what reorders or hides text on a terminal.
/// A line break becomes `; `.
fn push_quoted(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("; "),
        '"' | '\\' => text.extend(['\\', c]),
        c if c.is_control() || is_hidden(c) => {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
        c => text.push(c),
    }
}

/// True for bidirectional controls, line and paragraph separators.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a line after `max` bytes and adds a mark. A value that is cut remains quoted.
#[must_use]
pub fn cut(mut line: String, max: usize) -> String {
    if line.len() <= max {
        return line;
    }
    line.truncate(head(&line, max).len());
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    if escaped {
        line.pop();
    }
    line.push('…');
    if quoted {
        line.push('"');
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_quoted_when_they_must_be() {
        let line = Line::new(Event::Login)
            .with("outcome", "refused")
            .with("n", 7)
            .with("empty", "")
            .with("reason", "The \"hub\" says no.\nTry again.\n")
            .with("path", r"C:\x")
            .with("pair", "a=b")
            .with_some("none", None::<u8>)
            .message("\x1b[31m\u{202e}ü\r\0");
        assert_eq!(
            line.to_string(),
            r#"event=login outcome=refused n=7 empty="" reason="The \"hub\" says no.; Try again." path="C:\\x" pair="a=b" message="\u001b[31m\u202eü\u000d\u0000""#
        );
        assert_eq!(
            fields(&[("user", "alice+gpu"), ("peer", "fe80::1%eth0")]),
            "user=alice+gpu peer=fe80::1%eth0"
        );
    }

    #[test]
    fn words_are_words_and_each_its_own() {
        let mut words: Vec<_> = Event::ALL.iter().map(|event| event.as_str()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Event::ALL.len());
    }

    #[test]
    fn every_event_is_explained() {
        let page = include_str!("../../docs/logs.md");
        for event in Event::ALL {
            assert!(page.contains(&format!("\n| `{}` |", event.as_str())), "{event:?}");
        }
    }

    #[test]
    fn a_line_that_is_cut_is_whole() {
        let line = || Line::of(Event::Fault, r#"a "quoted" \ text"#).to_string();
        assert_eq!(cut(line(), 200), line());
        for max in 12..line().len() {
            let shorter = cut(line(), max);
            assert!(shorter.len() <= max + 4, "{shorter}");
            assert!(parse(&shorter).is_some(), "{shorter}");
        }
    }

    /// As a reader of logfmt does it.
    fn parse(line: &str) -> Option<Vec<(String, String)>> {
        let (mut rest, mut found) = (line, Vec::new());
        while !rest.is_empty() {
            let Some((key, after)) = rest.split_once('=') else {
                found.push((rest.to_owned(), String::new()));
                break;
            };
            if let Some(quoted) = after.strip_prefix('"') {
                let mut value = String::from("\"");
                let mut escaped = false;
                let end = quoted.char_indices().find(|(_, c)| {
                    value.push(*c);
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                })?;
                found.push((key.to_owned(), unquote(&value)?));
                rest = quoted.get(end.0 + 1..)?;
                rest = rest.strip_prefix(' ').unwrap_or(rest);
            } else {
                let (value, after) = after.split_once(' ').unwrap_or((after, ""));
                found.push((key.to_owned(), value.to_owned()));
                rest = after;
            }
        }
        Some(found)
    }

    fn unquote(text: &str) -> Option<String> {
        let mut chars = text.strip_prefix('"')?.strip_suffix('"')?.chars();
        let mut out = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next()? {
                    'u' => {
                        let digits: String = chars.by_ref().take(4).collect();
                        out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    c => out.push(c),
                },
                c => out.push(c),
            }
        }
        Some(out)
    }

    proptest! {
        #[test]
        fn whatever_a_value_holds_stays_in_it(values in prop::collection::vec("\\PC{0,30}|[\"\\\\ =a\n]{0,9}|.{0,20}", 0..5)) {
            let mut line = Line::new(Event::Transfer);
            for value in &values {
                line = line.with("key", value);
            }
            let text = line.with("last", 1).to_string();
            prop_assert!(!text.chars().any(|c| c.is_control() || is_hidden(c)));
            let fields = parse(&text).unwrap();
            prop_assert_eq!(fields.len(), values.len() + 2);
            for ((key, got), value) in fields.iter().skip(1).zip(&values) {
                prop_assert_eq!(key, "key");
                prop_assert_eq!(got, &value.trim_end_matches('\n').replace('\n', "; "));
            }
        }

        #[test]
        fn no_value_is_endless(value in "\\PC{0,9}", times in 0usize..2000) {
            let text = Line::of(Event::Fault, value.repeat(times)).to_string();
            prop_assert!(text.len() <= 40 + 6 * (MAX_VALUE + 8));
        }
    }
}
