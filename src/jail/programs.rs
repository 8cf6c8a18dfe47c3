//! The programs that run in the jail, with the files that they need: nothing else of this host's
//! `/usr` is there.
//!
//! Libraries are looked up where Debian's dynamic linker looks without a cache (ld.so(8)): the jail
//! has no `/etc/ld.so.cache`, so the linker finds each under its name in the same directory.

use super::elf;
use common::paths::{RSYNC, SCP, SESSION_SHELL, SFTP_SERVER};
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A file of the host that is shown in the jail.
#[derive(Debug)]
pub struct Shown {
    /// The path in the jail, without the leading `/` and with merged `/usr`.
    pub at: String,
    /// The open file, the very one whose headers were read.
    pub file: File,
}

/// The programs' files, and notes for the log about those that are left out.
#[derive(Debug, Default)]
pub struct Programs {
    /// The files to show.
    pub shown: Vec<Shown>,
    /// Why a program is left out.
    pub notes: Vec<String>,
}

/// Finds every program of the jail, with the files that it needs.
///
/// These are `session`, without which there is no jail, the sftp server, and with `rsync` also the
/// other programs that serve files.
///
/// # Errors
/// Fails if `session` cannot be shown, and says why.
pub fn find(rsync: bool) -> Result<Programs, String> {
    let mut programs = Programs::default();
    programs.add(SESSION_SHELL)?;
    for program in
        std::iter::once(SFTP_SERVER).chain(if rsync { [RSYNC, SCP].as_slice() } else { &[] }.iter().copied())
    {
        // Left out whole, so that the jail never has half of what a program needs.
        let before = programs.shown.len();
        if let Err(why) = programs.add(program) {
            programs.shown.truncate(before);
            programs.notes.push(format!("{program} is not in the jail: {why}"));
        }
    }
    Ok(programs)
}

impl Programs {
    /// Adds a program and everything that it needs and that is not there yet.
    fn add(&mut self, path: &str) -> Result<(), String> {
        let mut missing = self.show(path, merged(path))?;
        while let Some(name) = missing.pop() {
            let at = format!("usr/lib/{}/{name}", triplet());
            if !self.has(&at) {
                missing.extend(self.library(&name, at)?);
            }
        }
        Ok(())
    }

    /// Adds one file and its interpreter; returns the libraries that it needs.
    fn show(&mut self, path: &str, at: String) -> Result<Vec<String>, String> {
        let file = open(Path::new(path)).map_err(|e| format!("{path}: {e}"))?;
        let needs = elf::needs(&file).map_err(|e| format!("{path}: {e}"))?;
        self.shown.push(Shown { at, file });
        let Some(interpreter) = needs.interpreter else { return Ok(needs.libraries) };
        // The linker has loaded itself when it looks for libraries: it knows itself by name, not by
        // directory.
        let name = interpreter.rsplit('/').next().unwrap_or_default();
        let libraries = needs.libraries.into_iter().filter(|library| library != name).collect();
        let at = merged(&interpreter);
        if !self.has(&at) {
            let file = open(Path::new(&interpreter)).map_err(|e| format!("{interpreter}: {e}"))?;
            self.shown.push(Shown { at, file });
        }
        Ok(libraries)
    }

    fn library(&mut self, name: &str, at: String) -> Result<Vec<String>, String> {
        // The interpreter is a library too: libc names it.
        if self.shown.iter().any(|shown| shown.at.ends_with(&format!("/{name}"))) {
            return Ok(Vec::new());
        }
        let triplet = triplet();
        let places =
            [format!("/lib/{triplet}"), format!("/usr/lib/{triplet}"), "/lib".into(), "/usr/lib".into()];
        for place in &places {
            let path = format!("{place}/{name}");
            match std::fs::metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                _ => return self.show(&path, at),
            }
        }
        Err(format!("there is no {name} in {}", places.join(", ")))
    }

    fn has(&self, at: &str) -> bool {
        self.shown.iter().any(|shown| shown.at == at)
    }
}

/// Opens a file of the distribution. It follows symbolic links, as libraries have them.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.uid() == 0 && found.mode() & 0o022 == 0 {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a file that is root's alone"))
    }
}

/// Returns a path as it is in the jail, where `/bin`, `/sbin` and `/lib*` are links into `/usr`.
///
/// The result has no leading `/`.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if path.starts_with("lib") || path.starts_with("bin/") || path.starts_with("sbin/") {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Returns Debian's name for this machine (dpkg-architecture(1), DEB_HOST_MULTIARCH).
fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_usr() {
        for (path, expected) in [
            ("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
            ("/lib/ld-linux-aarch64.so.1", "usr/lib/ld-linux-aarch64.so.1"),
            ("/bin/rsync", "usr/bin/rsync"),
            ("/usr/bin/rsync", "usr/bin/rsync"),
        ] {
            assert_eq!(merged(path), expected);
        }
    }

    /// Everything that ldd(1) lists is there, and nothing is there twice.
    #[test]
    fn a_program_comes_with_what_ldd_says() {
        let program = "/usr/bin/scp";
        if !Path::new(program).exists() {
            return;
        }
        let mut programs = Programs::default();
        programs.add(program).unwrap();
        let ldd = std::process::Command::new("ldd").arg(program).output().unwrap();
        let listed = String::from_utf8(ldd.stdout).unwrap();
        let mut names: Vec<_> = listed
            .lines()
            .filter(|line| !line.contains("linux-vdso"))
            .map(|line| line.split_whitespace().next().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect();
        names.push("scp".into());
        names.sort();
        let mut shown: Vec<_> =
            programs.shown.iter().map(|one| one.at.rsplit('/').next().unwrap().to_owned()).collect();
        shown.sort();
        assert_eq!(shown, names);
        assert!(programs.shown.iter().all(|one| one.at.starts_with("usr/")));
    }

    #[test]
    fn a_file_that_others_can_write_is_left_out() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("true");
        std::fs::copy("/usr/bin/true", &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o775)).unwrap();
        let why = Programs::default().add(program.to_str().unwrap()).unwrap_err();
        assert!(why.contains("root's alone"), "{why}");
        let why = Programs::default().add("/usr/lib/none").unwrap_err();
        assert!(why.contains("/usr/lib/none: No such file"), "{why}");
    }
}
