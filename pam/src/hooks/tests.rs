//! The hooks against a scripted libpam and a scripted host.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

struct FakeClient {
    service: &'static str,
    user: &'static str,
    rhost: &'static str,
    answer: Result<Option<&'static [u8]>, ()>,
    prompts: Vec<String>,
    errors: Vec<String>,
    variables: BTreeMap<String, String>,
    log: RefCell<Vec<String>>,
}

impl FakeClient {
    fn new(user: &'static str, answer: &'static str) -> Self {
        Self {
            service: "sshd",
            user,
            rhost: "192.0.2.7",
            answer: Ok(Some(answer.as_bytes())),
            prompts: vec![],
            errors: vec![],
            variables: BTreeMap::new(),
            log: RefCell::default(),
        }
    }

    fn untouched(&self) -> bool {
        self.prompts.is_empty()
            && self.errors.is_empty()
            && self.variables.is_empty()
            && self.log.borrow().is_empty()
    }

    fn logged(&self) -> String {
        self.log.borrow().join("\n")
    }
}

impl Client for FakeClient {
    fn service(&self) -> String {
        self.service.into()
    }
    fn user(&mut self) -> Result<String, PamResultCode> {
        Ok(self.user.into())
    }
    fn rhost(&self) -> String {
        self.rhost.into()
    }
    fn prompt(&mut self, text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, PamResultCode> {
        self.prompts.push(text.into());
        self.answer.map(|a| a.map(|a| Zeroizing::new(a.to_vec()))).map_err(|()| PamResultCode::PAM_CONV_ERR)
    }
    fn error(&mut self, text: &str) {
        self.errors.push(text.into());
    }
    fn set_variable(&mut self, name: &str, value: Option<&str>) -> Result<(), PamResultCode> {
        match value {
            Some(value) => self.variables.insert(name.into(), value.into()),
            None => self.variables.remove(name),
        };
        Ok(())
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
    fn log(&self, _: Level, text: &str) {
        self.log.borrow_mut().push(text.into());
    }
}

struct FakeSystem {
    page: Result<String, String>,
    verdict: RefCell<Option<Result<Verdict, String>>>,
    group: Result<(), String>,
    confined: Result<(), String>,
    jail: Result<Option<String>, String>,
    /// What was looked up, read or run, in order.
    calls: RefCell<Vec<String>>,
}

impl FakeSystem {
    fn new(verdict: Result<Verdict, String>) -> Self {
        Self {
            page: Ok("https://hub.example.org/hub/token".into()),
            verdict: RefCell::new(Some(verdict)),
            group: Ok(()),
            confined: Ok(()),
            jail: Ok(None),
            calls: RefCell::default(),
        }
    }

    fn granting() -> Self {
        Self::new(Ok(Verdict::Granted(Handle::parse(&handle()).unwrap())))
    }

    fn called(&self, what: &str) -> Option<String> {
        self.calls.borrow().iter().find_map(|call| call.strip_prefix(what).map(str::to_owned))
    }
}

impl System for FakeSystem {
    fn owner(&self, user: &str) -> Owner {
        self.calls.borrow_mut().push(format!("owner {user}"));
        match user {
            "root" | "admin" => Owner::Local,
            // The module's own answer for these, which no other source has.
            "Root" => Owner::Hub(Account { name: "root".into(), uid: 1000, gid: 100 }),
            "Alice" => Owner::Hub(Account { name: "alice".into(), uid: 1000, gid: 100 }),
            "nobody-knows" => Owner::Nobody,
            _ => Owner::Hub(Account { name: user.into(), uid: 1000, gid: 100 }),
        }
    }
    fn in_hub_group(&self, user: &str, gid: u32) -> Result<(), String> {
        self.calls.borrow_mut().push(format!("group {user} {gid}"));
        self.group.clone()
    }
    fn is_confined(&self, login: Confinement, gid: u32) -> Result<(), String> {
        let Confinement { typed, user, host, connection } = login;
        let connection = connection.unwrap_or_default();
        self.calls.borrow_mut().push(format!("confined {typed} {user} {gid} {host} {connection}"));
        self.confined.clone()
    }
    fn token_page(&self) -> Result<String, String> {
        self.calls.borrow_mut().push("config".into());
        self.page.clone()
    }
    fn connection_id(&self) -> String {
        "5e551040".into()
    }
    fn verify(&self, session: &str, login: &Request<'_>) -> Result<Verdict, String> {
        assert_eq!(session, "5e551040");
        let what = match login.by() {
            By::Token => "verify",
            By::Key => "key",
        };
        self.calls.borrow_mut().push(format!("{what} {}", String::from_utf8_lossy(&login.to_bytes())));
        self.verdict.borrow_mut().take().unwrap()
    }
    fn enter_jail(
        &self,
        user: &LoginName,
        (uid, gid): (u32, u32),
        handle: &Handle,
    ) -> Result<Option<String>, String> {
        let request = wire::jail::request(user, handle, uid, gid, 4711);
        self.calls.borrow_mut().push(format!("jail {}", *request));
        self.jail.clone()
    }
}

fn handle() -> String {
    "0a".repeat(32)
}

type Hook = fn(&mut FakeClient, &FakeSystem) -> PamResultCode;
const HOOKS: [Hook; 5] = [
    |c, s| authenticate(c, s),
    |c, s| account(c, s),
    |c, s| open_session(c, s),
    |c, s| change_token(c, s),
    succeed,
];

#[test]
fn other_services_are_ignored_before_any_lookup() {
    for service in ["login", "sudo", "su", "", "sshd2", "SSHD", "jupyterhub"] {
        for hook in HOOKS {
            let (mut client, system) = (FakeClient::new("alice", "t"), FakeSystem::granting());
            client.service = service;
            assert_eq!(hook(&mut client, &system), PamResultCode::PAM_IGNORE);
            assert!(client.untouched() && system.calls.borrow().is_empty(), "{service}");
        }
    }
}

#[test]
fn local_accounts_are_ignored_without_a_word() {
    for hook in HOOKS {
        let (mut client, system) = (FakeClient::new("admin", "t"), FakeSystem::granting());
        assert_eq!(hook(&mut client, &system), PamResultCode::PAM_IGNORE);
        assert!(client.untouched());
        assert!(system.calls.borrow().iter().all(|call| call == "owner admin"));
    }
}

#[test]
fn a_name_in_another_case_is_the_accounts() {
    let (mut client, system) = (FakeClient::new("Alice", "secret"), FakeSystem::granting());
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert!(client.prompts[0].ends_with(" as alice's password: "));
    assert_eq!(system.called("verify ").unwrap(), "user alice\npeer 192.0.2.7\ntoken secret\n");
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(system.called("group ").unwrap(), "alice 100");
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert!(system.called("jail ").unwrap().starts_with("user alice\n"));
    assert_eq!(client.user, "Alice", "sshd ends a login whose PAM_USER has changed");
}

/// The local account's groups would be the session's.
#[test]
fn no_case_gets_past_a_local_account() {
    let hooks: [(Hook, PamResultCode); 3] = [
        (|c, s| authenticate(c, s), PamResultCode::PAM_AUTH_ERR),
        (|c, s| account(c, s), PamResultCode::PAM_PERM_DENIED),
        (|c, s| open_session(c, s), PamResultCode::PAM_SESSION_ERR),
    ];
    for (hook, refused) in hooks {
        let (mut client, system) = (FakeClient::new("Root", "secret"), FakeSystem::granting());
        client.variables.insert(paths::HANDLE_VARIABLE.into(), handle());
        assert_eq!(hook(&mut client, &system), refused);
        assert!(client.prompts.is_empty() && client.logged().contains(TAKEN));
        for call in ["verify ", "key ", "jail "] {
            assert_eq!(system.called(call), None);
        }
    }
}

#[test]
fn unknown_users_are_ignored_but_a_missing_setting_is_logged() {
    let (mut client, mut system) = (FakeClient::new("nobody-knows", "t"), FakeSystem::granting());
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_IGNORE);
    assert!(client.untouched());
    system.page = Err("set hub.url in /etc/x".into());
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_IGNORE);
    assert!(client.logged().contains("set hub.url in /etc/x"));
    assert!(client.prompts.is_empty() && client.errors.is_empty());
}

