//! Checks that sshd confines hub users, and no local accounts.
//!
//! It asks sshd itself, with `sshd -T -C user=…`: only in sshd's own process the NSS module
//! answers, so that the Match block is found.

use super::Finding;
use super::block::{DROP_IN, Effective, TOPIC, hub_user};
use super::freshness;
use super::nss::read;
use super::run::{Said, run};
use host::confinement;
use host::confinement::text::{CONFIG, Fault, fault};
use host::rights::Rights;
use nix::unistd::{User, geteuid};
use std::path::Path;
use std::time::Duration;

const SSHD: &str = "/usr/sbin/sshd";
/// How long one run of sshd may take. It reads a few files, and the NSS module may wait a second
/// for a home.
const PATIENCE: Duration = Duration::from_secs(3);
/// A made-up hub user. The NSS module answers for every name.
const SOMEBODY: &str = "jupyterhub-openssh-check";

/// Asks sshd about a hub user (`user`, or a made-up one) and about a local account. Also returns
/// the name of sshd's PAM service. `keys_on` is `None` if our configuration is broken.
pub fn check(user: Option<&str>, keys_on: Option<bool>) -> (Vec<Finding>, String) {
    let mut findings: Vec<Finding> = refused(Path::new(DROP_IN)).into_iter().collect();
    // A local account with that name is not a hub user; the topic `user` reports it.
    let login = user.filter(|name| !matches!(User::from_name(name), Ok(Some(_))));
    let user = login.unwrap_or(SOMEBODY);
    let found = match effective(user) {
        Ok(found) => found,
        Err(finding) => {
            findings.push(*finding);
            return (findings, "sshd".to_owned());
        }
    };
    if found.is_ours() {
        findings.extend(hub_user(
            &found,
            login,
            keys_on.unwrap_or_default(),
            confinement::jail(Rights::of_this_process()),
        ));
    } else if findings.is_empty() {
        let (present, config) = (Path::new(DROP_IN).exists(), read(CONFIG).unwrap_or_default());
        findings.push(unconfined(user, present, &config, keys_on.is_none()));
    }
    findings.extend(local());
    findings.extend(freshness::check(found.get("pidfile")));
    if findings.is_empty() {
        findings.push(Finding::fine(
            TOPIC,
            "hub users are confined to their sessions, local accounts are not concerned",
        ));
    }
    findings.extend(limits(&found));
    let service = Some(found.get("pamservicename")).filter(|name| !name.is_empty() && !name.contains('/'));
    (findings, service.unwrap_or("sshd").to_owned())
}

/// Asks sshd for its settings for a user who comes from outside.
fn effective(user: &str) -> Result<Effective, Box<Finding>> {
    // An address for documentation (RFC 5737), which no Match block is meant for.
    let spec = format!("user={user},host=client.invalid,addr=192.0.2.1");
    let unknown = |why: &dyn std::fmt::Display| {
        Box::new(Finding::unknown(
            TOPIC,
            format_args!("sshd could not be asked: {why}"),
            format_args!("Try: {SSHD} -T -C {spec}"),
        ))
    };
    let own = Rights::of_this_process().own_sshd_config();
    let file = own.iter().flat_map(|file| ["-f", file]);
    let arguments: Vec<&str> = ["-T", "-C", spec.as_str()].into_iter().chain(file).collect();
    match run(SSHD, &arguments, PATIENCE) {
        Ok(Said { success: true, out, .. }) => Ok(Effective::parse(&out)),
        Ok(Said { err, .. }) => {
            Err(failed(&err, geteuid().is_root()).map_or_else(|| unknown(&err), Box::new))
        }
        Err(error) => Err(unknown(&error)),
    }
}

