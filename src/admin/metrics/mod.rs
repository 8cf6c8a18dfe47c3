//! `jupyterhub-openssh metrics`: what gateways have counted, for Prometheus.

mod text; // Prometheus' format

use crate::status;
use host::config::Config;
use host::counters::Counters;
use host::sys::random;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FINE: u8 = 0;
const FAILED: u8 = 1;

/// Prints the numbers, or, for `textfile`, writes them where the configuration says: nothing if it
/// says nothing. Returns the exit status.
#[must_use]
pub fn run(textfile: bool) -> u8 {
    let outcome = if textfile { write_configured() } else { print() };
    match outcome {
        Ok(()) => FINE,
        Err(why) => {
            // Whoever reads this may have stopped reading (EPIPE).
            let _ = writeln!(io::stderr(), "{why}");
            FAILED
        }
    }
}

fn print() -> Result<(), String> {
    let _ = io::stdout().write_all(collect()?.as_bytes());
    Ok(())
}

fn write_configured() -> Result<(), String> {
    let config = Config::load().map_err(|e| e.to_string())?;
    let Some(path) = &config.metrics.textfile else { return Ok(()) };
    let text = collect()?;
    write(path, &text).map_err(|e| {
        format!(
            "{} cannot be written: {e}.\nmetrics.textfile must be in a directory that is there, such as node_exporter's.",
            path.display()
        )
    })
}

fn collect() -> Result<String, String> {
    let counters = Counters::load().map_err(|e| unreadable(&e))?;
    Ok(text::exposition(&counters, status::count_sessions().ok()))
}

/// Two lines about the file of the numbers.
fn unreadable(error: &io::Error) -> String {
    let path = common::paths::COUNTERS;
    if error.kind() == io::ErrorKind::PermissionDenied {
        format!("Only root can read what was counted ({path}).\nsudo jupyterhub-openssh metrics")
    } else {
        // What stands in it is lost with it, and is then counted from zero.
        format!(
            "{path} cannot be read: {error}.\nIt must be a regular file of root's; see what it is: ls -ld {path}"
        )
    }
}

/// Replaces a file whole, so that node_exporter never sees a part of it. Nothing that somebody has
/// put into the directory is followed: the file is made anew under a random name, and renamed. One
/// that is killed in between leaves that behind.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = OsString::from(".");
    new.push(name);
    // Not ending in .prom: node_exporter leaves it alone. Nor foreseen by anybody who may write
    // there.
    new.push(format!(".{}", random::hex(&random::bytes::<8>()?)));
    let new = path.with_file_name(new);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).custom_flags(flags).open(&new)?;
    // Whatever the umask says: it is to be read by somebody else.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let done = file.set_permissions(readable).and_then(|()| file.write_all(text.as_bytes()));
    let done = done.and_then(|()| fs::rename(&new, path));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn nothing_is_to_be_removed_for_want_of_rights() {
        let denied = unreadable(&io::ErrorKind::PermissionDenied.into());
        assert!(
            denied.ends_with("\nsudo jupyterhub-openssh metrics") && !denied.contains("remove"),
            "{denied}"
        );
        let other = unreadable(&io::Error::from_raw_os_error(libc::EIO));
        assert!(
            other.contains("cannot be read: ") && other.contains("\n") && !other.contains("remove"),
            "{other}"
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("x.prom"), dir.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        symlink(&other, &path).unwrap();
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
        assert!(write(&dir.path().join("none/x.prom"), "x").is_err());
        // What cannot be replaced stays, and nothing else.
        let taken = dir.path().join("taken.prom");
        fs::create_dir(&taken).unwrap();
        assert!(write(&taken, "x").is_err() && taken.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
