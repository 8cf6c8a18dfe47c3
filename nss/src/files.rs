//! Reads the configuration and group(5), with bounds and without ever blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use common::settings::{self, Settings};
use common::{ConfigError, paths};

/// Largest group file that is read, in bytes.
const MAX_GROUP: u64 = 8 * 1024 * 1024;

/// Reads the configuration.
///
/// # Errors
/// It cannot be read, a user other than `trusted` can write to it, or a value in it is invalid.
pub fn settings(path: &Path, trusted: u32) -> Result<Settings, ConfigError> {
    let read = || {
        let file = open(path).map_err(|error| settings::unreadable(&error))?;
        let facts = file.metadata().map_err(|error| settings::unreadable(&error))?;
        let text = settings::read_file(file, facts.mode(), facts.uid(), trusted)?;
        Settings::parse(&text)
    };
    read().map_err(|error: ConfigError| error.in_file(path))
}

/// Looks up the gid of group `jupyterhub`.
///
/// # Errors
/// The file cannot be read, or lacks the group; sshd's Match block would not apply to hub users
/// then.
pub fn group_id(path: &Path) -> Result<u32, ConfigError> {
    let read = || {
        let mut bytes = Vec::new();
        open(path)?.take(MAX_GROUP + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_GROUP { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    };
    let found = read()
        .map_err(|error: io::Error| ConfigError::new(format!("cannot read the file: {error}"), "Repair it."))
        .and_then(|bytes| {
            find_group(&bytes, paths::GROUP).ok_or_else(|| {
                ConfigError::new(
                    format!("there is no group {}", paths::GROUP),
                    format!("Create it: addgroup --system {}.", paths::GROUP),
                )
            })
        });
    found.map_err(|error| error.in_file(path))
}

/// Finds a group's gid in the text of group(5), `name:password:gid:members`; the first line of that
/// name counts.
///
/// Gids 0 and -1 are rejected.
pub fn find_group(text: &[u8], name: &str) -> Option<u32> {
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':'));
    let mut fields = lines.find_map(|mut fields| (fields.next()? == name.as_bytes()).then_some(fields))?;
    let gid = std::str::from_utf8(fields.nth(1)?).ok()?;
    // FromStr would accept a leading +.
    let digits = !gid.is_empty() && gid.bytes().all(|b| b.is_ascii_digit());
    gid.parse().ok().filter(|gid| digits && *gid != 0 && *gid != u32::MAX)
}

fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: a fifo in the file's place must not block sshd.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::tests::{configure, sandbox};
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        for (text, gid) in [
            ("jupyterhub:x:990:", Some(990)),
            ("jupyterhub:x:990", Some(990)),
            ("root:x:0:\njupyterhub:x:990:alice,bob\n", Some(990)),
            ("jupyterhub:x:990:\njupyterhub:x:991:\n", Some(990)),
            ("jupyterhub2:x:990:\nxjupyterhub:x:991:", None),
            ("#jupyterhub:x:990:", None),
            ("users:x:100:jupyterhub:x:990:", None),
            ("jupyterhub", None),
            ("jupyterhub:x", None),
            ("jupyterhub:x:", None),
            ("jupyterhub:x:0:", None),
            ("jupyterhub:x:+990:", None),
            ("jupyterhub:x:-1:", None),
            ("jupyterhub:x:4294967295:", None),
            ("jupyterhub:x:4294967296:", None),
            ("jupyterhub:x: 990:", None),
            ("", None),
        ] {
            assert_eq!(find_group(text.as_bytes(), "jupyterhub"), gid, "{text:?}");
        }
    }

    #[test]
    fn a_huge_group_file_is_an_error() {
        let (_dir, env) = sandbox();
        assert_eq!(group_id(&env.group), Ok(990));
        let size = usize::try_from(MAX_GROUP).unwrap();
        fs::write(&env.group, "jupyterhub:x:990:\n".to_owned() + &"#".repeat(size)).unwrap();
        assert!(group_id(&env.group).is_err());
        fs::remove_file(&env.group).unwrap();
        assert!(group_id(&env.group).is_err());
    }

    #[test]
    fn a_configuration_that_others_could_have_written_is_refused() {
        let (dir, env) = sandbox();
        let load = || settings(&env.config, env.trusted);
        assert!(load().is_ok());
        assert!(settings(&env.config, env.trusted + 1).is_err());
        fs::set_permissions(&env.config, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(load().is_err());
        configure(&env, &"#".repeat(common::table::MAX_SIZE + 1));
        assert!(load().is_err());
        let real = dir.path().join("real.toml");
        configure(&env, "");
        fs::rename(&env.config, &real).unwrap();
        assert!(load().is_err(), "there is none");
        symlink(&real, &env.config).unwrap();
        assert!(load().is_err(), "a link");
        fs::remove_file(&env.config).unwrap();
        fs::create_dir(&env.config).unwrap();
        assert!(load().is_err(), "a directory");
        fs::remove_dir(&env.config).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&env.config).status().unwrap();
        assert!(made.success());
        assert!(load().is_err(), "a fifo, without waiting");
    }

    proptest! {
        #[test]
        fn any_group_file_is_searched_without_a_panic(text in "([a-c:\\n0-9+-]|jupyterhub){0,40}|\\PC*") {
            let _ = find_group(text.as_bytes(), "jupyterhub");
        }
    }
}