/// Explains why `sshd -T` failed. `None` if this is not root, because sshd needs root.
fn failed(said: &str, root: bool) -> Option<Finding> {
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it gives no reason");
    if !root {
        return None;
    }
    let (what, remedy) = if said.contains("privilege separation directory") {
        ("sshd does not run: there is no /run/sshd".to_owned(), "systemctl start ssh".to_owned())
    } else if said.contains("no hostkeys available") {
        (
            "sshd has no host keys, and cannot start".to_owned(),
            "ssh-keygen -A && systemctl restart ssh".to_owned(),
        )
    } else if said.contains("Subsystem") && said.contains("already defined") {
        (
            format!("sshd refuses its configuration: {line}"),
            "Keep one line Subsystem sftp (before OpenSSH 9.5 a second one is fatal), then: sshd -t && systemctl reload ssh".to_owned(),
        )
    } else {
        (
            format!("sshd refuses its configuration, and will not start again: {line}"),
            "Correct it until this says nothing: sshd -t".to_owned(),
        )
    };
    Some(Finding::error(TOPIC, what, remedy))
}

/// A finding if the package's configuration step put its drop-in aside because sshd refused it.
fn refused(drop_in: &Path) -> Option<Finding> {
    let aside = drop_in.with_extension("conf.refused");
    (aside.exists() && !drop_in.exists()).then(|| {
        Finding::error(
            TOPIC,
            format_args!("hub users are kept out: sshd refused {}, which is {} now", drop_in.display(), aside.display()),
            "Correct what sshd -t says of it, then: dpkg --configure jupyterhub-openssh || dpkg-reconfigure jupyterhub-openssh",
        )
    })
}

/// Explains why our Match block is not in force. `broken` is true if our own configuration is: then
/// the NSS module knows no hub users, and the block matches nobody.
fn unconfined(user: &str, present: bool, config: &str, broken: bool) -> Finding {
    let opened = format!(
        "\"Match Group jupyterhub\" doesn't hold for {user}, or another file says otherwise before it"
    );
    match fault(config, present) {
        Fault::Other if broken => Finding::unknown(
            TOPIC,
            "whether sshd confines hub users is unknown: there are no hub users until the configuration is fixed",
            "Fix the findings under configuration",
        ),
        found => {
            let (what, remedy) = found.words(CONFIG, &opened);
            Finding::error(TOPIC, what, remedy)
        }
    }
}

/// Checks that sshd doesn't treat a local account as a hub user: the first person's, or root.
fn local() -> Option<Finding> {
    let passwd = read("/etc/passwd").unwrap_or_default();
    let account = first_person(&passwd).unwrap_or("root");
    let found = effective(account).ok()?;
    found.is_ours().then(|| {
        Finding::error(
            TOPIC,
            format_args!("the local account {account} would be treated as a hub user, and would have no shell"),
            format_args!("Take local accounts out of the group (gpasswd -d {account} jupyterhub), and keep the Match line of {DROP_IN}"),
        )
    })
}

/// The first account of passwd(5) that belongs to a person.
fn first_person(passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid) = (fields.first()?, fields.get(2)?.parse::<u32>().ok()?);
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        ((1000..60000).contains(&uid) && plain && !name.is_empty()).then_some(*name)
    })
}

