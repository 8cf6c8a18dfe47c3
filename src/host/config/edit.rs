//! Sets `hub.url` in the text of a configuration and leaves every other byte alone.
//!
//! The TOML parser tells where in the text each value stands.

use std::ops::Range;
use std::path::Path;

use common::{ConfigError, HubUrl};
use toml::de::DeTable;

use super::Config;

/// Returns the text with another `hub.url`.
///
/// The new value replaces the old one. Without an old one, it replaces the commented-out example in
/// `[hub]`, or is added below `[hub]`, which is added too if it is missing.
///
/// The result is parsed again: it must have this address and must not differ otherwise. If the text
/// has a mistake, it is accepted only if the mistake is the address.
///
/// # Errors
/// The text has other mistakes, or has `hub` in a form to which no address can be added.
pub fn with_hub_url(text: &str, url: &HubUrl, path: &Path) -> Result<String, ConfigError> {
    let before = Config::from_str(text, path);
    if before.as_ref().is_ok_and(|before| before.settings.hub.url.as_ref() == Some(url)) {
        return Ok(text.to_owned());
    }
    let made = with_value(text, &format!("\"{}\"", url.base()));
    let same = |after: &Config| match &before {
        Ok(before) => {
            let mut expected = before.clone();
            expected.settings.hub.url = Some(url.clone());
            *after == expected
        }
        Err(_) => after.settings.hub.url.as_ref() == Some(url),
    };
    match Config::from_str(&made, path) {
        Ok(after) if same(&after) => Ok(made),
        _ => Err(before.err().unwrap_or_else(|| {
            ConfigError::new(
                "hub.url is set here in a form that cannot be changed",
                "Change it with an editor.",
            )
            .in_file(path)
        })),
    }
}

/// Returns the text with another value for `hub.url`, without checking the result.
fn with_value(text: &str, value: &str) -> String {
    // Recoverable, so that a text can be mended whose only mistake is the address.
    let (document, _) = DeTable::parse_recoverable(text);
    let hub = document.get_ref().get_key_value("hub");
    let old = hub.and_then(|(_, hub)| hub.get_ref().as_table()?.get("url"));
    if let Some(old) = old {
        return replaced(text, old.span(), value);
    }
    let line = format!("url = {value}\n");
    let Some((name, _)) = hub else { return format!("{}\n[hub]\n{line}", with_end(text)) };
    let header = name.span().end;
    let body = text[header..].find('\n').map_or(text.len(), |length| header + length + 1);
    let mut at = body;
    for shown in text[body..].split_inclusive('\n').take_while(|line| !line.trim_start().starts_with('[')) {
        if shown.strip_prefix('#').is_some_and(sets_url) {
            return replaced(text, at..at + shown.len(), &line);
        }
        at += shown.len();
    }
    [&with_end(&text[..body]), &line, &text[body..]].concat()
}

/// Returns the text with `range` replaced by `piece`.
fn replaced(text: &str, range: Range<usize>, piece: &str) -> String {
    [&text[..range.start], piece, &text[range.end..]].concat()
}

/// True if a line sets the key `url`.
fn sets_url(line: &str) -> bool {
    line.trim_start().strip_prefix("url").is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// Returns the text with a line feed at its end, unless it is empty.
fn with_end(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SHIPPED: &str = include_str!("../../../packaging/config.toml");

    fn set(text: &str, url: &str) -> Result<String, String> {
        let url = HubUrl::parse(url).unwrap();
        with_hub_url(text, &url, Path::new("/config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_changes_in_one_line() {
        let made = set(SHIPPED, "https://hub.test/").unwrap();
        assert_eq!(
            made,
            SHIPPED.replacen("# url = \"https://hub.example.org\"", "url = \"https://hub.test\"", 1)
        );
        assert_eq!(
            set(&made, "http://other:8000").unwrap(),
            made.replace("https://hub.test", "http://other:8000")
        );
        assert_eq!(set(&made, "https://hub.test").unwrap(), made);
    }

    #[test]
    fn whatever_an_administrator_wrote_stays() {
        for (text, expected) in [
            ("", "\n[hub]\nurl = \"http://h\"\n"),
            ("[terminal]\nmode = 'plain'", "[terminal]\nmode = 'plain'\n\n[hub]\nurl = \"http://h\"\n"),
            (
                "[hub] # ours\n  url='http://a'\nstart_timeout = 60",
                "[hub] # ours\n  url=\"http://h\"\nstart_timeout = 60",
            ),
            ("[hub]", "[hub]\nurl = \"http://h\"\n"),
            (
                "[hub]\n[keys]\nurl = 'https://g/{username}.keys'\n",
                "[hub]\nurl = \"http://h\"\n[keys]\nurl = 'https://g/{username}.keys'\n",
            ),
            (
                "[hub]\n# url = 'http://b'\nurl = 'http://a'\n",
                "[hub]\n# url = 'http://b'\nurl = \"http://h\"\n",
            ),
            ("[hub]\r\nurl = 'http://a' # the old one\r\n", "[hub]\r\nurl = \"http://h\" # the old one\r\n"),
            ("[hub]\nurl = '''\nhttp://a''' # old\n", "[hub]\nurl = \"http://h\" # old\n"),
            ("[hub]\n\"url\" = 'http://a'\n", "[hub]\n\"url\" = \"http://h\"\n"),
            ("hub = { url = 'http://a' }\n", "hub = { url = \"http://h\" }\n"),
            ("# é\nhub.url = 'http://a'\n", "# é\nhub.url = \"http://h\"\n"),
            ("hub.url='HTTP://h/'", "hub.url='HTTP://h/'"),
            // A wrong address is the only mistake that can be mended.
            ("[hub]\nurl = 'hub'\n", "[hub]\nurl = \"http://h\"\n"),
            ("[hub]\nurl = hub\n", "[hub]\nurl = \"http://h\"\n"),
        ] {
            assert_eq!(set(text, "http://h").as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_changed_is_said() {
        for (text, message) in [
            ("hub = { start_timeout = 60 }\n", "in a form that cannot be changed\nChange it with an editor."),
            ("hub.start_timeout = 60\n", "in a form that cannot be changed"),
            ("[hub]\nurll = 'http://a'\n", "key `hub.urll`: unknown key"),
            ("[hubs]\n", "key `hubs`: unknown table"),
        ] {
            let error = set(text, "http://h").unwrap_err();
            assert!(error.contains("/config.toml") && error.contains(message), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_changes(lines in proptest::collection::vec(prop_oneof![
            "\\PC{0,12}", Just("[hub]".to_owned()), Just("url = 'http://a'".to_owned()), Just("# url = 1".to_owned()),
            Just("[keys]".to_owned()), Just("'''".to_owned()), Just("start_timeout = 20".to_owned()),
            Just("[terminal]".to_owned()), Just("exit_status = false".to_owned()),
        ], 0..8)) {
            let text = lines.join("\n");
            if let Ok(made) = set(&text, "http://h") {
                let after = Config::from_str(&made, Path::new("/c")).unwrap();
                prop_assert_eq!(after.hub_url().unwrap().base(), "http://h");
                if let Ok(mut before) = Config::from_str(&text, Path::new("/c")) {
                    before.settings.hub.url.clone_from(&after.settings.hub.url);
                    prop_assert_eq!(before, after);
                }
            }
        }
    }
}