#[test]
fn a_good_token_leaves_a_handle() {
    let (mut client, system) = (FakeClient::new("alice", " secret\r\n"), FakeSystem::granting());
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(
        client.prompts,
        ["Paste a JupyterHub token from https://hub.example.org/hub/token as alice's password: "]
    );
    assert_eq!(system.called("verify ").unwrap(), "user alice\npeer 192.0.2.7\ntoken secret\n");
    assert_eq!(client.variables[paths::HANDLE_VARIABLE], handle());
    assert!(client.errors.is_empty());
    assert_eq!(
        client.logged(),
        "session=5e551040 user=alice peer=192.0.2.7 event=login outcome=granted by=token"
    );
}

#[test]
fn every_refusal_is_logged_and_shown() {
    let cases: [(Result<Verdict, String>, PamResultCode, &str, &str); 3] = [
        (
            Ok(Verdict::Refused("Wrong.\nNew one.".into())),
            PamResultCode::PAM_AUTH_ERR,
            "Wrong.",
            "Wrong.\nNew one.",
        ),
        (Ok(Verdict::Unavailable("Down.".into())), PamResultCode::PAM_AUTHINFO_UNAVAIL, "Down.", "Down."),
        (
            Err("no answer from x".into()),
            PamResultCode::PAM_AUTHINFO_UNAVAIL,
            "no answer from x",
            GATEWAY_FAILED,
        ),
    ];
    for (verdict, code, log, shown) in cases {
        let (mut client, system) = (FakeClient::new("alice", "secret"), FakeSystem::new(verdict));
        assert_eq!(authenticate(&mut client, &system), code);
        let start = "session=5e551040 user=alice peer=192.0.2.7 event=login outcome=";
        let outcome = if code == PamResultCode::PAM_AUTH_ERR { "refused" } else { "unavailable" };
        let logged = client.logged();
        assert!(logged.starts_with(&format!("{start}{outcome} by=token reason=")), "{logged}");
        assert!(logged.contains(log), "{logged}");
        assert_eq!(client.errors, [format!("{shown}\n{ALSO_THE_PASSWORD}")]);
        assert!(client.variables.is_empty());
        assert!(!client.logged().contains("secret"));
    }
}

