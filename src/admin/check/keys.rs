//! Checks what login by key needs on this host: the service token and the administrator's keys.

use super::{Finding, PATIENCE};
use crate::status::patience::await_answer;
use ::hub::service_token;
use common::UserName;
use common::paths::KEYS_USER;
use host::config::{Config, Keys, Source};
use nix::unistd::Group;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TOPIC: &str = "keys";
/// Most files in the administrator's directory that are checked.
const MAX_FILES: usize = 1000;

/// Checks what `[keys]` needs on this host.
pub fn check(config: &Config) -> Vec<Finding> {
    let keys = &config.keys;
    let Some(token) = &keys.service_token_file else {
        return vec![Finding::info(
            TOPIC,
            "off, users log in with a token",
            "To turn keys on, make a service on the hub that may make tokens, and set service_token_file in [keys]: see \
             jupyterhub-openssh.toml(5)",
        )];
    };
    let mut findings = Vec::new();
    match service_token::read(token) {
        Err(error) => findings.push(Finding::error(TOPIC, error.problem(), error.remedy())),
        // That root can read it doesn't mean that the user who needs it can.
        Ok(_) => findings.extend(unreadable(token, keys_group())),
    }
    if keys.sources.is_empty() {
        findings.push(Finding::warning(
            TOPIC,
            "no key is looked for, as there are no sources: only certificates can log in",
            "Set sources in [keys], as in sources = [\"file\"]; remove service_token_file to turn keys off",
        ));
        return findings;
    }
    if keys.sources.contains(&Source::File) {
        findings.extend(directory(keys));
    }
    if let (Some(url), false) = (&keys.url, keys.sources.contains(&Source::Url)) {
        findings.push(Finding::warning(
            TOPIC,
            format_args!("no key is looked for at {url}, as \"url\" is not among the sources"),
            "Add \"url\" to sources in [keys], or remove url",
        ));
    }
    if !findings.iter().any(|finding| finding.is_error()) {
        findings.insert(0, Finding::fine(TOPIC, format_args!("on, those from {}", sources(keys))));
    }
    findings
}

/// The gid of the group that must be able to read the service token.
fn keys_group() -> Option<u32> {
    Group::from_name(KEYS_USER).ok().flatten().map(|group| group.gid.as_raw())
}

/// Checks that `group` can read the file with the service token.
fn unreadable(token: &Path, group: Option<u32>) -> Option<Finding> {
    let readable =
        fs::metadata(token).is_ok_and(|facts| Some(facts.gid()) == group && facts.mode() & 0o040 != 0);
    let shown = token.display();
    (!readable).then(|| {
        Finding::error(
            TOPIC,
            format_args!("the service token file {shown} is not readable for the group {KEYS_USER}"),
            format_args!("chown root:{KEYS_USER} {shown} && chmod 640 {shown}"),
        )
    })
}

/// True if keys come from the hub or from a web page.
pub fn are_remote(keys: &Keys) -> bool {
    keys.is_on() && (keys.sources.contains(&Source::Hub) || keys.sources.contains(&Source::Url))
}

/// Describes where keys come from.
fn sources(keys: &Keys) -> String {
    let words = keys.sources.iter().map(|source| match (source, &keys.url) {
        (Source::Home, _) => "users' homes".to_owned(),
        (Source::Hub, _) => format!("the hub (auth_state field {})", keys.hub_field),
        (Source::Url, Some(url)) => url.to_string(),
        (Source::Url, None) => "url".to_owned(),
        (Source::File, _) => keys.directory.display().to_string(),
    });
    words.collect::<Vec<_>>().join(", then ")
}

/// Checks the administrator's directory of keys. Only root may write to it, and everybody must be
/// able to read it, because keys are looked up with each user's uid.
fn directory(keys: &Keys) -> Option<Finding> {
    let path = keys.directory.clone();
    await_answer(PATIENCE, move || look(&path, 0)).unwrap_or_else(|| {
        let path = keys.directory.display();
        let problem = format!("{path} does not answer within {} s", PATIENCE.as_secs());
        let remedy = format!(
            "See what hangs: findmnt -T {path}; or set directory in [keys] to one of this host's disk"
        );
        Some(Finding::error(TOPIC, problem, remedy))
    })
}

