//! Reads the token of the hub service, which makes tokens for users who log in by key.
//!
//! A process that can read it can act as any user at the hub, so the file is checked before it is
//! used: only root may change it, and besides root only the group of [`KEYS_USER`] may read it.

use common::paths::KEYS_USER;
use common::text::one_line;
use host::secret::Token;
use nix::unistd::Group;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wire::token::{MAX_TOKEN, TokenShape};
use zeroize::Zeroizing;

/// Longest file, in bytes: a token, and white space around it.
const MAX_FILE: usize = MAX_TOKEN + 512;

/// Why there is no service token. Never contains anything of the file.
#[derive(Debug)]
pub struct ServiceTokenError {
    file: PathBuf,
    fault: Fault,
}

/// What is wrong with the file.
#[derive(Debug)]
enum Fault {
    Unreadable(io::Error),
    /// Not a regular file: a directory, a fifo, a link or a device.
    NotRegular,
    /// It belongs to this uid instead of root.
    Owner(u32),
    /// Others may read it, or users besides root may write to it: its permission bits.
    Mode(u32),
    /// The group with this gid may read it.
    Group(u32),
    /// The package's group is missing, or cannot be looked up.
    NoGroup(String),
    Shape(TokenShape),
}

/// Reads the service token: the file's whole text, without white space around it.
///
/// # Errors
/// The file is not a regular file of root's, is readable for more than root and the group
/// [`KEYS_USER`], cannot be read by this process, or contains something other than one token.
pub fn read(path: &Path) -> Result<Token, ServiceTokenError> {
    let group = match Group::from_name(KEYS_USER) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Fault::NoGroup("there is no such group".to_owned())),
        Err(why) => Err(Fault::NoGroup(why.desc().to_owned())),
    };
    let error = |fault| ServiceTokenError { file: path.to_owned(), fault };
    group.and_then(|group| read_as(path, 0, group)).map_err(error)
}

/// Does the work of [`read`]; the file must belong to `owner` and `group`.
fn read_as(path: &Path, owner: u32, group: u32) -> Result<Token, Fault> {
    // Refuses a link, and doesn't wait for a fifo.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|why| {
        if why.raw_os_error() == Some(libc::ELOOP) { Fault::NotRegular } else { Fault::Unreadable(why) }
    })?;
    judge(&file.metadata().map_err(Fault::Unreadable)?, owner, group)?;
    parse(file)
}

fn judge(facts: &Metadata, owner: u32, group: u32) -> Result<(), Fault> {
    let mode = facts.mode() & 0o7777;
    if !facts.is_file() {
        Err(Fault::NotRegular)
    } else if facts.uid() != owner {
        Err(Fault::Owner(facts.uid()))
    } else if mode & 0o027 != 0 {
        Err(Fault::Mode(mode))
    } else if mode & 0o040 != 0 && facts.gid() != group && facts.gid() != 0 {
        Err(Fault::Group(facts.gid()))
    } else {
        Ok(())
    }
}

fn parse(file: File) -> Result<Token, Fault> {
    // Reserved in advance: a buffer that grows would leave copies of the token behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut text).map_err(Fault::Unreadable)?;
    if text.len() > MAX_FILE {
        return Err(Fault::Shape(TokenShape::TooLong));
    }
    let text = std::str::from_utf8(&text).map_err(|_| Fault::Shape(TokenShape::BadCharacter))?;
    Token::parse(text.trim_ascii()).map_err(Fault::Shape)
}

impl ServiceTokenError {
    /// What is wrong with the file, in one line.
    #[must_use]
    pub fn problem(&self) -> String {
        let what = match &self.fault {
            Fault::Unreadable(why) => format!("cannot be read: {why}"),
            Fault::NotRegular => "is not a regular file".to_owned(),
            Fault::Owner(uid) => format!("belongs to uid {uid}, not to root"),
            Fault::Mode(mode) => {
                format!("is readable or writable for others than it should be (mode {mode:o})")
            }
            Fault::Group(gid) => format!("is readable for the group {gid}"),
            Fault::NoGroup(why) => format!("is for the group {KEYS_USER}: {why}"),
            Fault::Shape(TokenShape::Empty) => "is empty".to_owned(),
            Fault::Shape(TokenShape::TooLong) => "is too long for a token".to_owned(),
            Fault::Shape(TokenShape::BadCharacter) => "holds something else than one token".to_owned(),
        };
        one_line(&format!("the service token file {} {what}", self.file.display()))
    }

