//! Makes tokens for one connection, and revokes them: with the hub's service token for a user who
//! logs in by key, and with a user's own token for what the user's server may see.

use super::error::HttpError;
use super::http::{Call, Http, Reply};
use super::json;
use super::reply::hub_message;
use super::scopes::Target;
use super::text::{printable, unstopped};
use host::secret::Token;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longest id of a token, in bytes. The hub's own are a letter and a number.
const MAX_ID: usize = 64;
/// Most tokens of a user that are searched for one of ours. An answer of
/// [`MAX_BODY`](super::http::MAX_BODY) bytes holds fewer.
const MAX_TOKENS: usize = 10_000;
/// Longest `expires_at` that is repeated in a log line, in characters.
const MAX_TIME: usize = 40;

/// The properties of a token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// What the user reads beside the token on the hub's token page.
    pub note: String,
    /// Lifetime in seconds.
    pub expires_in: u64,
    /// Everything that the token may do.
    pub scopes: Vec<String>,
}

/// The scope that marks a server's token.
const ACTIVITY: &str = "users:activity!";

impl Wanted {
    /// Returns the same request for a user who may not report that a server is in use, as the hub's
    /// administrator may have decided (role `user`).
    fn without_activity(&self) -> Option<Self> {
        let mut less = self.clone();
        less.scopes.retain(|scope| !scope.starts_with(ACTIVITY));
        (less.scopes.len() < self.scopes.len()).then_some(less)
    }
}

/// A token that the hub has made.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: Token,
    /// The hub's id of the token, needed to revoke it.
    pub id: String,
    /// When it expires, in the hub's words; printable.
    pub expires_at: String,
    /// The hub says that the token is this user's and may do no more than was asked. Hubs before
    /// 3.0 know no scopes of tokens, and make one that may do everything that its user may.
    pub narrow: bool,
    /// [`super::model::Holder`] can tell it from the user's own tokens, so it cannot be used for a
    /// login here. False on hubs where users lack the scope `users:activity`.
    pub marked: bool,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MintError {
    /// The hub does not know the user, or the service may not make tokens for this user.
    NoSuchUser(String),
    /// The service's token is wrong, expired, or lacks the scope `tokens`.
    NotAllowed(String),
    /// The hub refuses to make such a token: its message.
    Rejected(String),
    /// The request brought no answer.
    NoAnswer(HttpError),
    /// Something in front of the hub, such as a proxy, blocks the request.
    Blocked(String),
    /// Any other answer: a hub or proxy in trouble, or not a hub.
    NotUnderstood(String),
}

/// The minimal scopes for a connection to one server ("" = default): to open and start it and, with
/// `groups`, to read the user's groups. The server sees this token; like the server's own it may
/// report that the server is in use, so it cannot be used for a login here.
#[must_use]
pub fn scopes(user: &str, server: &str, groups: bool) -> Vec<String> {
    let mut scopes = server_scopes(user, server);
    scopes.push(format!("servers!server={user}/{server}"));
    if groups {
        scopes.push(format!("read:users:groups!user={user}"));
    }
    scopes
}

/// The scopes of a server's own token, which the hub puts into the server's environment: to open
/// it, and to report that it is in use. A login recognises such a token by the latter
/// ([`Holder`](super::model::Holder)).
#[must_use]
pub fn server_scopes(user: &str, server: &str) -> Vec<String> {
    vec![format!("access:servers!server={user}/{server}"), format!("users:activity!user={user}")]
}

