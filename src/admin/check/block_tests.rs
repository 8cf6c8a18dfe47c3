//! Outputs of sshd 9.2 and 10.0, those lines that count, and what can be wrong in them.
#![allow(clippy::unwrap_used)]
use super::*;
use common::paths::{JAIL_DIR, SESSION_SHELL};

const BOOKWORM: &str = "\
usepam yes
permitrootlogin no
pubkeyauthentication yes
kerberosauthentication no
passwordauthentication yes
kbdinteractiveauthentication yes
x11forwarding no
permituserrc no
permitemptypasswords no
allowtcpforwarding no
allowagentforwarding no
disableforwarding yes
allowstreamlocalforwarding no
pidfile /run/sshd.pid
forcecommand /usr/lib/jupyterhub-openssh/session
chrootdirectory /run/jupyterhub-openssh/jail
trustedusercakeys none
authorizedprincipalsfile /dev/null
authorizedkeyscommand /usr/lib/jupyterhub-openssh/authorized-keys %u %t %k %f
authorizedkeyscommanduser %u
authorizedprincipalscommand /bin/echo %u
authorizedkeysfile none
acceptenv LANG
acceptenv LC_*
acceptenv COLORTERM
authenticationmethods publickey keyboard-interactive:pam password
subsystem sftp /usr/lib/openssh/sftp-server
maxstartups 500:30:600
permittunnel no
";
const TRIXIE: &str = "\
usepam yes
pamservicename sshd
permitrootlogin no
pubkeyauthentication yes
kerberosauthentication no
passwordauthentication yes
kbdinteractiveauthentication yes
x11forwarding no
permituserrc no
permitemptypasswords no
allowtcpforwarding no
allowagentforwarding no
disableforwarding yes
allowstreamlocalforwarding no
pidfile /run/sshd.pid
forcecommand /usr/lib/jupyterhub-openssh/session
chrootdirectory /run/jupyterhub-openssh/jail
trustedusercakeys none
authorizedprincipalsfile /dev/null
authorizedkeyscommand /usr/lib/jupyterhub-openssh/authorized-keys %u %t %k %f
authorizedkeyscommanduser %u
authorizedprincipalscommand /bin/echo %u
persourcepenaltyexemptlist 10.77.0.0/16
authorizedkeysfile none
acceptenv LANG
acceptenv LC_*
acceptenv COLORTERM
authenticationmethods publickey keyboard-interactive:pam password
subsystem sftp /usr/lib/openssh/sftp-server
maxstartups 500:30:600
permittunnel no
persourcepenalties crash:90 authfail:5 noauth:1 grace-exceeded:10 refuseconnection:10 max:600 min:15 max-sources4:65536 max-sources6:65536 overflow:permissive overflow6:permissive
";
/// The output for a local account.
pub const LOCAL: &str = "\
usepam yes
pamservicename sshd
permitrootlogin without-password
pubkeyauthentication yes
kerberosauthentication no
passwordauthentication yes
kbdinteractiveauthentication no
x11forwarding yes
permituserrc yes
permitemptypasswords no
allowtcpforwarding yes
allowagentforwarding yes
disableforwarding no
allowstreamlocalforwarding yes
pidfile /run/sshd.pid
forcecommand none
chrootdirectory none
trustedusercakeys none
authorizedprincipalsfile none
authorizedkeyscommand none
authorizedkeyscommanduser none
authorizedprincipalscommand none
persourcepenaltyexemptlist 10.77.0.0/16
authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2
acceptenv LANG
acceptenv LC_*
acceptenv COLORTERM
acceptenv NO_COLOR
authenticationmethods any
subsystem sftp /usr/lib/openssh/sftp-server
maxstartups 500:30:600
permittunnel no
persourcepenalties crash:90 authfail:5 noauth:1 grace-exceeded:10 refuseconnection:10 max:600 min:15 max-sources4:65536 max-sources6:65536 overflow:permissive overflow6:permissive
";

fn texts(text: &str, keys_on: bool) -> Vec<String> {
    hub_user(&Effective::parse(text), None, keys_on, Jail::Namespaces).iter().map(Finding::text).collect()
}

