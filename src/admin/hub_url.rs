//! `jupyterhub-openssh hub-url`: prints the hub's address, checks one, or writes it into the
//! configuration. The package's installation uses it for its question.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use common::paths::CONFIG_FILE;
use common::{ConfigError, HubUrl};

use host::config::Config;

/// What to do with the hub's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Print the address, or an empty line if none is set.
    Show,
    /// Check whether this can be the address of a hub.
    Try(&'a str),
    /// Write the address into the configuration.
    Set(&'a str),
}

/// Carries out the request and returns the exit status: 0, or 1 after two lines on standard error,
/// what is wrong and what to do.
#[must_use]
pub fn run(request: &Request<'_>) -> u8 {
    let done = match request {
        Request::Show => shown().map(|text| {
            // The reader may have stopped reading (EPIPE).
            let _ = writeln!(io::stdout(), "{text}");
        }),
        Request::Try(text) => parsed(text).map(drop),
        Request::Set(text) => parsed(text).and_then(|url| set(Path::new(CONFIG_FILE), 0, &url)),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    }
}

fn shown() -> Result<String, ConfigError> {
    let config = Config::load()?;
    Ok(config.hub().url.as_ref().map(ToString::to_string).unwrap_or_default())
}

fn parsed(text: &str) -> Result<HubUrl, ConfigError> {
    HubUrl::parse(text).map_err(|error| ConfigError::new(error.problem, error.remedy))
}

/// Writes the address into the file at `path`, which `owner` must own. The file is replaced as a
/// whole and keeps its permissions. If it has this address already, it is left alone.
fn set(path: &Path, owner: u32, url: &HubUrl) -> Result<(), ConfigError> {
    let before = Config::read_text(path, owner)?;
    let after = host::config::with_hub_url(&before, url, path)?;
    if after == before {
        return Ok(());
    }
    replace(path, &after).map_err(|error| {
        ConfigError::new(
            format!("cannot write the file: {error}"),
            "Only root may, on a file system that is writable.",
        )
        .in_file(path)
    })
}

/// Replaces the file as a whole by one with another text and the same owner and permissions.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("toml.new");
    // May be left from a host that lost power. Only root can make files here.
    let _ = fs::remove_file(&new);
    let facts = fs::metadata(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| std::os::unix::fs::fchown(&file, Some(facts.uid()), Some(facts.gid())))
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(facts.mode() & 0o7777)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn url(text: &str) -> HubUrl {
        HubUrl::parse(text).unwrap()
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let owner = fs::metadata(dir.path()).unwrap().uid();
        assert!(set(&path, owner, &url("http://h")).unwrap_err().to_string().contains("no such file"));
        fs::write(&path, "# mine\n[hub]\nurl = 'http://a'\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(dir.path().join("config.toml.new"), "left behind").unwrap();
        set(&path, owner, &url("http://h")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n[hub]\nurl = \"http://h\"\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let inode = fs::metadata(&path).unwrap().ino();
        set(&path, owner, &url("http://h/")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn what_is_not_written_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let owner = fs::metadata(dir.path()).unwrap().uid();
        fs::write(&path, "[hub]\nurll = 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(set(&path, owner, &url("http://h")).is_err());
        assert!(set(&path, owner + 1, &url("http://h")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "[hub]\nurll = 1\n");
        assert_eq!(parsed("hub.example.org").unwrap_err().to_string().lines().count(), 2);
    }
}