/// Makes the hub create a token for `user`, within `timeout` for everything. `service` is the token
/// that authorizes it: the service's, or another one of the user's.
///
/// # Errors
/// There is no token, and why. After [`MintError::NoAnswer`] the hub may have made one all the
/// same.
pub fn mint(
    http: &Http,
    service: &Token,
    user: &str,
    wanted: &Wanted,
    timeout: Duration,
) -> Result<Minted, MintError> {
    let until = Instant::now() + timeout;
    let body = serde_json::to_vec(wanted).map_err(|why| MintError::NotUnderstood(why.to_string()))?;
    let path = &["hub", "api", "users", user, "tokens"];
    let call = Call { method: Method::POST, path, body: Some(body), timeout };
    let reply = http.call(service, call).map_err(MintError::NoAnswer)?;
    let message = hub_message(&reply);
    match reply.status {
        200..=299 => read(reply, user, wanted),
        400 => match wanted.without_activity() {
            Some(less) => mint(http, service, user, &less, until.saturating_duration_since(Instant::now())),
            None => Err(MintError::Rejected(message.unwrap_or_default())),
        },
        // Hubs from 2 on treat an unknown user like one for whom the service may do nothing: 403.
        403 if message.is_some() && may_make_tokens(http, service, user, until) => {
            Err(MintError::NoSuchUser(message.unwrap_or_default()))
        }
        401 | 403 => Err(MintError::NotAllowed(message.unwrap_or_default())),
        404 if message.is_some() => Err(MintError::NoSuchUser(message.unwrap_or_default())),
        status => {
            let said = message.map(|message| format!(": {message}")).unwrap_or_default();
            let said = format!("status {status}{said}");
            let blocked = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
            Err(if blocked { MintError::Blocked(said) } else { MintError::NotUnderstood(said) })
        }
    }
}

/// True if the service's token is good and may make tokens for users like this one. The groups of
/// an unknown user aren't known, so any will do.
fn may_make_tokens(http: &Http, service: &Token, user: &str, until: Instant) -> bool {
    #[derive(Deserialize)]
    struct Model {
        scopes: Vec<String>,
    }
    let left = until.saturating_duration_since(Instant::now());
    let Ok(reply) = http.call(service, Call::get(&["hub", "api", "user"], left)) else { return false };
    let target = Target { user, server: "", groups: &[] };
    reply.status == 200
        && json::object::<Model>(&reply.body).is_ok_and(|model| {
            model
                .scopes
                .iter()
                .any(|scope| target.is_covered_by(scope, "tokens") || scope.starts_with("tokens!group="))
        })
}

fn read(reply: Reply, user: &str, wanted: &Wanted) -> Result<Minted, MintError> {
    #[derive(Deserialize)]
    struct Model {
        token: String,
        id: String,
        expires_at: Option<String>,
        user: Option<String>,
        scopes: Option<Vec<String>>,
    }
    let body = Zeroizing::new(reply.body);
    // The parser's own words could repeat the token.
    let bad = |what: &str| MintError::NotUnderstood(format!("status {}, but {what}", reply.status));
    let Model { token, id, expires_at, user: owner, scopes } =
        json::object(&body).map_err(|_| bad("no JSON object with a token and its id"))?;
    let token = Zeroizing::new(token);
    let token = Token::parse(&token).map_err(|_| bad("the token is none"))?;
    if !is_id(&id) {
        return Err(bad("the token's id is none"));
    }
    let narrow = owner.as_deref() == Some(user)
        && expires_at.is_some()
        && scopes.is_some_and(|scopes| scopes.iter().all(|scope| is_wanted(scope, user, &wanted.scopes)));
    let expires_at = printable(expires_at.as_deref().unwrap_or("an unknown time"), MAX_TIME);
    let marked = wanted.scopes.iter().any(|scope| scope.starts_with(ACTIVITY));
    Ok(Minted { token, id, expires_at, narrow, marked })
}

/// True if a scope is one of those wanted, or comes with them: the hub expands scopes, and lets
/// each token say whose it is.
fn is_wanted(scope: &str, user: &str, wanted: &[String]) -> bool {
    let Some((name, filter)) = scope.split_once('!') else { return false };
    let of_user = filter.strip_prefix("user=") == Some(user);
    match name {
        "read:users:name" | "read:users:groups" => of_user,
        "read:users:activity" => of_user && wanted.contains(&format!("users:activity!{filter}")),
        "read:servers" | "start:servers" | "stop:servers" | "delete:servers" => {
            wanted.contains(&format!("servers!{filter}"))
        }
        _ => wanted.iter().any(|wanted| wanted == scope),
    }
}

