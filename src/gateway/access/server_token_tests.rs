//! Which token a server sees, with hubs of all kinds.
#![allow(clippy::unwrap_used)]

use super::*;
use common::LoginName;
use host::config::Config;
use host::counters::Meter;
use hub::fake::{Fake, answer, hub_error, send};
use hub::http::new_http;
use std::path::Path;

const NARROW: &str = r#"{"token":"m1nted","id":"a17","expires_at":"2026","user":"alice",
    "scopes":["access:servers!server=alice/","users:activity!user=alice","read:users:name!user=alice"]}"#;
const WIDE: &str = r#"{"token":"m1nted","id":"a17","expires_at":"2026","user":"alice","roles":["token"]}"#;

fn access(fake: &Fake, for_server: ServerToken) -> Access {
    let url = format!("[hub]\nurl = \"{}\"\n", fake.base.trim_end_matches('/'));
    let config = Config::from_str(&url, Path::new("config.toml")).unwrap();
    let hub = config.hub_url().unwrap().clone();
    let http = new_http(&config, &hub).unwrap();
    let login = LoginName::parse("alice").unwrap();
    Access::new(config, hub, login, (Token::parse("typed").unwrap(), for_server), http, Meter::off())
}

fn made() -> ServerToken {
    ServerToken::to_be_made("alice", "", "192.0.2.7", "1a2b")
}

/// A hub that answers to each method in its own way.
fn hub(post: String, get: String, delete: String) -> Fake {
    Fake::new(move |stream, head, _| {
        let reply = if head.starts_with("POST") {
            &post
        } else if head.starts_with("GET") {
            &get
        } else {
            &delete
        };
        send(stream, reply.as_bytes());
    })
}

fn note() -> String {
    let note = made().wanted.unwrap().note;
    format!(r#"{{"note":"{note}","api_tokens":[]}}"#)
}

#[test]
fn one_token_for_a_connection_and_it_is_taken_back() {
    let fake = hub(answer(201, "", NARROW), answer(200, "", &note()), answer(204, "", ""));
    let access = access(&fake, made());
    assert_eq!(access.server_token().unwrap().expose(), "m1nted");
    assert_eq!(access.server_token().unwrap().expose(), "m1nted");
    assert_eq!(access.hub_token().expose(), "typed");
    access.give_server_token_back(&mut Log::discarding());
    let tokens = "/base/hub/api/users/alice/tokens";
    assert_eq!(
        fake.lines(),
        [format!("POST {tokens}"), format!("GET {tokens}/a17"), format!("DELETE {tokens}/a17")]
    );
    assert!(
        fake.requests().iter().all(|head| head.to_ascii_lowercase().contains("authorization: token typed"))
    );
    access.give_server_token_back(&mut Log::discarding());
    assert_eq!(fake.lines().len(), 3, "once");
}

#[test]
fn a_hub_that_says_no_or_makes_more_than_was_asked() {
    for post in [
        answer(201, "", WIDE),
        hub_error(400, "", "token expires_in: 900 must not exceed 60"),
        answer(403, "", "<html>"),
        answer(404, "", "<html>"),
    ] {
        let (wide, asked) = (post.contains("m1nted"), 1 + usize::from(post.contains("must not exceed")));
        let fake = hub(post, answer(200, "", &note()), answer(204, "", ""));
        let access = access(&fake, made());
        assert_eq!(access.server_token().unwrap().expose(), "typed");
        assert_eq!(access.server_token().unwrap().expose(), "typed");
        let posts = fake.lines().iter().filter(|line| line.starts_with("POST")).count();
        let deletes = fake.lines().iter().filter(|line| line.starts_with("DELETE")).count();
        assert_eq!((posts, deletes), (asked, usize::from(wide)), "{:?}", fake.lines());
    }
}

#[test]
fn a_hub_in_trouble_is_no_reason_to_show_the_typed_token() {
    for post in [answer(502, "", "<html>"), answer(200, "", "<html>"), String::new()] {
        let fake = hub(post, answer(200, "", &note()), answer(204, "", ""));
        let access = access(&fake, made());
        for _ in 0..2 {
            let error = access.server_token().unwrap_err();
            assert!(error.is_passing() && error.for_user().lines().count() == 2, "{error}");
        }
        assert_eq!(fake.lines().iter().filter(|line| line.starts_with("POST")).count(), 2, "tried again");
        access.give_server_token_back(&mut Log::discarding());
        // What the hub may have made is looked for.
        assert_eq!(fake.lines().last().unwrap(), "GET /base/hub/api/users/alice/tokens");
        assert!(access.server_token().is_err());
    }
}

#[test]
fn a_token_is_made_anew_in_time_and_kept_where_that_fails() {
    let fake = hub(answer(201, "", NARROW), answer(200, "", &note()), answer(204, "", ""));
    let access = access(&fake, made());
    let state = |renew| {
        let current = Current::Made(Arc::new(Token::parse("older").unwrap()), renew);
        State { current, made: vec!["a16".to_owned()], lost: false, over: false }
    };
    let set = |token: &ServerToken, renew| *token.lock() = state(renew);
    let token = made();
    set(&token, Instant::now() + LIFETIME);
    assert_eq!(token.get(&access).unwrap().expose(), "older");
    set(&token, Instant::now());
    assert_eq!(token.get(&access).unwrap().expose(), "m1nted");
    assert_eq!(token.lock().made, ["a16", "a17"]);
    let no = Fake::saying(403, "", "<html>");
    let access = self::access(&no, made());
    set(&token, Instant::now());
    for _ in 0..2 {
        assert_eq!(token.get(&access).unwrap().expose(), "older", "never the typed one after it");
    }
    assert_eq!(no.lines().len(), 1, "the hub is not asked again at once");
}

#[test]
fn one_that_may_make_no_others_is_shown() {
    let fake = Fake::saying(500, "", "");
    let access = access(&fake, ServerToken::own_because("it may not"));
    assert_eq!(access.server_token().unwrap().expose(), "typed");
    access.give_server_token_back(&mut Log::discarding());
    assert!(fake.lines().is_empty());
}

#[test]
fn the_note_names_the_connection() {
    let wanted = made().wanted.unwrap();
    assert!(wanted.note.ends_with(" from 192.0.2.7, session 1a2b"), "{}", wanted.note);
    assert_eq!(wanted.scopes, ["access:servers!server=alice/", "users:activity!user=alice"]);
}
