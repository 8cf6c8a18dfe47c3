//! Writes `hub.url` into the text of a configuration and leaves every other byte of it alone.

use std::path::Path;

use common::{ConfigError, HubUrl};

use super::Config;

/// The text with another `hub.url`: in place of the one that it sets, or of the comment that shows how to, or in a
/// table of its own.
///
/// What comes out is read again: it has this address, and says the same as before in all else. A text with a mistake
/// can only be mended so if its only mistake is the address.
///
/// # Errors
/// No such change was found: the text has other mistakes, or sets the address in an unusual form.
pub fn with_hub_url(text: &str, url: &HubUrl, path: &Path) -> Result<String, ConfigError> {
    let before = Config::from_str(text, path);
    if before.as_ref().is_ok_and(|before| before.settings.hub.url.as_ref() == Some(url)) {
        return Ok(text.to_owned());
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = format!("url = \"{}\"\n", url.base());
    let hub = lines.iter().position(|line| line.split('#').next().unwrap_or_default().trim() == "[hub]");
    let made = match hub {
        Some(at) => {
            let table = || {
                lines
                    .iter()
                    .enumerate()
                    .skip(at + 1)
                    .take_while(|(_, line)| !line.trim_start().starts_with('['))
            };
            let is_set = |line: &str| sets_url(line);
            let is_shown = |line: &str| line.strip_prefix('#').is_some_and(sets_url);
            let mut found = table().find(|(_, line)| is_set(line));
            if found.is_none() {
                found = table().find(|(_, line)| is_shown(line));
            }
            match found {
                Some((at, old)) => {
                    let indent = &old[..old.len() - old.trim_start_matches([' ', '\t']).len()];
                    [lines[..at].concat(), format!("{indent}{line}"), lines[at + 1..].concat()].concat()
                }
                None => [with_end(&lines[..=at].concat()), line, lines[at + 1..].concat()].concat(),
            }
        }
        None => format!("{}\n[hub]\n{line}", with_end(text)),
    };
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

/// Whether a line sets the key `url`.
fn sets_url(line: &str) -> bool {
    line.trim_start().strip_prefix("url").is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// The text with a line feed at its end, unless it is empty.
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
                "[hub] # ours\n  url = \"http://h\"\nstart_timeout = 60",
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
            ("hub.url='HTTP://h/'", "hub.url='HTTP://h/'"),
            // An address that is wrong is the one mistake that can be mended.
            ("[hub]\nurl = 'hub'\n", "[hub]\nurl = \"http://h\"\n"),
            ("[hub]\nurl = hub\n", "[hub]\nurl = \"http://h\"\n"),
        ] {
            assert_eq!(set(text, "http://h").as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_changed_is_said() {
        for (text, message) in [
            ("hub = { url = 'http://a' }\n", "in a form that cannot be changed\nChange it with an editor."),
            ("hub.url = 'http://a'\n", "in a form that cannot be changed"),
            ("[hub]\n\"url\" = 'http://a'\n", "in a form that cannot be changed"),
            ("[hub]\nurl = '''\nhttp://a'''\n", "in a form that cannot be changed"),
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
