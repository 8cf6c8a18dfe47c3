//! `jupyterhub-openssh metrics`: prints what the gateways have counted, in Prometheus' format
//! ([`text`]), or writes it to a file for node_exporter's textfile collector.

mod text;

use crate::status;
use common::text::hex;
use host::config::Config;
use host::counters::Counters;
use host::sys::random;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Exit status after success.
const FINE: u8 = 0;
/// Exit status if the metrics cannot be read or written.
const FAILED: u8 = 1;

/// Prints the metrics and returns the exit status. With `textfile` it writes them to
/// `metrics.textfile` instead, or does nothing if that is not set.
#[must_use]
pub fn run(textfile: bool) -> u8 {
    let outcome = if textfile { write_configured() } else { print() };
    match outcome {
        Ok(()) => FINE,
        Err(why) => {
            // The reader may have stopped reading (EPIPE).
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

/// Two lines about counters that cannot be read: what happened, and what to do.
fn unreadable(error: &io::Error) -> String {
    let path = common::paths::COUNTERS;
    if error.kind() == io::ErrorKind::PermissionDenied {
        format!("Only root can read what was counted ({path}).\nsudo jupyterhub-openssh metrics")
    } else {
        // Don't suggest removing it: all counters would start again from zero.
        format!(
            "{path} cannot be read: {error}.\nIt must be a regular file of root's; see what it is: ls -ld {path}"
        )
    }
}

/// Replaces a file as a whole, so that node_exporter never sees part of it.
///
/// Other accounts may write to the directory, so no link in it is followed: the text goes to a new
/// file with a random name, which is then renamed. If the program is killed in between, that file
/// stays.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = OsString::from(".");
    new.push(name);
    // Doesn't end in .prom, so that node_exporter ignores it. Random, so that nobody can be there
    // first.
    new.push(format!(".{}", hex(&random::bytes::<8>()?)));
    let new = path.with_file_name(new);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).custom_flags(flags).open(&new)?;
    // Whatever the umask is, node_exporter's user must be able to read it.
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
        // A file that cannot be replaced stays, and no other file is left.
        let taken = dir.path().join("taken.prom");
        fs::create_dir(&taken).unwrap();
        assert!(write(&taken, "x").is_err() && taken.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