/// True if this can be part of a path and of a log line.
fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(plain)
}

/// Returns the id of the token of `user` with this note, which is unique to one token of ours; asks
/// within `timeout`. `None` if the hub has none.
///
/// # Errors
/// It could not be found out: why, for the log.
pub fn find(
    http: &Http,
    service: &Token,
    user: &str,
    note: &str,
    timeout: Duration,
) -> Result<Option<String>, String> {
    #[derive(Deserialize)]
    struct One {
        id: String,
        note: Option<String>,
    }
    #[derive(Deserialize)]
    struct Model {
        api_tokens: Vec<One>,
    }
    let path = &["hub", "api", "users", user, "tokens"];
    let Some(body) = unless_gone(http.call(service, Call::get(path, timeout)))? else {
        // A user who no longer exists has no tokens.
        return Ok(None);
    };
    let model: Model =
        json::object(&body).map_err(|_| "the hub's list of tokens was not understood".to_owned())?;
    let ours = model.api_tokens.into_iter().take(MAX_TOKENS).find(|one| one.note.as_deref() == Some(note));
    match ours {
        Some(one) if is_id(&one.id) => Ok(Some(one.id)),
        Some(_) => Err("the hub's list of tokens has one of ours without an id".to_owned()),
        None => Ok(None),
    }
}

/// Revokes the token of `user` that was made with this id and note, within `timeout`. A token that
/// is gone already counts as revoked.
///
/// Hubs on SQLite reuse the id of a deleted token for a new one. So the note, which must be unique
/// among all tokens, is checked first.
///
/// # Errors
/// The token may still exist: why, for the log.
pub fn revoke(
    http: &Http,
    service: &Token,
    user: &str,
    (id, note): (&str, &str),
    timeout: Duration,
) -> Result<Revoked, String> {
    #[derive(Deserialize)]
    struct Model {
        note: Option<String>,
    }
    let until = Instant::now() + timeout;
    let path = &["hub", "api", "users", user, "tokens", id];
    let Some(body) = unless_gone(http.call(service, Call::get(path, timeout)))? else {
        return Ok(Revoked::Gone);
    };
    let found: Model =
        json::object(&body).map_err(|_| "the hub's answer about the token was not understood".to_owned())?;
    if found.note.as_deref() != Some(note) {
        return Ok(Revoked::Another);
    }
    let left = until.saturating_duration_since(Instant::now());
    let call = Call { method: Method::DELETE, path, body: None, timeout: left };
    Ok(if unless_gone(http.call(service, call))?.is_some() { Revoked::Now } else { Revoked::Gone })
}

/// How a token came to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// The hub has revoked it now.
    Now,
    /// The hub no longer had a token with this id.
    Gone,
    /// The hub has a token with this id, but it is not ours.
    Another,
}

/// Returns the body of a good answer; `None` if the hub has no such token.
fn unless_gone(answer: Result<Reply, HttpError>) -> Result<Option<Vec<u8>>, String> {
    let reply = answer.map_err(|error| error.to_string())?;
    match (reply.status, hub_message(&reply)) {
        (200..=299, _) => Ok(Some(reply.body)),
        // A proxy's 404 says nothing about the token.
        (404, Some(_)) => Ok(None),
        (status, message) => {
            let said = message.map(|message| format!(": {}", unstopped(&message))).unwrap_or_default();
            Err(format!("the hub answered with status {status}{said}"))
        }
    }
}