#[test]
fn what_is_no_token_never_reaches_the_gateway() {
    for answer in ["", "  ", "a b", "\u{8}\n\r\u{7f}INCORRECT", "a\r\nX: y", "tök"] {
        let (mut client, system) = (FakeClient::new("alice", answer), FakeSystem::granting());
        assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_AUTH_ERR, "{answer:?}");
        assert_eq!(system.called("verify "), None);
        assert_eq!((client.errors.len(), client.log.borrow().len()), (1, 1));
        assert!(client.errors.iter().all(|shown| shown.ends_with(ALSO_THE_PASSWORD)));
    }
    let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    client.answer = Ok(None);
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_AUTH_ERR);
    client.answer = Err(());
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_CONV_ERR);
    assert_eq!(system.called("verify "), None);
}

#[test]
fn without_a_hub_nobody_is_asked_for_a_token() {
    let (mut client, mut system) = (FakeClient::new("alice", "secret"), FakeSystem::granting());
    system.page = Err("set hub.url in /etc/x".into());
    assert_eq!(authenticate(&mut client, &system), PamResultCode::PAM_AUTHINFO_UNAVAIL);
    assert!(
        client.prompts.is_empty()
            && client.logged().contains("outcome=unavailable by=token reason=\"set hub.url in /etc/x\"")
    );
    assert_eq!(client.errors, [NOT_SET_UP]);
}

