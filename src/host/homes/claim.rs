//! Decides who owns a home that two user names could map to: the first who logs in.
//!
//! `{slug}` ends a name that is not a DNS label with 32 bits of its hash, as kubespawner does, and
//! two valid names with the same slug can be found in less than a second. So the first user with
//! such a home is recorded in a directory that only root can write to, and every other user is
//! refused that home.
//! A path that only one name can map to is not recorded.

use super::Fault;
use common::UserName;
use common::homes::Homes;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use wire::claim::HomeFault;

/// Where claims are recorded, on a host that has such homes.
pub const CLAIMS: &str = "/var/lib/jupyterhub-openssh/homes";
/// Size limit of a claim, in bytes; a user name has at most 128.
const MAX: u64 = 256;
/// Distinguishes temporary files of this process that are about to become claims.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Claims the home for this user, unless only this user could have it. Needs root, and must come
/// before the home is looked up: if the claim cannot be recorded, the home is refused.
///
/// # Errors
/// [`HomeFault::NotTheirs`] if it is another user's; [`HomeFault::Failed`] if that cannot be
/// determined.
pub fn claim(directory: &Path, homes: &Homes, user: &UserName) -> Result<(), Fault> {
    let Some(file) = file(directory, homes, user) else { return Ok(()) };
    let failed = |error: io::Error| {
        let what =
            "whose home this is cannot be told from the name and not be written down, so it is nobody's";
        Fault::new(HomeFault::Failed, &format!("{what}: {}: {error}", file.display()))
    };
    let holder = match read(&file).map_err(failed)? {
        Some(holder) => holder,
        None => {
            write(directory, &file, user).map_err(failed)?;
            read(&file).map_err(failed)?.unwrap_or_default()
        }
    };
    if holder == user.as_str() { Ok(()) } else { Err(others(&file, &holder, user)) }
}

/// Checks the recorded claim without making one, for callers that must change nothing.
///
/// # Errors
/// The same as for [`claim`].
pub fn look(directory: &Path, homes: &Homes, user: &UserName) -> Result<(), Fault> {
    let Some(file) = file(directory, homes, user) else { return Ok(()) };
    match read(&file) {
        Ok(Some(holder)) if holder != user.as_str() => Err(others(&file, &holder, user)),
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(HomeFault::Failed, &format!("{}: {error}", file.display()))),
    }
}

/// Returns the path of the claim; `None` if no other user could have this home.
fn file(directory: &Path, homes: &Homes, user: &UserName) -> Option<PathBuf> {
    homes.template.digest_if_ambiguous(user).map(|digest| directory.join(digest))
}

fn others(file: &Path, holder: &str, user: &UserName) -> Fault {
    let text = format!(
        "the home that homes.template makes for {user} is that of \"{holder}\", who came first: both names have one slug. \
         If it is {user}'s, remove {}",
        file.display()
    );
    Fault::new(HomeFault::NotTheirs, &text)
}

fn read(file: &Path) -> io::Result<Option<String>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(file);
    let mut text = String::new();
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?.take(MAX).read_to_string(&mut text)?,
    };
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

/// Records the claim, unless another process is faster. The file is complete as soon as it has its
/// name.
fn write(directory: &Path, file: &Path, user: &UserName) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(directory) {
        // Independent of the umask. Nobody needs to list the directory.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o711))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let new = file.with_extension(format!("{}-{number}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new);
    let made = match made {
        // Left behind by a killed process that had our process id.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&new)?;
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)
        }
        made => made,
    };
    let named = made.and_then(|mut made: File| {
        writeln!(made, "{user}")?;
        made.set_permissions(Permissions::from_mode(0o644))?;
        made.sync_all()?;
        match fs::hard_link(&new, file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let _ = fs::remove_file(&new);
    named
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Two valid user names with the same slug.
    const TWINS: [&str; 2] = ["a_a_a.a_a@a@a.a@a_a_a.a", "a_a_a_a.a_a_a.a@a@a_a_a"];

    fn homes(template: &str) -> Homes {
        let text = format!("[homes]\nroot = '/srv/homes'\ntemplate = '{template}'");
        common::Settings::parse(&text).unwrap().homes.unwrap()
    }

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[test]
    fn two_users_never_get_one_home() {
        let dir = tempfile::tempdir().unwrap();
        let claims = dir.path().join("homes");
        let homes = homes("class/{slug}");
        let [first, second] = TWINS.map(user);
        assert_eq!(homes.template.expand(&first), homes.template.expand(&second));
        assert_eq!(look(&claims, &homes, &first), Ok(()));
        for _ in 0..2 {
            assert_eq!(claim(&claims, &homes, &first), Ok(()));
            assert_eq!(look(&claims, &homes, &first), Ok(()));
            for refused in [claim(&claims, &homes, &second), look(&claims, &homes, &second)] {
                let fault = refused.unwrap_err();
                assert_eq!(fault.kind, HomeFault::NotTheirs);
                assert!(fault.detail.contains(TWINS[0]) && fault.detail.contains("remove "), "{fault}");
            }
        }
        assert_eq!(fs::metadata(&claims).unwrap().permissions().mode() & 0o777, 0o711);
        assert_eq!(fs::read_dir(&claims).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn what_nobody_else_can_have_is_not_written_down() {
        let claims = Path::new("/nonexistent/homes");
        for (template, name) in [
            ("{slug}", "alice"),
            ("{username}", TWINS[0]),
            ("{escaped}", TWINS[0]),
            ("x/{username}/{slug}", TWINS[0]),
        ] {
            assert_eq!(claim(claims, &homes(template), &user(name)), Ok(()), "{template} {name}");
        }
        let fault = claim(claims, &homes("{slug}"), &user(TWINS[0])).unwrap_err();
        assert_eq!(fault.kind, HomeFault::Failed, "and what cannot be written down is nobody's");
    }

    #[test]
    fn what_is_no_claim_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let homes = homes("{slug}");
        let [first, _] = TWINS.map(user);
        let file = file(dir.path(), &homes, &first).unwrap();
        for content in [&b""[..], b"\xff", b"a_a\n", b"alice\nbob\n"] {
            fs::write(&file, content).unwrap();
            assert!(claim(dir.path(), &homes, &first).is_err(), "{content:?}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(claim(dir.path(), &homes, &first).is_err());
    }

    #[test]
    fn the_first_of_many_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let homes = homes("{slug}");
        let granted: Vec<bool> = std::thread::scope(|scope| {
            let tried: Vec<_> = TWINS
                .iter()
                .map(|name| {
                    let (homes, dir) = (&homes, dir.path());
                    scope.spawn(move || claim(dir, homes, &user(name)).is_ok())
                })
                .collect();
            tried.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(granted.iter().filter(|one| **one).count(), 1);
    }
}