/// Does the checks that may wait for a file server. `root` is the uid that must own the files:
/// root's, except in tests.
fn look(path: &Path, root: u32) -> Option<Finding> {
    let shown = path.display();
    let entries = match fs::metadata(path) {
        Ok(facts) if !facts.is_dir() => {
            return Some(Finding::error(
                TOPIC,
                format_args!("{shown} is no directory"),
                "Correct directory in [keys]",
            ));
        }
        Ok(facts) if facts.uid() != root || facts.mode() & 0o022 != 0 || facts.mode() & 0o001 == 0 => {
            return Some(Finding::error(
                TOPIC,
                format_args!(
                    "the keys in {shown} are not used: it must be root's alone, and everybody may enter"
                ),
                format_args!("chown root {shown}; chmod 755 {shown}"),
            ));
        }
        Ok(_) => fs::read_dir(path),
        Err(error) => Err(error),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            return Some(Finding::error(
                TOPIC,
                format_args!("the directory of keys {shown}: {error}"),
                "Make it, and in it a file for each user; or remove \"file\" from sources in [keys]",
            ));
        }
    };
    let (mut count, mut wrong) = (0_usize, Vec::new());
    for entry in entries.flatten().take(MAX_FILES) {
        let name = entry.file_name().into_string().ok().filter(|name| UserName::parse(name).is_ok());
        let (Some(name), Ok(facts)) = (name, entry.metadata()) else { continue };
        count += 1;
        let mode = facts.mode();
        if !facts.is_file() || facts.uid() != root || mode & 0o022 != 0 || mode & 0o004 == 0 {
            wrong.push(name);
        }
    }
    let name = wrong.first()?;
    Some(Finding::error(
        TOPIC,
        format_args!(
            "{} of {count} files in {shown} are not used, such as {name}: a file must be a regular one, root's alone, \
             and readable by all",
            wrong.len()
        ),
        format_args!("chown root {shown}/{name}; chmod 644 {shown}/{name}"),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn config(keys: &str) -> Config {
        let text = format!("[homes]\nroot = '/srv/homes'\n[keys]\n{keys}");
        Config::from_str(&text, Path::new("config.toml")).unwrap()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn how_to_turn_keys_on_is_told() {
        let found = check(&config(""));
        assert!(found.len() == 1 && !found[0].is_error(), "{found:?}");
        assert!(found[0].text().starts_with("keys: off, users log in with a token. "), "{found:?}");
        let found = check(&config("service_token_file = '/nonexistent/token'\nsources = []"));
        assert!(found.len() == 2 && found[0].is_error(), "{found:?}");
        assert!(found[0].text().contains("/nonexistent/token"), "{found:?}");
        assert!(found[1].text().contains("no key is looked for"), "{found:?}");
    }

    #[test]
    fn the_service_token_must_be_readable_for_its_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let group = fs::metadata(file.path()).unwrap().gid();
        chmod(file.path(), 0o640);
        assert_eq!(unreadable(file.path(), Some(group)), None);
        for other in [None, Some(group + 1)] {
            assert!(unreadable(file.path(), other).is_some_and(|finding| finding.is_error()));
        }
        chmod(file.path(), 0o600);
        let found = unreadable(file.path(), Some(group)).unwrap();
        assert!(found.is_error() && found.text().contains(" && chmod 640 "), "{found:?}");
    }

    #[test]
    fn sources_are_named_in_their_order() {
        let text =
            "sources = ['file', 'home', 'hub', 'url']\nurl = 'https://git.example.org/{username}.keys'";
        assert_eq!(
            sources(&config(text).keys),
            "/etc/jupyterhub-openssh/keys, then users' homes, then the hub (auth_state field ssh_public_keys), then \
             https://git.example.org/{username}.keys"
        );
        let found = check(&config(
            "service_token_file = '/nonexistent/token'\nurl = 'https://git.example.org/{username}.keys'",
        ));
        assert!(found.iter().any(|f| !f.is_error() && f.text().contains("\"url\" is not among the sources")));
    }

    #[test]
    fn the_directory_is_the_administrators_and_readable() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().uid();
        let found = |root| look(dir.path(), root).map(|finding| (finding.is_error(), finding.text()));
        chmod(dir.path(), 0o755);
        assert_eq!(found(root), None);
        for name in ["alice", "bob", "carol", ".bob.swp", "alice~"] {
            fs::write(dir.path().join(name), "").unwrap();
            chmod(&dir.path().join(name), 0o644);
        }
        assert_eq!(found(root), None);
        for mode in [0o664, 0o646, 0o640, 0o600] {
            chmod(&dir.path().join("bob"), mode);
            let (broken, text) = found(root).unwrap();
            assert!(broken && text.contains("1 of 3 files in ") && text.contains("such as bob: "), "{text}");
        }
        fs::remove_file(dir.path().join("bob")).unwrap();
        symlink("alice", dir.path().join("bob")).unwrap();
        assert!(found(root).is_some_and(|(_, text)| text.contains("such as bob: ")));
        fs::remove_file(dir.path().join("bob")).unwrap();
        for mode in [0o775, 0o757, 0o700] {
            chmod(dir.path(), mode);
            assert!(found(root).is_some_and(|(broken, text)| broken && text.contains("root's alone")));
        }
        chmod(dir.path(), 0o755);
        assert!(found(root + 1).is_some_and(|(broken, _)| broken));
        assert!(look(&dir.path().join("none"), root).unwrap().text().contains("No such file"));
        assert!(look(&dir.path().join("alice"), root).unwrap().text().contains("is no directory"));
    }
}