#[test]
fn a_strange_client_address_cannot_add_lines() {
    for (rhost, peer) in
        [("", "unknown"), ("a b", "unknown"), ("a\ntoken x", "unknown"), ("fe80::1%eth0", "fe80::1%eth0")]
    {
        let (mut client, system) = (FakeClient::new("alice", "secret"), FakeSystem::granting());
        client.rhost = rhost;
        authenticate(&mut client, &system);
        assert_eq!(system.called("verify ").unwrap(), format!("user alice\npeer {peer}\ntoken secret\n"));
    }
}

#[test]
fn the_account_needs_the_group() {
    let (mut client, mut system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    client.variables.insert(paths::HANDLE_VARIABLE.into(), handle());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(system.called("group ").unwrap(), "alice 100");
    assert_eq!((system.called("key "), system.called("verify ")), (None, None), "a token was given");
    system.group = Err("nsswitch".into());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_PERM_DENIED);
    assert_eq!(
        client.logged(),
        "session=0a0a0a0a user=alice peer=192.0.2.7 event=login outcome=unavailable by=token reason=nsswitch"
    );
}

#[test]
fn a_login_that_sshd_would_not_confine_is_refused() {
    const CONNECTION_NOW: &str = "192.0.2.7 4711 192.0.2.1 22";
    for with_token in [true, false] {
        let (mut client, mut system) = (FakeClient::new("alice", ""), FakeSystem::granting());
        client.variables.insert(CONNECTION.into(), CONNECTION_NOW.into());
        if with_token {
            client.variables.insert(paths::HANDLE_VARIABLE.into(), handle());
        }
        system.confined = Err("ForceCommand is none. Move line 6".into());
        assert_eq!(account(&mut client, &system), PamResultCode::PAM_PERM_DENIED);
        assert_eq!(
            system.called("confined ").unwrap(),
            format!("alice alice 100 192.0.2.7 {CONNECTION_NOW}")
        );
        assert!(
            client.logged().ends_with("reason=\"ForceCommand is none. Move line 6\""),
            "{}",
            client.logged()
        );
        assert_eq!((client.errors, system.called("key ")), (vec![NOT_CONFINED.to_owned()], None));
    }
    let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    client.variables.insert(CONNECTION.into(), "x\nuser root".into());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(system.called("confined ").unwrap(), "alice alice 100 192.0.2.7 ", "no line more");
    // `Match User` of sshd's sees what was typed.
    let (mut client, system) = (FakeClient::new("Alice", ""), FakeSystem::granting());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(system.called("confined ").unwrap(), "Alice alice 100 192.0.2.7 ");
}

#[test]
fn without_a_token_the_hub_makes_one() {
    let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    // Empty in the account phase of a login by key alone.
    client.variables.insert(AUTHENTICATED.into(), String::new());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(system.called("key ").unwrap(), "user alice\npeer 192.0.2.7\n");
    assert!(client.prompts.is_empty() && client.errors.is_empty());
    client.variables.insert(AUTHENTICATED.into(), "publickey ssh-ed25519 AAAA\n".into());
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert!(system.called("jail ").unwrap().contains(&format!("\nhandle {}\n", handle())));
    assert_eq!(client.variable(paths::HANDLE_VARIABLE), None);
}

