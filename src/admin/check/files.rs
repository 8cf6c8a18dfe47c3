//! Checks that the programs that serve files are installed.

use super::Finding;
use common::paths;
use host::config::{Backend, Config};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const TOPIC: &str = "files";

/// A program of the distribution, and the package that contains it.
struct Program {
    path: &'static str,
    package: &'static str,
}

const SFTP: Program = Program { path: paths::SFTP_SERVER, package: "openssh-sftp-server" };
const RSYNC: [Program; 2] = [
    Program { path: paths::RSYNC, package: "rsync" },
    Program { path: paths::SCP, package: "openssh-client" },
];

/// Looks for the programs that the configuration needs.
pub fn check(config: &Config) -> Vec<Finding> {
    if config.files.backend == Backend::Server {
        return vec![Finding::fine(TOPIC, "served by users' own servers")];
    }
    let rsync = if config.files.rsync { &RSYNC[..] } else { &[] };
    look(Path::new("/"), &SFTP, rsync)
}

fn look(root: &Path, sftp: &Program, rsync: &[Program]) -> Vec<Finding> {
    let missing = |program: &&Program| {
        let path = root.join(program.path.trim_start_matches('/'));
        !fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let mut findings = Vec::new();
    if missing(&sftp) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("there is no program {}: sftp, scp and sshfs fail", sftp.path),
            format_args!("Install it: apt install {}", sftp.package),
        ));
    }
    for program in rsync.iter().filter(missing) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("files.rsync is true, but there is no program {}", program.path),
            format_args!("Install it, apt install {}, or set rsync to false", program.package),
        ));
    }
    if findings.is_empty() {
        let names = if rsync.is_empty() { "sftp" } else { "sftp, rsync and scp -O" };
        findings.push(Finding::fine(TOPIC, format_args!("the programs for {names} are there")));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn install(root: &Path, program: &Program, mode: u32) {
        let path = root.join(program.path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), &RSYNC[0], 0o644);
        let texts: Vec<_> =
            look(dir.path(), &SFTP, &RSYNC).into_iter().map(|f| (f.text(), f.is_error())).collect();
        let expected = [
            "files: there is no program /usr/lib/openssh/sftp-server: sftp, scp and sshfs fail. Install it: apt install openssh-sftp-server",
            "files: files.rsync is true, but there is no program /usr/bin/rsync. Install it, apt install rsync, or set rsync to false",
            "files: files.rsync is true, but there is no program /usr/bin/scp. Install it, apt install openssh-client, or set rsync to false",
        ];
        assert_eq!(texts, expected.map(|text| (text.to_owned(), true)));
        install(dir.path(), &SFTP, 0o755);
        assert_eq!(look(dir.path(), &SFTP, &[]), [Finding::fine(TOPIC, "the programs for sftp are there")]);
        for program in &RSYNC {
            install(dir.path(), program, 0o755);
        }
        let all = Finding::fine(TOPIC, "the programs for sftp, rsync and scp -O are there");
        assert_eq!(look(dir.path(), &SFTP, &RSYNC), [all]);
    }

    #[test]
    fn without_homes_nothing_is_needed() {
        for text in ["", "[homes]\nroot = '/srv/homes'\n[files]\nbackend = 'server'"] {
            let config = Config::from_str(text, Path::new("config.toml")).unwrap();
            assert_eq!(check(&config), [Finding::fine(TOPIC, "served by users' own servers")]);
        }
    }
}