/// The output with one line changed.
fn with(keyword: &str, value: &str) -> String {
    let change = |line: &str| {
        let ours = line.split_once(' ').is_some_and(|(key, _)| key == keyword);
        if ours { format!("{keyword} {value}\n") } else { format!("{line}\n") }
    };
    let mut text: String = TRIXIE.lines().map(change).collect();
    if !text.contains(&format!("{keyword} ")) {
        text += &format!("{keyword} {value}\n");
    }
    text
}

#[test]
fn the_packages_block_is_in_order() {
    for text in [BOOKWORM, TRIXIE] {
        for keys_on in [false, true] {
            assert!(texts(text, keys_on).is_empty());
        }
        assert!(Effective::parse(text).is_ours());
    }
    assert!(!Effective::parse(LOCAL).is_ours());
    assert!(!Effective::parse("").is_ours());
}

#[test]
fn whatever_opens_the_host_is_an_error() {
    for (keyword, value, what) in [
        ("usepam", "no", "UsePAM is no, not yes: no token can be checked"),
        (
            "forcecommand",
            "none",
            "no hub user is let in: for hub users ForceCommand is none, not /usr/lib/jupyterhub-openssh/session: only",
        ),
        ("forcecommand", "/usr/lib/jupyterhub-openssh/session-not", "only that is known to confine them"),
        ("chrootdirectory", "none", "ChrootDirectory is none, not /run/jupyterhub-openssh/jail"),
        ("disableforwarding", "no", "DisableForwarding is no, not yes"),
        ("allowtcpforwarding", "local", "AllowTcpForwarding is local, not no"),
        ("x11forwarding", "yes", "CVE-2025-32728"),
        ("permittunnel", "point-to-point", "PermitTunnel is point-to-point"),
        ("permituserrc", "yes", "execute a file of the user's home"),
        ("permitrootlogin", "without-password", "PermitRootLogin"),
        ("authorizedkeysfile", ".ssh/authorized_keys", "AuthorizedKeysFile is .ssh/authorized_keys"),
        ("pamservicename", "other", "PAMServiceName is other, not sshd"),
        ("allowgroups", "sudo adm", "AllowGroups leaves out jupyterhub"),
        ("denygroups", "j*", "DenyGroups has jupyterhub"),
        ("authenticationmethods", "any", "may log in by \"any\""),
        ("authenticationmethods", "publickey,hostbased", "may log in by \"hostbased\""),
        ("authenticationmethods", "password gssapi-with-mic", "may log in by \"gssapi-with-mic\""),
    ] {
        let text = with(keyword, value);
        let found = hub_user(&Effective::parse(&text), None, true, Jail::Namespaces);
        assert!(found.len() == 1 && found[0].is_error(), "{keyword}: {found:?}");
        assert!(found[0].what.contains(what) && found[0].remedy.is_some(), "{keyword}: {found:?}");
    }
}

#[test]
fn an_environment_of_the_users_own_is_told() {
    for good in ["no", "LANG,LC_*", "PATH"] {
        assert!(texts(&with("permituserenvironment", good), true).is_empty(), "{good}");
    }
    for bad in ["yes", "*", "LANG,LD_*", "?D_PRELOAD"] {
        let found = texts(&with("permituserenvironment", bad), true);
        assert!(found.len() == 1 && found[0].contains(".ssh/environment"), "{bad}: {found:?}");
    }
    for (names, count) in [("LANG TZ", 0), ("*", 1), ("XDG_* LD_*", 1), ("GLIBC_TUNABLES", 1)] {
        assert_eq!(texts(&format!("{TRIXIE}acceptenv {names}\n"), true).len(), count, "{names}");
    }
}

/// sshd's USER@HOST, and names that have an @.
#[test]
fn a_name_with_an_at_is_none_to_sshd() {
    let found = texts(&format!("{TRIXIE}denyusers eve\ndenyusers carol@example.org\n"), true);
    assert!(
        found.len() == 1 && found[0].contains("carol coming from the host example.org: it does not deny"),
        "{found:?}"
    );
    assert!(
        found[0].contains("deny_users in [login]") && found[0].ends_with("DenyUsers carol?example.org"),
        "{found:?}"
    );
    let found = texts(&format!("{TRIXIE}allowusers carol@example.org\n"), true);
    assert!(found.len() == 2 && found[1].contains("it does not allow"), "{found:?}");
    for meant in [
        "root@10.0.0.0/8",
        "root@192.0.2.*",
        "*@2001:db8::1",
        "root@fd00::/8",
        "carol?example.org",
        "x@*.example.org",
    ] {
        assert!(texts(&format!("{TRIXIE}denyusers {meant}\n"), true).is_empty(), "{meant}");
    }
}

