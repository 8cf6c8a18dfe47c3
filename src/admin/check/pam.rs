//! Checks that sshd's PAM stack has our lines in the right places.

use super::Finding;
use super::nss::{library_directories, read};
use std::path::Path;

const TOPIC: &str = "pam";
const DIRECTORY: &str = "/etc/pam.d";
const MODULE: &str = "pam_jupyterhub.so";
/// Deepest inclusion of files that is followed.
const MAX_DEPTH: usize = 8;
/// Most lines of a stack.
const MAX_LINES: usize = 1000;
/// The remedy for a wrong line: writes the lines of all packages again. If somebody has edited a
/// file, that needs --force.
const REMEDY: &str =
    "pam-auth-update --enable jupyterhub-openssh (add --force if it says that files were changed locally)";

/// A kind of line; those that the module has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Auth,
    Account,
    Session,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Auth, Self::Account, Self::Session];

    fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Account => "account",
            Self::Session => "session",
        }
    }
}

/// A line that runs a module.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    kind: Kind,
    control: String,
    /// The module's file name.
    module: String,
    /// The file that contains the line.
    file: String,
}

/// Checks the stack of the service `name`, which is sshd's PAMServiceName.
pub fn check(name: &str) -> Vec<Finding> {
    let fetch = |file: &str| read(Path::new(DIRECTORY).join(file)).map_err(|error| error.to_string());
    let mut findings = match stack(name, &fetch) {
        Ok(lines) => judge(&lines, name),
        Err(why) => vec![Finding::unknown(
            TOPIC,
            format_args!("the stack of the service {name} cannot be read: {why}"),
            format_args!(
                "Put {DIRECTORY}/{name} in order; apt install --reinstall -o Dpkg::Options::=--force-confmiss openssh-server"
            ),
        )],
    };
    let module = |directory: &std::path::PathBuf| directory.join("security").join(MODULE).is_file();
    if !library_directories().iter().any(module) {
        findings.push(Finding::error(
            TOPIC,
            format_args!("no hub user can log in: the PAM module {MODULE} is missing"),
            "Reinstall the package: apt install --reinstall jupyterhub-openssh",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(
            TOPIC,
            format_args!("our lines are in the stack of {name}, before all others"),
        ));
    }
    findings
}

/// Reads the lines of a service in their order, with the included files as in pam.conf(5). `fetch`
/// reads a file.
fn stack(name: &str, fetch: &dyn Fn(&str) -> Result<String, String>) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    collect(name, None, fetch, 0, &mut lines)?;
    Ok(lines)
}

/// Adds the lines of `file` to `lines`; of one kind if `only` is given.
fn collect(
    file: &str,
    only: Option<Kind>,
    fetch: &dyn Fn(&str) -> Result<String, String>,
    depth: usize,
    lines: &mut Vec<Line>,
) -> Result<(), String> {
    if depth > MAX_DEPTH || lines.len() > MAX_LINES {
        return Err(format!("{file}: files include each other without an end"));
    }
    let text = fetch(file).map_err(|why| format!("{file}: {why}"))?.replace("\\\n", " ");
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if first.eq_ignore_ascii_case("@include") {
            collect(rest.trim(), only, fetch, depth + 1, lines)?;
            continue;
        }
        let first = first.trim_start_matches('-');
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(first)) else {
            continue;
        };
        if only.is_some_and(|only| only != kind) {
            continue;
        }
        let rest = rest.trim_start();
        let (control, rest) = if rest.starts_with('[') {
            rest.split_at(rest.find(']').map_or(rest.len(), |end| end + 1))
        } else {
            rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()))
        };
        let word = rest.split_whitespace().next().unwrap_or_default();
        let module = word.rsplit('/').next().unwrap_or_default();
        if matches!(control, "include" | "substack") {
            collect(module, Some(kind), fetch, depth + 1, lines)?;
        } else {
            let (control, module, file) = (control.to_owned(), module.to_owned(), file.to_owned());
            lines.push(Line { kind, control, module, file });
        }
    }
    Ok(())
}

/// Finds what is wrong with a stack.
fn judge(lines: &[Line], service: &str) -> Vec<Finding> {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let lines: Vec<&Line> = lines.iter().filter(|line| line.kind == kind).collect();
            judge_kind(&lines, kind, service)
        })
        .collect()
}