    /// What to do about it, in one line.
    #[must_use]
    pub fn remedy(&self) -> String {
        let file = one_line(&self.file.display().to_string());
        match &self.fault {
            Fault::NotRegular => "Put the token there itself, neither a link nor a device.".to_owned(),
            Fault::NoGroup(_) => "Reinstall the package.".to_owned(),
            Fault::Unreadable(why) if why.kind() == io::ErrorKind::NotFound => {
                "Write the token of the hub's service into it, or correct keys.service_token_file.".to_owned()
            }
            Fault::Shape(_) => {
                "Write the token into it that the hub's configuration gives to the service.".to_owned()
            }
            Fault::Unreadable(_) | Fault::Owner(_) | Fault::Mode(_) | Fault::Group(_) => {
                format!("chown root:{KEYS_USER} {file} && chmod 640 {file}")
            }
        }
    }

    /// Problem and remedy in one line, for the log.
    #[must_use]
    pub fn one_line(&self) -> String {
        format!("{}. {}", self.problem(), self.remedy())
    }
}

impl fmt::Display for ServiceTokenError {
    /// Formats two lines: what is wrong, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.problem(), self.remedy())
    }
}

impl std::error::Error for ServiceTokenError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    const TOKEN: &str = "0123456789abcdef";

    /// Creates a file in a directory of its own.
    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service-token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    /// Reads the file as if its owner and group should be these.
    fn read_moved(path: &Path, owner: u32, group: u32) -> Result<Token, String> {
        let facts = fs::symlink_metadata(path).unwrap();
        read_as(path, facts.uid() + owner, facts.gid() + group)
            .map_err(|fault| ServiceTokenError { file: "/etc/token".into(), fault }.to_string())
    }

    #[test]
    fn white_space_around_the_token_is_dropped() {
        for text in [TOKEN.to_owned(), format!("{TOKEN}\n"), format!(" {TOKEN}\r\n\n")] {
            for mode in [0o640, 0o600, 0o400, 0o440] {
                let (_dir, path) = file(text.as_bytes(), mode);
                assert_eq!(read_moved(&path, 0, 0).unwrap().expose(), TOKEN, "{text:?} {mode:o}");
            }
        }
    }

    #[test]
    fn what_more_than_root_and_the_group_may_read_or_change_is_refused() {
        for mode in [0o644, 0o641, 0o642, 0o660, 0o620, 0o777] {
            let (_dir, path) = file(TOKEN.as_bytes(), mode);
            let error = read_moved(&path, 0, 0).unwrap_err();
            let remedy = "\nchown root:_jupyterhub-openssh-keys /etc/token && chmod 640 /etc/token";
            assert!(error.contains(&format!("(mode {mode:o})")) && error.ends_with(remedy), "{error}");
        }
        let (_dir, path) = file(TOKEN.as_bytes(), 0o640);
        assert!(read_moved(&path, 1, 0).unwrap_err().contains("not to root"));
        let gid = fs::metadata(&path).unwrap().gid();
        // Root's group is root.
        assert_eq!(read_moved(&path, 0, 1).is_err(), gid != 0);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(read_moved(&path, 0, 1).is_ok(), "no group may read it");
    }

    #[test]
    fn only_a_plain_file_with_one_token_is_taken() {
        for (text, expected) in [
            ("".to_owned(), "is empty\nWrite the token"),
            (" \n".to_owned(), "is empty"),
            (format!("{TOKEN}\n{TOKEN}"), "holds something else than one token"),
            (format!("TOKEN={TOKEN} x"), "holds something else"),
            ("a".repeat(MAX_TOKEN + 1), "is too long"),
            ("a".repeat(1 << 20), "is too long"),
            ("tök".to_owned(), "holds something else"),
        ] {
            let (_dir, path) = file(text.as_bytes(), 0o640);
            let error = read_moved(&path, 0, 0).unwrap_err();
            assert!(error.contains(expected) && !error.contains(TOKEN), "{error}");
        }
        let (_dir, path) = file(b"\xff\xfe", 0o640);
        assert!(read_moved(&path, 0, 0).unwrap_err().contains("holds something else"));
        let link = path.with_file_name("link");
        symlink(&path, &link).unwrap();
        assert!(read_moved(&link, 0, 0).unwrap_err().contains("is not a regular file"));
        let directory = path.parent().unwrap();
        assert!(read_moved(directory, 0, 0).unwrap_err().contains("is not a regular file"));
        let fifo = path.with_file_name("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
        assert!(read_moved(&fifo, 0, 0).unwrap_err().contains("is not a regular file"));
    }

    #[test]
    fn a_missing_file_is_named_on_one_line() {
        let fault = read_as(Path::new("/nonexistent/token"), 0, 0).unwrap_err();
        let error = ServiceTokenError { file: "/nonexistent/\ntoken".into(), fault };
        let line = error.one_line();
        assert!(line.contains("cannot be read: ") && !line.contains('\n'), "{line}");
        assert!(error.to_string().lines().count() == 2 && error.remedy().contains("keys.service_token_file"));
    }
}