#[test]
fn a_login_that_sshd_denies_is_told() {
    let text = format!("{TRIXIE}denyusers eve*\ndenyusers carol@10.0.0.1\n");
    let of = |login| hub_user(&Effective::parse(&text), Some(login), true, Jail::Namespaces);
    assert!(of("alice").is_empty() && of("carol").is_empty());
    let found = of("eve+gpu");
    assert!(
        found.len() == 1
            && found[0].is_error()
            && found[0].what.contains("eve+gpu cannot log in: DenyUsers has eve*")
    );
}

#[test]
fn keys_need_their_command_only_when_they_are_on() {
    for (keyword, value) in [("authorizedkeyscommand", "/bin/x %u"), ("authorizedkeyscommanduser", "root")] {
        let text = with(keyword, value);
        let found = |keys_on| hub_user(&Effective::parse(&text), None, keys_on, Jail::Namespaces);
        assert!(found(true).len() == 1 && found(true)[0].is_error());
        assert!(found(false).len() == 1 && !found(false)[0].is_error());
    }
}

#[test]
fn somebody_must_be_able_to_log_in() {
    assert!(texts(&with("authenticationmethods", "publickey"), true).is_empty());
    assert!(texts(&with("authenticationmethods", "publickey,keyboard-interactive:pam"), true).is_empty());
    let off = texts(&with("authenticationmethods", "publickey"), false);
    assert!(
        off.len() == 1 && off[0].contains("no hub user can log in") && off[0].contains("service_token_file")
    );
    let text = with("authenticationmethods", "keyboard-interactive")
        .replace("kbdinteractiveauthentication yes", "kbdinteractiveauthentication no");
    assert!(texts(&text, true)[0].contains("none of AuthenticationMethods keyboard-interactive is possible"));
    let remedy = &texts(&text, true)[0];
    assert!(
        remedy.contains("grep -riE 'Kbd") && remedy.contains("|PubkeyAuthentication' /etc/ssh"),
        "{remedy}"
    );
    // An empty output grants nothing.
    assert!(texts("", true).iter().any(|text| text.contains("no hub user can log in")));
}

#[test]
fn groups_are_patterns() {
    for good in
        ["jupyterhub", "sudo jupyterhub", "jup*", "*hub", "jupyterhu?", "sudo\nallowgroups jupyterhub"]
    {
        assert!(texts(&format!("{TRIXIE}allowgroups {good}\n"), true).is_empty(), "{good}");
    }
    for bad in ["jupyter", "?", "a*b", "***********"] {
        assert_eq!(texts(&format!("{TRIXIE}allowgroups {bad}\n"), true).len(), 1, "{bad}");
    }
    assert!(texts(&format!("{TRIXIE}allowusers admin\n"), true)[0].contains("AllowUsers is set"));
}

#[test]
fn certificates_need_the_command_of_principals() {
    let with_ca = with("trustedusercakeys", "/etc/ssh/ca.pub");
    assert!(texts(&with_ca, true).is_empty());
    let ignored =
        with_ca.replace("authorizedprincipalscommand /bin/echo %u", "authorizedprincipalscommand none");
    assert!(texts(&ignored, true)[0].contains("AuthorizedPrincipalsCommand is not in force"));
}

#[test]
fn nonsense_is_read_without_harm() {
    let found = Effective::parse("\0\n  \nUsePAM\n\u{202e} x\nusepam no\n");
    assert_eq!(found.get("usepam"), "");
    assert!(!texts("\0\u{1}", false).is_empty());
}

/// An sshd without root cannot use a chroot; only our program may run then.
#[test]
fn without_a_jail_other_values_are_right() {
    let found = |text: &str| hub_user(&Effective::parse(text), None, false, Jail::None);
    let good = with("chrootdirectory", "none");
    assert!(found(&good).is_empty(), "{:?}", found(&good));
    assert!(found(&with("chrootdirectory", JAIL_DIR)).iter().any(Finding::is_error));
    let line = format!("forcecommand {SESSION_SHELL}");
    assert!(good.contains(&line));
    let door = good.replace(&line, "forcecommand internal-sftp");
    assert!(found(&door).len() == 1 && found(&door)[0].is_error(), "{:?}", found(&door));
}