fn judge_kind(lines: &[&Line], kind: Kind, service: &str) -> Option<Finding> {
    let name = kind.as_str();
    let Some(at) = lines.iter().position(|line| line.module == MODULE) else {
        let what = match kind {
            Kind::Auth => "no token is ever asked for",
            Kind::Account => "no hub user is let in, and no key leads to a session",
            Kind::Session => "no session of a hub user gets its jail",
        };
        let what = format!("{what}: the {name} lines of the PAM service {service} lack {MODULE}");
        return Some(Finding::error(TOPIC, what, REMEDY));
    };
    let (line, before) = (lines.get(at)?, lines.get(..at)?);
    // These modules would ask for their own password, refuse users they don't know, or start things
    // that hub users must not have.
    let rivals: &[&str] = match kind {
        Kind::Auth | Kind::Account => {
            &["pam_unix.so", "pam_deny.so", "pam_sss.so", "pam_ldap.so", "pam_krb5.so", "pam_winbind.so"]
        }
        Kind::Session => &["pam_unix.so", "pam_systemd.so", "pam_mkhomedir.so"],
    };
    if let Some(rival) = before.iter().find(|line| rivals.contains(&line.module.as_str())) {
        let what = format!(
            "in {DIRECTORY}/{} {} stands before {MODULE} in the {name} lines: hub users meet it first",
            rival.file, rival.module
        );
        return Some(Finding::error(TOPIC, what, REMEDY));
    }
    let control = line.control.to_ascii_lowercase();
    let action = |value: &str| {
        control
            .trim_matches(['[', ']'])
            .split_whitespace()
            .find_map(|word| word.strip_prefix(&format!("{value}=")))
    };
    let file = &line.file;
    if action("default") != Some("die") || action("success").is_none() || action("ignore") != Some("ignore") {
        let what = format!(
            "in {DIRECTORY}/{file} the {name} line of {MODULE} has the control {}, which is not the package's: a refusal \
             may not be final, or local accounts may be refused",
            line.control
        );
        return Some(Finding::error(TOPIC, what, REMEDY));
    }
    // The line jumps over others. The number is wrong if somebody has added or removed a line.
    let jump: usize = action("success")?.parse().ok()?;
    let target = lines.get(at + jump + 1);
    (target.is_none_or(|target| target.module == "pam_deny.so")).then(|| {
        Finding::error(
            TOPIC,
            format_args!(
                "in {DIRECTORY}/{file} the {name} line of {MODULE} jumps over {jump} lines, to where everybody is refused"
            ),
            REMEDY,
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OURS: &str = "[success=2 ignore=ignore module_unknown=ignore open_err=ignore symbol_err=ignore default=die]\tpam_jupyterhub.so ";

    fn sshd() -> String {
        "# comment\n@include common-auth\naccount    required     pam_nologin.so\n@include common-account\n\
         session required pam_loginuid.so\n@include common-session\nsession optional pam_motd.so\n@include common-password\n"
            .to_owned()
    }

    fn auth() -> String {
        format!(
            "auth\t{OURS}\nauth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
        )
    }

    fn session() -> String {
        let ours = OURS.replace("success=2", "success=done");
        format!(
            "session [default=1] pam_permit.so\nsession requisite pam_deny.so\nsession required pam_permit.so\nsession {ours}\nsession required pam_unix.so\n"
        )
    }

    fn found(change: impl Fn(&str, String) -> String) -> Vec<String> {
        let fetch = |file: &str| {
            let text = match file {
                "sshd" => sshd(),
                "common-auth" => auth(),
                "common-account" => auth().replace("auth", "account"),
                "common-session" => session(),
                "common-password" => String::new(),
                _ => return Err("No such file or directory".to_owned()),
            };
            Ok(change(file, text))
        };
        match stack("sshd", &fetch) {
            Ok(lines) => judge(&lines, "sshd").iter().map(Finding::text).collect(),
            Err(why) => vec![why],
        }
    }

    #[test]
    fn what_debian_and_the_package_write_is_in_order() {
        assert!(found(|_, text| text).is_empty());
        assert!(found(|_, text| text.replace("[default=1]", "\\\n  [default=1]")).is_empty());
        let nested = |file: &str, text: String| match file {
            "sshd" => {
                "auth substack common-auth\n-account include common-account\nSession include common-session"
                    .to_owned()
            }
            _ => text,
        };
        assert!(found(nested).is_empty());
        assert!(
            found(|file, text| if file == "sshd" {
                format!("auth required pam_env.so\n{text}")
            } else {
                text
            })
            .is_empty()
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (file, what) in [
            ("common-auth", "pam: no token is ever asked for: the auth lines"),
            ("common-account", "pam: no hub user is let in"),
            ("common-session", "pam: no session of a hub user gets its jail"),
        ] {
            let found =
                found(
                    |name, text| {
                        if name == file { text.replace("pam_jupyterhub.so", "pam_x.so") } else { text }
                    },
                );
            assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
            assert!(found[0].contains("pam-auth-update --enable jupyterhub-openssh"), "{found:?}");
        }
        let dropped =
            found(|file, text| if file == "sshd" { text.replace("@include common-auth", "") } else { text });
        assert!(dropped.len() == 1 && dropped[0].contains("no token is ever asked for"), "{dropped:?}");
        let commented = found(|_, text| text.replace("auth\t[", "#auth\t["));
        assert!(commented.len() == 1 && commented[0].contains("no token"), "{commented:?}");
    }

    #[test]
    fn order_control_and_jumps_count() {
        let first = found(|file, text| {
            if file == "sshd" { format!("auth sufficient /lib/security/pam_unix.so\n{text}") } else { text }
        });
        assert!(
            first.len() == 1 && first[0].contains("in /etc/pam.d/sshd pam_unix.so stands before"),
            "{first:?}"
        );
        let systemd = found(|_, text| text.replace("pam_loginuid", "pam_systemd"));
        assert!(systemd.len() == 1 && systemd[0].contains("pam_systemd.so stands before"), "{systemd:?}");
        let weak = found(|file, text| {
            if file == "common-auth" {
                text.replace(OURS.split_once('\t').unwrap().0, "sufficient")
            } else {
                text
            }
        });
        assert!(weak.len() == 1 && weak[0].contains("has the control sufficient"), "{weak:?}");
        let jump = found(
            |file, text| if file == "common-auth" { text.replace("success=2", "success=1") } else { text },
        );
        assert!(jump.len() == 1 && jump[0].contains("jumps over 1 lines"), "{jump:?}");
        assert!(found(|_, text| text.replace("success=2", "success=9"))[0].contains("jumps over 9 lines"));
    }

    #[test]
    fn loops_missing_files_and_nonsense_have_an_end() {
        assert!(found(|_, _| "@include sshd".to_owned())[0].contains("without an end"));
        assert!(found(|_, _| "auth include sshd".to_owned())[0].contains("without an end"));
        assert!(found(|_, _| "@include nothing".to_owned())[0].contains("nothing: No such file"));
        assert_eq!(found(|_, _| "[[]]\nauth\nauth [\n@\nauth [x\0=y] \u{202e}".to_owned()).len(), 3);
    }
}