#[test]
fn a_key_that_the_hub_does_not_back_opens_nothing() {
    let cases: [(Result<Verdict, String>, PamResultCode, &str); 3] = [
        (Ok(Verdict::Refused("No such user.".into())), PamResultCode::PAM_PERM_DENIED, "No such user."),
        (Ok(Verdict::Unavailable("Down.".into())), PamResultCode::PAM_AUTHINFO_UNAVAIL, "Down."),
        (Err("no answer".into()), PamResultCode::PAM_AUTHINFO_UNAVAIL, NO_TOKEN),
    ];
    for (verdict, code, shown) in cases {
        let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::new(verdict));
        assert_eq!(account(&mut client, &system), code);
        let start = "session=5e551040 user=alice peer=192.0.2.7 event=login outcome=";
        assert!(client.logged().starts_with(start), "{}", client.logged());
        assert_eq!(client.errors, [shown]);
        assert!(client.variables.is_empty());
    }
    let (mut client, mut system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    system.group = Err("nsswitch".into());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_PERM_DENIED);
    assert_eq!(system.called("key "), None, "nothing is made for whom sshd would not confine");
}

/// Methods that an administrator may have allowed besides ours.
#[test]
fn who_has_shown_neither_key_nor_token_gets_no_session() {
    for methods in
        [None, Some(""), Some("hostbased ssh-ed25519 AAAA\n"), Some("password\n"), Some("publickeys x\n")]
    {
        let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
        assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
        if let Some(methods) = methods {
            client.variables.insert(AUTHENTICATED.into(), methods.into());
        }
        assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SESSION_ERR, "{methods:?}");
        assert_eq!(system.called("jail "), None);
        assert!(client.logged().contains("neither a key nor a hub token"));
        assert_eq!(client.variable(paths::HANDLE_VARIABLE), None);
    }
    // Both of them, in this order.
    let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    assert_eq!(account(&mut client, &system), PamResultCode::PAM_SUCCESS);
    client.variables.insert(AUTHENTICATED.into(), "hostbased x\npublickey ssh-rsa AAAA\n".into());
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SUCCESS);
}

#[test]
fn a_session_without_a_jail_is_told_where_its_gateway_is() {
    let (mut client, mut system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    system.jail = Ok(Some("0b".repeat(16)));
    client.variables.insert(paths::HANDLE_VARIABLE.into(), handle());
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(
        client.variables.into_iter().collect::<Vec<_>>(),
        [(paths::CHANNELS_VARIABLE.to_owned(), "0b".repeat(16))]
    );
}

#[test]
fn a_session_takes_the_handle_out_of_the_environment() {
    let (mut client, mut system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    client.variables.insert(paths::HANDLE_VARIABLE.into(), handle());
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SUCCESS);
    assert_eq!(
        system.called("jail ").unwrap(),
        format!("user alice\nhandle {}\nuid 1000\ngid 100\nsshd 4711\n\n", handle())
    );
    assert!(client.variables.is_empty());

    // The second session of one connection doesn't exist: the handle is used up.
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SESSION_ERR);

    system.jail = Err("no room".into());
    client.variables.insert(paths::HANDLE_VARIABLE.into(), handle());
    assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SESSION_ERR);
    assert!(
        client
            .logged()
            .contains("session=0a0a0a0a user=alice peer=192.0.2.7 event=session-failed reason=\"no room\"")
    );
    assert!(client.variables.is_empty());
}

#[test]
fn no_session_without_a_sound_handle() {
    for bad in
        [None, Some(""), Some("0a"), Some("0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A")]
    {
        let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
        if let Some(bad) = bad {
            client.variables.insert(paths::HANDLE_VARIABLE.into(), bad.into());
        }
        assert_eq!(open_session(&mut client, &system), PamResultCode::PAM_SESSION_ERR);
        assert_eq!(system.called("jail "), None);
        assert_eq!(client.log.borrow().len(), 1);
        assert_eq!(client.errors, [NO_SESSION]);
    }
}

#[test]
fn tokens_are_not_changed_here() {
    let (mut client, system) = (FakeClient::new("alice", ""), FakeSystem::granting());
    assert_eq!(change_token(&mut client, &system), PamResultCode::PAM_PERM_DENIED);
    assert_eq!(client.errors.len(), 1);
}