impl MintError {
    /// True if the hub has decided against the user; false if it could not be asked.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NoSuchUser(_))
    }

    /// True if the hub may have made a token all the same: the request was sent, and the answer is
    /// unknown.
    #[must_use]
    pub fn may_have_made_one(&self) -> bool {
        match self {
            Self::NoAnswer(error) => error.may_have_arrived(),
            Self::NotUnderstood(_) | Self::Blocked(_) => true,
            Self::NoSuchUser(_) | Self::NotAllowed(_) | Self::Rejected(_) => false,
        }
    }

    /// True if another attempt would bring the same answer.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::NoSuchUser(_) | Self::NotAllowed(_) | Self::Rejected(_) | Self::Blocked(_) => true,
            Self::NoAnswer(_) | Self::NotUnderstood(_) => false,
        }
    }

    /// Two lines for the user: what happened, what to do.
    #[must_use]
    pub fn for_user(&self) -> String {
        match self {
            Self::NoSuchUser(_) => "The hub does not know this user (any more), or does not let this host log you in by key.\n\
                 Check the user name, or log in with a token: ssh -o PubkeyAuthentication=no …"
                .to_owned(),
            Self::NotAllowed(_) | Self::Rejected(_) => {
                "The hub does not let this host log you in by your key.\n\
                 Log in with a token (ssh -o PubkeyAuthentication=no …), and tell this host's administrator, whose log says why."
                    .to_owned()
            }
            Self::NoAnswer(error) => error.for_user(),
            Self::NotUnderstood(_) | Self::Blocked(_) => "The hub has a problem and cannot let you in.\n\
                 Try again in a minute; if that does not help, tell the administrator of this host."
                .to_owned(),
        }
    }

    /// One line for the log.
    #[must_use]
    pub fn for_log(&self) -> String {
        let because = |what: &str, message: &str| match unstopped(message) {
            "" => what.to_owned(),
            message => format!("{what}: {message}"),
        };
        match self {
            Self::NoSuchUser(message) => because(
                "the hub does not know this user, or the scopes of the service do not cover this one",
                message,
            ),
            Self::NotAllowed(message) => because(
                "the hub made no token: the service token is not valid, or lacks the scope tokens",
                message,
            ),
            Self::Rejected(message) => because("the hub made no token", message),
            Self::NoAnswer(error) => error.to_string(),
            Self::NotUnderstood(why) | Self::Blocked(why) => format!("the hub made no token: {why}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::fake::{Fake, answer, hub_error, send};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MADE: &str =
        r#"{"token":"m1nted","id":"a17","expires_at":"2026-11-23T00:00:00Z","kind":"api_token"}"#;

    fn wanted() -> Wanted {
        Wanted { note: "a note".to_owned(), expires_in: 300, scopes: scopes("alice", "", false) }
    }

    fn service() -> Token {
        Token::parse("s3rvice").unwrap()
    }

    fn minted(fake: &Fake) -> Result<Minted, MintError> {
        mint(&Http::new(&fake.base, None).unwrap(), &service(), "alice", &wanted(), SECOND)
    }

    fn revoked(fake: &Fake) -> Result<Revoked, String> {
        revoke(&Http::new(&fake.base, None).unwrap(), &service(), "al@x.org", ("a17", "a note"), SECOND)
    }

    #[test]
    fn as_little_as_possible() {
        let three = ["access:servers!server=alice/", "users:activity!user=alice", "servers!server=alice/"];
        assert_eq!(scopes("alice", "", false), three);
        assert_eq!(
            scopes("a@b", "gpu", true),
            [
                "access:servers!server=a@b/gpu",
                "users:activity!user=a@b",
                "servers!server=a@b/gpu",
                "read:users:groups!user=a@b"
            ]
        );
        let body = serde_json::to_string(&wanted()).unwrap();
        assert_eq!(
            body,
            r#"{"note":"a note","expires_in":300,"scopes":["access:servers!server=alice/","users:activity!user=alice","servers!server=alice/"]}"#
        );
    }

    #[test]
    fn a_token_is_made() {
        let fake = Fake::saying(201, "", MADE);
        let made = minted(&fake).unwrap();
        assert_eq!((made.token.expose(), made.id.as_str()), ("m1nted", "a17"));
        assert_eq!(made.expires_at, "2026-11-23T00:00:00Z");
        assert_eq!(fake.lines(), ["POST /base/hub/api/users/alice/tokens"]);
        let head = fake.requests().remove(0).to_ascii_lowercase();
        assert!(head.contains("\r\nauthorization: token s3rvice\r\n"), "{head}");
        assert!(!format!("{made:?}").contains("m1nted"));
        assert!(!made.narrow, "the hub has not said so");
    }

    /// Answers of hubs 6.1 and 2.3, and answers that no hub should give.
    #[test]
    fn a_token_that_may_do_more_than_was_asked_is_known() {
        const ACCESS: &str = "access:servers!server=alice/";
        const IDENTITY: [&str; 2] = ["read:users:name!user=alice", "read:users:groups!user=alice"];
        const ACTIVITY: [&str; 2] = ["users:activity!user=alice", "read:users:activity!user=alice"];
        let start =
            [ACCESS, "servers!server=alice/", "start:servers!server=alice/", "delete:servers!server=alice/"];
        let narrow = |wanted: Vec<String>, user: &str, scopes: &[&str]| {
            let model = serde_json::json!({"token": "m1nted", "id": "a17", "expires_at": "2026", "user": user,
                                           "scopes": scopes, "note": "a note", "roles": []});
            let body = model.to_string().into_bytes();
            let wanted = Wanted { note: "a note".to_owned(), expires_in: 300, scopes: wanted };
            let reply = Reply { status: 201, retry_after: None, body };
            read(reply, "alice", &wanted).unwrap().narrow
        };
        let own = || server_scopes("alice", "");
        for (wanted, scopes, expected) in [
            (own(), &[&[ACCESS][..], &IDENTITY, &ACTIVITY].concat()[..], true),
            (own(), &[ACCESS], true),
            (own(), &[], true),
            (scopes("alice", "", false), &[&start[..], &IDENTITY, &ACTIVITY].concat(), true),
            (own(), &start, false),
            (scopes("alice", "", false), &[ACCESS, "servers!user=alice"], false),
            (own(), &["access:servers!user=alice"], false),
            (own(), &["access:servers"], false),
            (own(), &["access:servers!server=alice/gpu"], false),
            (own(), &["read:users:name"], false),
            (own(), &["read:users:name!user=bob"], false),
            (own(), &[ACCESS, "tokens!user=alice"], false),
            (own(), &[ACCESS, "read:users!user=alice"], false),
            (own(), &[""], false),
        ] {
            assert_eq!(narrow(wanted, "alice", scopes), expected, "{scopes:?}");
        }
        assert!(!narrow(own(), "bob", &[ACCESS]));
        assert!(!minted(&Fake::saying(201, "", MADE)).unwrap().narrow, "a hub before 3.0 tells no scopes");
        assert_eq!(server_scopes("a@b", "gpu"), ["access:servers!server=a@b/gpu", "users:activity!user=a@b"]);
    }

    #[test]
    fn a_user_who_may_not_tell_activity_gets_a_token_all_the_same() {
        let no = hub_error(400, "", "not present in roles of owner");
        let fake = Fake::new(move |stream, _, number| {
            let made = answer(201, "", MADE);
            send(stream, if number == 0 { no.as_bytes() } else { made.as_bytes() });
        });
        assert_eq!(minted(&fake).unwrap().id, "a17");
        assert_eq!(fake.lines().len(), 2);
    }

    #[test]
    fn what_stays_as_it_is_is_told_from_what_passes() {
        for (status, is_final) in
            [(404, true), (405, true), (451, true), (408, false), (429, false), (502, false)]
        {
            let error = minted(&Fake::saying(status, "", "<html>")).unwrap_err();
            assert_eq!(error.is_final(), is_final, "{status}");
            assert!(error.may_have_made_one() && error.for_user().starts_with("The hub has a problem"));
        }
        assert!(minted(&Fake::new(|_, _, _| {})).is_err_and(|error| !error.is_final()));
    }

    #[test]
    fn what_is_no_token_never_gets_into_a_log() {
        for bad in [
            "",
            "null",
            "[\"m1nted\",\"a17\",null]",
            r#"{"token":"m1nted"}"#,
            r#"{"token":"m1nted","id":17}"#,
            r#"{"token":"m1nted","id":""}"#,
            r#"{"token":"m1nted","id":"../users"}"#,
            r#"{"token":"m1nted x","id":"a17"}"#,
            r#"{"id":"m1nted","token":["m1nted"]}"#,
        ] {
            let error = minted(&Fake::saying(200, "", bad)).unwrap_err();
            assert!(matches!(error, MintError::NotUnderstood(_)), "{bad}");
            assert!(!format!("{error:?}{}{}", error.for_log(), error.for_user()).contains("m1nted"), "{bad}");
        }
    }

    /// A hub that answers the mint with 403, and with this what it knows about the service.
    fn forbidding(service: &'static str) -> Fake {
        let no = hub_error(403, "", "Service alice not found or no permissions to generate tokens");
        Fake::new(move |stream, head, _| {
            let reply = if head.starts_with("GET") { answer(200, "", service) } else { no.clone() };
            send(stream, reply.as_bytes());
        })
    }

    #[test]
    fn an_unknown_user_is_told_from_a_service_that_may_not() {
        for (service, unknown) in [
            (r#"{"kind":"service","scopes":["tokens","read:users"]}"#, true),
            (r#"{"kind":"service","scopes":["tokens!group=students"]}"#, true),
            (r#"{"kind":"service","scopes":["tokens!user=alice"]}"#, true),
            (r#"{"kind":"service","scopes":["tokens!user=bob","read:tokens"]}"#, false),
            (r#"{"kind":"service","scopes":[]}"#, false),
            ("<html>", false),
        ] {
            let error = minted(&forbidding(service)).unwrap_err();
            assert_eq!(error.is_refusal(), unknown, "{service}: {error:?}");
            assert!(error.for_log().ends_with("no permissions to generate tokens"), "{}", error.for_log());
        }
        let old = hub_error(404, "", "No such user: alice");
        let fake = Fake::new(move |stream, _, _| send(stream, old.as_bytes()));
        assert!(minted(&fake).unwrap_err().is_refusal());
    }

    #[test]
    fn everything_else_is_an_outage() {
        let texts = |error: &MintError| {
            assert_eq!(error.for_user().lines().count(), 2);
            assert_eq!(error.for_log().lines().count(), 1);
            assert!(!error.is_refusal());
            error.for_log()
        };
        let too_long = hub_error(400, "", "token expires_in: 300 must not exceed\n60.");
        let fake = Fake::new(move |stream, _, _| send(stream, too_long.as_bytes()));
        assert_eq!(
            texts(&minted(&fake).unwrap_err()),
            "the hub made no token: token expires_in: 300 must not exceed 60"
        );
        for status in [404, 409, 429, 500, 502, 503] {
            let log = texts(&minted(&Fake::saying(status, "", "<html>")).unwrap_err());
            assert_eq!(log, format!("the hub made no token: status {status}"));
        }
        for status in [401, 403] {
            let log = texts(&minted(&Fake::saying(status, "", "")).unwrap_err());
            assert!(log.contains("lacks the scope tokens"), "{log}");
        }
        assert!(texts(&minted(&Fake::new(|_, _, _| {})).unwrap_err()).contains("broke"));
    }

    /// A hub that answers the two requests of a revocation.
    fn holding(get: String, delete: String) -> Fake {
        Fake::new(move |stream, head, _| {
            let reply = if head.starts_with("GET") { &get } else { &delete };
            send(stream, reply.as_bytes());
        })
    }

    #[test]
    fn a_token_is_taken_back() {
        const OURS: &str = r#"{"id":"a17","note":"a note","kind":"api_token"}"#;
        let gone = || hub_error(404, "", "No such token a17 for user alice");
        let fake = holding(answer(200, "", OURS), answer(204, "", ""));
        assert_eq!(revoked(&fake), Ok(Revoked::Now));
        let path = "/base/hub/api/users/al@x.org/tokens/a17";
        assert_eq!(fake.lines(), [format!("GET {path}"), format!("DELETE {path}")]);
        assert_eq!(revoked(&holding(gone(), answer(500, "", ""))), Ok(Revoked::Gone));
        assert_eq!(revoked(&holding(answer(200, "", OURS), gone())), Ok(Revoked::Gone));
        let why = |get, delete| revoked(&holding(get, delete)).unwrap_err();
        assert!(why(answer(200, "", "<html>"), gone()).contains("not understood"));
        for (status, body) in [(404, "<html>"), (503, "")] {
            assert!(why(answer(status, "", body), gone()).contains(&format!("status {status}")));
            assert!(why(answer(200, "", OURS), answer(status, "", body)).contains(&status.to_string()));
        }
        assert_eq!(
            why(answer(200, "", OURS), hub_error(403, "", "Action is not authorized.")),
            "the hub answered with status 403: Action is not authorized"
        );
    }

    #[test]
    fn a_token_whose_answer_was_lost_is_found_by_its_note() {
        let found = |status, body: &str| {
            let fake = Fake::saying(status, "", body);
            let found = find(&Http::new(&fake.base, None).unwrap(), &service(), "al@x.org", "a note", SECOND);
            assert_eq!(fake.lines(), ["GET /base/hub/api/users/al@x.org/tokens"]);
            found
        };
        let others = r#"{"id":"a1","note":null},{"id":"a2"},{"id":"a3","note":"a note of others"}"#;
        let list = |ours: &str| format!(r#"{{"api_tokens":[{others}{ours}],"oauth_tokens":[]}}"#);
        assert_eq!(found(200, &list(r#",{"id":"a17","note":"a note"}"#)), Ok(Some("a17".to_owned())));
        assert_eq!(found(200, &list("")), Ok(None));
        assert!(
            found(200, &list(r#",{"id":"../../x","note":"a note"}"#)).unwrap_err().contains("without an id")
        );
        for bad in ["", "[]", "<html>", r#"{"api_tokens":7}"#, r#"{"api_tokens":[{"note":"a note"}]}"#] {
            assert!(found(200, bad).unwrap_err().contains("not understood"), "{bad}");
        }
        assert!(found(503, "").unwrap_err().contains("status 503"));
        let gone = hub_error(404, "", "No such user: al@x.org");
        let fake = Fake::new(move |stream, _, _| send(stream, gone.as_bytes()));
        let none = find(&Http::new(&fake.base, None).unwrap(), &service(), "alice", "a note", SECOND);
        assert_eq!(none, Ok(None));
    }

    #[test]
    fn when_a_token_may_have_been_made_unheard() {
        let error = |fake: &Fake| minted(fake).unwrap_err();
        for fake in [Fake::saying(502, "", "<html>"), Fake::saying(201, "", "{"), Fake::new(|_, _, _| {})] {
            assert!(error(&fake).may_have_made_one());
        }
        for fake in [Fake::saying(401, "", ""), Fake::saying(400, "", "{}")] {
            assert!(!error(&fake).may_have_made_one());
        }
        let nobody = Http::new("http://127.0.0.1:1/", None).unwrap();
        let refused = mint(&nobody, &service(), "alice", &wanted(), SECOND).unwrap_err();
        assert!(!refused.may_have_made_one());
    }

    #[test]
    fn a_later_token_with_the_same_id_is_left_alone() {
        for other in [r#"{"id":"a17","note":"another"}"#, r#"{"id":"a17","note":null}"#, r#"{"id":"a17"}"#] {
            let fake = holding(answer(200, "", other), answer(204, "", ""));
            assert_eq!(revoked(&fake), Ok(Revoked::Another));
            assert_eq!(fake.lines().len(), 1, "{other}");
        }
    }
}
