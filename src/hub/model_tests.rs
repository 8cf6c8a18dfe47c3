//! The rule that lets a user log in, against answers of real hubs and against the worst ones
//! imaginable.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn alice() -> Value {
    json!({
        "kind": "user", "name": "alice", "admin": false, "groups": ["staff"], "roles": ["user"],
        "pending": null, "server": "/user/alice/", "token_id": "a7", "session_id": null,
        "servers": {
            "": {"name": "", "ready": true, "pending": null, "url": "/user/alice/"},
            "gpu": {"name": "gpu", "ready": false, "pending": "spawn"},
        },
        "scopes": ["access:servers!user=alice", "read:servers!user=alice", "servers!user=alice",
                   "start:servers!user=alice"],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut model = alice();
    model[key] = value;
    model
}

fn judge(model: &Value, server: &str) -> Result<Verified, Refusal> {
    verify(model.to_string().as_bytes(), "alice", server)
}

#[test]
fn own_token() {
    let verified = judge(&alice(), "").unwrap();
    assert_eq!(
        verified,
        Verified {
            token_id: Some("a7".to_owned()),
            may_start: true,
            state: ServerState::Ready,
            address: Some("/user/alice/".to_owned()),
            groups: Some(vec!["staff".to_owned()]),
            holder: Holder::User,
            may_make_tokens: false,
        }
    );
    assert_eq!(judge(&alice(), "gpu").unwrap().state, ServerState::Starting);
    assert_eq!(judge(&alice(), "new").unwrap().state, ServerState::Stopped);
}

#[test]
fn smallest_scopes() {
    let verified = judge(&with("scopes", json!(["access:servers!server=alice/"])), "").unwrap();
    assert!(!verified.may_start);
    let mut blind = with("scopes", json!(["access:servers!user=alice", "servers!server=alice/gpu"]));
    blind.as_object_mut().unwrap().remove("servers");
    assert_eq!(judge(&blind, "").unwrap().state, ServerState::Unknown);
    assert!(!judge(&blind, "").unwrap().may_start);
    assert!(judge(&blind, "gpu").unwrap().may_start);
    assert_eq!(judge(&blind, "gpu").unwrap().state, ServerState::Stopped);
    // The list exists, but holds only what the token may see: absent does not mean stopped.
    blind["servers"] = json!({});
    assert_eq!(judge(&blind, "").unwrap().state, ServerState::Unknown);
    assert_eq!(judge(&blind, "gpu").unwrap().state, ServerState::Stopped);
    assert!(judge(&with("scopes", json!(["access:servers!group=staff"])), "gpu").is_ok());
}

#[test]
fn what_a_server_is_doing() {
    for (server, state) in [
        (json!({"ready": true, "pending": "stop"}), ServerState::Stopping),
        (json!({"ready": false, "pending": "check"}), ServerState::Busy),
        (json!({"ready": true, "pending": false}), ServerState::Ready),
        (json!({"ready": false, "pending": null}), ServerState::Stopped),
        (json!({}), ServerState::Stopped),
    ] {
        assert_eq!(judge(&with("servers", json!({"": server})), "").unwrap().state, state);
    }
}

#[test]
fn where_a_server_is() {
    let servers = |text: &str| with("servers", serde_json::from_str(text).unwrap());
    let two =
        servers(r#"{"": {"url": "/user/alice/"}, "gpu": {"url": "https://alice.hub/user/alice/gpu/"}}"#);
    assert_eq!(judge(&two, "").unwrap().address.unwrap(), "/user/alice/");
    assert_eq!(judge(&two, "gpu").unwrap().address.unwrap(), "https://alice.hub/user/alice/gpu/");
    let other = servers(r#"{"x": {}, "gpu": {"url": "https://alice.hub/user/alice/gpu/"}}"#);
    assert_eq!(judge(&other, "").unwrap().address.unwrap(), "https://alice.hub/user/alice/gpu/");
    assert_eq!(judge(&servers("{}"), "").unwrap().address, None);
}

#[test]
fn refused_each_for_its_reason() {
    let service = json!({"kind": "service", "name": "alice", "admin": true, "roles": [], "token_id": "s1",
                         "scopes": ["access:servers", "admin:users"]});
    assert!(matches!(judge(&service, ""), Err(Refusal::NotAUser { kind, .. }) if kind == "service"));
    let mut admin = with("name", json!("root"));
    admin["scopes"] = json!(["access:servers", "admin:users", "admin:servers"]);
    assert!(matches!(judge(&admin, ""), Err(Refusal::OtherUser { name, .. }) if name == "root"));
    assert!(
        matches!(judge(&with("name", json!("Alice")), ""), Err(Refusal::Capitals { name, .. }) if name == "Alice")
    );
    for name in ["alice ", "alice\0", "", "аlice", "alice\u{200b}"] {
        assert!(matches!(judge(&with("name", json!(name)), ""), Err(Refusal::OtherUser { .. })), "{name:?}");
    }
    for scopes in
        [json!([]), json!(["access:servers!user=bob"]), json!(["self"]), json!(["servers!user=alice"])]
    {
        assert!(matches!(judge(&with("scopes", scopes), ""), Err(Refusal::NoAccessScope { .. })));
    }
    assert!(matches!(
        verify(with("name", json!("")).to_string().as_bytes(), "", ""),
        Err(Refusal::OtherUser { .. })
    ));
    // A group counts only while the user is a member.
    let mut left = with("scopes", json!(["access:servers!group=staff"]));
    left["groups"] = json!([]);
    assert!(judge(&left, "").is_err());
    left.as_object_mut().unwrap().remove("groups");
    assert!(judge(&left, "").is_err());
}

#[test]
fn groups_are_told_or_unknown() {
    let mut model = with("groups", json!(["staff", "a b", "größe"]));
    let three = ["staff", "a b", "größe"].map(str::to_owned).to_vec();
    assert_eq!(judge(&model, "").unwrap().groups, Some(three));
    model["groups"] = json!([]);
    assert_eq!(judge(&model, "").unwrap().groups, Some(vec![]));
    model.as_object_mut().unwrap().remove("groups");
    assert_eq!(judge(&model, "").unwrap().groups, None);
}

#[test]
fn worst_answers_are_outages() {
    let garbage: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"true".to_vec(),
        br#"["user","alice",["access:servers"],null,null,null]"#.to_vec(),
        b"{\"kind\":\"user\",\"name\":\"alice\",\"scopes\":[\"access:servers\"],\"x\":\"\xff\"}".to_vec(),
        b"<html>502 Bad Gateway</html>".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"{\"kind\":\"user\"".to_vec(),
        b"{}".to_vec(),
        vec![0; 4096],
        vec![b'['; 1 << 20],
        [b"{\"kind\":\"user\",\"name\":\"alice\",\"x\":".to_vec(), vec![b'['; 1 << 20]].concat(),
        [b"{\"kind\":\"user\",\"name\":\"alice\",\"servers\":{\"\":".to_vec(), b"{\"a\":".repeat(200_000)]
            .concat(),
        // With a duplicate key neither value counts.
        br#"{"kind":"user","name":"bob","name":"alice","scopes":["access:servers"]}"#.to_vec(),
        br#"{"kind":"service","kind":"user","name":"alice","scopes":["access:servers"]}"#.to_vec(),
        br#"{"kind":"user","name":"alice","scopes":[],"scopes":["access:servers"]}"#.to_vec(),
        br#"{"kind":"user","name":"alice","scopes":["access:servers"]} {"#.to_vec(),
        br#"{"kind":"user","name":"\ud800","scopes":["access:servers"]}"#.to_vec(),
    ];
    for answer in garbage {
        let start = String::from_utf8_lossy(answer.get(..60).unwrap_or(&answer)).into_owned();
        let refusal = verify(&answer, "alice", "").unwrap_err();
        assert!(matches!(refusal, Refusal::NotUnderstood(_)), "{start}: {refusal:?}");
    }
    for (key, value) in [
        ("kind", json!(null)),
        ("kind", json!(["user"])),
        ("name", json!(null)),
        ("name", json!({"alice": 1})),
        ("scopes", json!("access:servers")),
        ("scopes", json!(null)),
        ("scopes", json!([1])),
        ("scopes", json!({"access:servers": true})),
        ("groups", json!("staff")),
        ("servers", json!([1])),
        ("servers", json!({"": null})),
        ("servers", json!({"": {"ready": "yes"}})),
        ("token_id", json!(7)),
    ] {
        let refusal = judge(&with(key, value.clone()), "").unwrap_err();
        assert!(matches!(refusal, Refusal::NotUnderstood(_)), "{key}={value}: {refusal:?}");
    }
    for key in ["kind", "name", "scopes"] {
        let mut model = alice();
        model.as_object_mut().unwrap().remove(key);
        assert!(matches!(judge(&model, ""), Err(Refusal::NotUnderstood(_))), "{key}");
    }
}

#[test]
fn messages_have_two_lines_and_tell_an_attacker_nothing() {
    let page = "https://hub.example.org/hub/token";
    let token_id = Some("t9".to_owned());
    let refusals = [
        Refusal::WrongToken { status: 403, message: "Forbidden.".to_owned() },
        Refusal::NotAUser { kind: "service".to_owned(), name: "culler".to_owned() },
        Refusal::OtherUser { name: "bob".to_owned(), token_id: token_id.clone() },
        Refusal::Capitals { name: "Alice".to_owned(), token_id: token_id.clone() },
        Refusal::NoAccessScope { server: "gpu".to_owned(), token_id },
        Refusal::NotUnderstood("line 1".to_owned()),
    ];
    for refusal in &refusals {
        let (user, log) = (refusal.for_user("alice", page), refusal.for_log());
        assert_eq!(user.lines().count(), 2, "{user}");
        assert_eq!(log.lines().count(), 1, "{log}");
        for secret in ["bob", "culler", "t9", "service"] {
            assert!(!user.contains(secret), "{user}");
        }
    }
    assert!(refusals[2].for_log().contains("\"bob\" (token id t9)"));
    assert!(refusals[3].for_log().ends_with("only with accounts.lower_case = false (token id t9)"));
    let hostile = with("name", json!("bob\n\x1b[31mroot\u{202e}"));
    assert_eq!(
        judge(&hostile, "").unwrap_err().for_log(),
        "the token belongs to another user, \"bob root\" (token id a7)"
    );
}

proptest! {
    #[test]
    fn bytes_never_grant(answer in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(verify(&answer, "alice", "").is_err());
    }

    /// A good answer with one byte changed grants only if it still says everything required.
    #[test]
    fn a_changed_byte_grants_nothing_more(at in 0usize..600, byte: u8) {
        let mut answer = alice().to_string().into_bytes();
        let at = at % answer.len();
        answer[at] = byte;
        if verify(&answer, "alice", "").is_ok() {
            let model: Value = serde_json::from_slice(&answer).unwrap();
            prop_assert_eq!(&model["kind"], "user");
            prop_assert_eq!(&model["name"], "alice");
            let scopes = model["scopes"].to_string();
            prop_assert!(scopes.contains("\"access:servers!user=alice\""));
        }
    }

    #[test]
    fn other_names_never_match(name in any::<String>()) {
        prop_assume!(name != "alice");
        prop_assert!(judge(&with("name", json!(name)), "").is_err());
    }
}

/// What hubs 2.3 and 6.1 say about each kind of token.
#[test]
fn a_servers_token_and_a_programs_are_told_from_the_users() {
    const SERVER: &str = "access:servers!server=alice/";
    const ACTIVITY: [&str; 2] = ["read:users:activity!user=alice", "users:activity!user=alice"];
    const IDENTITY: [&str; 2] = ["read:users:groups!user=alice", "read:users:name!user=alice"];
    let session = "af3a2134a572417cb430ed9946560df6";
    let own =
        [&["access:servers!user=alice", "tokens!user=alice", "servers!user=alice"][..], &ACTIVITY].concat();
    for (scopes, session, holder) in [
        (own.clone(), None, Holder::User),
        (vec!["access:servers", "users:activity", "tokens"], None, Holder::User),
        (vec!["access:servers", "users:activity", "tokens!group=staff"], None, Holder::User),
        (vec![SERVER], None, Holder::User),
        ([&[SERVER, "servers!server=alice/"][..], &IDENTITY].concat(), None, Holder::User),
        // A server's own token: of hub 6.1, of 2.3, and one with further scopes.
        ([&[SERVER][..], &ACTIVITY, &IDENTITY].concat(), None, Holder::Server),
        ([&["access:servers!user=alice"][..], &ACTIVITY].concat(), None, Holder::Server),
        (
            [&[SERVER, "servers!user=alice", "read:tokens!user=alice"][..], &ACTIVITY].concat(),
            None,
            Holder::Server,
        ),
        (vec![SERVER, "users:activity"], None, Holder::Server),
        (vec![SERVER, "users:activity!group=staff", "tokens!user=bob", "tokens!"], None, Holder::Server),
        // The token that a server or service gets from the user's browser.
        ([&[SERVER][..], &IDENTITY].concat(), Some(session), Holder::Program),
        (vec![SERVER], Some(session), Holder::Program),
        (own, Some(session), Holder::Program),
        (vec![SERVER], Some(""), Holder::Program),
    ] {
        let mut model = with("scopes", json!(scopes));
        model["session_id"] = json!(session);
        let verified = judge(&model, "").unwrap();
        assert_eq!(verified.holder, holder, "{scopes:?} {session:?}");
        let makes =
            scopes.iter().any(|scope| ["tokens", "tokens!user=alice", "tokens!group=staff"].contains(scope));
        assert_eq!(verified.may_make_tokens, makes, "{scopes:?}");
        let refused = verified.only_the_users_own();
        assert_eq!(refused.is_ok(), holder == Holder::User);
        if let Err(refusal) = refused {
            let text = refusal.for_user("alice", "https://hub/hub/token");
            assert!(text.lines().count() == 2 && text.contains("https://hub/hub/token"), "{text}");
            assert!(
                refusal.for_log().contains("not the user's own")
                    && refusal.for_log().ends_with("(token id a7)")
            );
        }
    }
    // Any other value is not an answer of a hub.
    assert!(matches!(judge(&with("session_id", json!(7)), ""), Err(Refusal::NotUnderstood(_))));
    let mut without = alice();
    without.as_object_mut().unwrap().remove("session_id");
    assert_eq!(judge(&without, "").unwrap().holder, Holder::User);
}