/// Tells which limits of sshd a class runs into that logs in at once.
fn limits(found: &Effective) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first =
        |keyword: &str| found.get(keyword).split(':').next().and_then(|word| word.parse::<u32>().ok());
    if first("maxstartups").is_some_and(|begin| begin <= 10) {
        findings.push(Finding::info(
            TOPIC,
            format_args!(
                "of logins that come at once, sshd drops some beyond ten (MaxStartups {})",
                found.get("maxstartups")
            ),
            "For classes put \"MaxStartups 200:30:400\" into a file of your own in /etc/ssh/sshd_config.d",
        ));
    }
    let penalties = found.get("persourcepenalties");
    if !matches!(penalties, "" | "no")
        && found.get("persourcepenaltyexemptlist").trim_matches(['n', 'o', 'e', ' ']).is_empty()
    {
        findings.push(Finding::info(
            TOPIC,
            "users behind one address (NAT, a load balancer) share the penalties for failed logins (PerSourcePenalties)",
            "List such addresses in PerSourcePenaltyExemptList, in a file of your own in /etc/ssh/sshd_config.d",
        ));
    }
    findings
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_sshd_says_is_understood() {
        let text = |said: &str| failed(said, true).unwrap().text();
        assert!(text("Missing privilege separation directory: /run/sshd\n").contains("does not run"));
        assert!(text("sshd: no hostkeys available -- exiting.\n").contains("ssh-keygen -A"));
        let twice = text("/etc/ssh/sshd_config.d/x.conf line 1: Subsystem 'sftp' already defined.\n");
        assert!(twice.contains("line 1") && twice.contains("before OpenSSH 9.5"), "{twice}");
        let bad = text("\n/etc/ssh/sshd_config: line 3: Bad configuration option: Foo\x1b[2J\nterminating\n");
        assert!(bad.contains("Bad configuration option: Foo\\u{1b}") && bad.ends_with("sshd -t"), "{bad}");
        assert!(text("").contains("it gives no reason"));
        assert_eq!(failed("Permission denied", false), None);
    }

    #[test]
    fn why_the_block_is_not_in_force() {
        assert!(unconfined("x", false, "", true).text().contains("50-jupyterhub.conf is missing"));
        for config in ["", "#Include /etc/ssh/sshd_config.d/*.conf", "Include /etc/ssh/other/*.conf"] {
            for broken in [false, true] {
                assert!(unconfined("x", true, config, broken).text().contains("doesn't include"), "{config}");
            }
        }
        for config in [
            "Include /etc/ssh/sshd_config.d/*.conf",
            " include=\"/etc/ssh/sshd_config.d/*.conf\"",
            "Include sshd_config.d/*.conf",
        ] {
            assert!(
                unconfined("x", true, config, false).text().contains("Match Group jupyterhub"),
                "{config}"
            );
            assert!(unconfined("x", true, config, true).text().contains("until the configuration is fixed"));
        }
    }

    #[test]
    fn an_include_below_a_match_block_is_named() {
        let config = "Match User x\nInclude sshd_config.d/*.conf\n";
        for broken in [false, true] {
            let text = unconfined("x", true, config, broken).text();
            assert!(text.contains("stands below line 1") && text.contains("Move line 2"), "{text}");
        }
    }

    #[test]
    fn a_file_aside_is_named_unless_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let drop_in = dir.path().join("50-jupyterhub.conf");
        assert_eq!(refused(&drop_in), None);
        fs::write(dir.path().join("50-jupyterhub.conf.refused"), "").unwrap();
        assert!(refused(&drop_in).unwrap().text().contains("dpkg --configure jupyterhub-openssh"));
        fs::write(&drop_in, "").unwrap();
        assert_eq!(refused(&drop_in), None);
    }

    #[test]
    fn the_first_person_is_found() {
        assert_eq!(
            first_person("root:x:0:0:::\nnobody:x:65534:::\nada:x:1000:100::/home/ada:/bin/sh"),
            Some("ada")
        );
        for none in ["", ":x:1000:", "a,b:x:1000:", "root:x:0:0", "x:y:z", "a:x:-1"] {
            assert_eq!(first_person(none), None, "{none}");
        }
    }

    #[test]
    fn limits_are_told_where_they_are_low() {
        let count = |text: &str| limits(&Effective::parse(text)).len();
        assert_eq!(count("maxstartups 10:30:100"), 1);
        assert_eq!(count("maxstartups 100:30:200\npersourcepenalties no"), 0);
        assert_eq!(count("maxstartups 10\npersourcepenalties crash:90"), 2);
        assert_eq!(count("persourcepenalties crash:90\npersourcepenaltyexemptlist none"), 1);
        assert_eq!(count("persourcepenalties crash:90\npersourcepenaltyexemptlist 10.0.0.0/8"), 0);
    }
}
