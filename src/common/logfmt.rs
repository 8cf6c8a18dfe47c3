//! Lines for the system log, as logfmt has them: `event=login outcome=refused by=token reason="…"`. The words for
//! what can happen stand here and nowhere else; docs/logs.md explains each.

use std::fmt::{self, Display, Write};

/// Longest value, in bytes before quoting: a command line or a path with room to spare, so that no value hides the
/// fields after it.
const MAX_VALUE: usize = 1400;

/// Declares the events, so that none can be without its word.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What a line is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word that stands after `event=`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

events! {
    /// sshd was told whether somebody is let in. Of the PAM module; exactly one line for each attempt.
    Login = "login",
    /// What the gateway found out about the token of a login.
    Token = "token",
    /// The keeper has had a token made, or given it back.
    Keeper = "keeper",
    /// A source of keys was asked about an offered key.
    Key = "key",
    /// The connection's jail is complete; the session begins.
    SessionOpened = "session-opened",
    /// It is over.
    SessionClosed = "session-closed",
    /// There is none, although the login was granted.
    SessionFailed = "session-failed",
    /// A limit is near or reached.
    Limit = "limit",
    /// An administrator has ended the session.
    Disconnect = "disconnect",
    /// Somebody was turned away at a socket of the gateway.
    Denied = "denied",
    /// The home or a share is not as configured.
    Home = "home",
    /// The session's uid is that of other accounts, too.
    Uid = "uid",
    /// A shell, a command or a file service was asked for.
    ChannelOpened = "channel-opened",
    /// It has ended.
    ChannelClosed = "channel-closed",
    /// It could not be served.
    ChannelRefused = "channel-refused",
    /// What sftp-server says of files.
    Transfer = "transfer",
    /// A terminal of the user's server was opened, closed or left.
    Terminal = "terminal",
    /// The agent in the user's server has come, gone, or failed.
    Agent = "agent",
    /// The user's server could not be reached, or was started.
    Server = "server",
    /// The connection to the user's server was lost, or is there again.
    Link = "link",
    /// A name could not be looked up.
    Lookup = "lookup",
    /// What this host's kernel lacks to confine a process of ours.
    Sandbox = "sandbox",
    /// Lines of this process that no logger took.
    Lost = "log-lost",
    /// Something that an administrator, or we, must mend.
    Fault = "fault",
}

/// One line, growing from left to right. Whatever a value holds stays within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    event: Event,
    text: String,
}

impl Line {
    /// A line about `event`.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self { event, text: format!("event={}", event.as_str()) }
    }

    /// A line that is only a sentence.
    #[must_use]
    pub fn of(event: Event, message: impl Display) -> Self {
        Self::new(event).message(message)
    }

    /// Adds `key=value`, quoted if need be.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        self.text.push(' ');
        push_field(&mut self.text, key, &value.to_string());
        self
    }

    /// Adds `key=value` if there is one.
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

    /// What it is about.
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

/// Fields that start each line of a process, such as `session=1a2b3c4d user=alice peer=192.0.2.7`.
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

/// Escapes as JSON's, which is how readers of logfmt unquote: all that ends a value or a line, and whatever reorders or
/// hides its neighbours on a terminal. A line break of a text for people becomes `; `.
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

/// Bidirectional controls, line and paragraph separators.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `max` bytes and a mark of a line of fields; a value that is cut is still quoted.
#[must_use]
pub fn cut(mut line: String, max: usize) -> String {
    if line.len() <= max {
        return line;
    }
    let mut end = max;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
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
