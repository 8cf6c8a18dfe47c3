//! Asks the hub where a user's server is: at a path on the hub's own host, or at an address on the
//! user's own host (`subdomain_host`).
//!
//! Every JupyterHub names it as a server's `url`, once the server is active. A token that may not
//! read servers learns it from the hub's redirect to the server.
//! Neither is trusted as it is: see [`common::HubUrl::at_host_of`].

use super::error::{Fault, HttpError};
use super::http::{Call, Http};
use super::model::{self, ServerState};
use host::secret::Token;
use std::time::Duration;

/// Asks the hub for the server's address; `server` is empty for the default server. `None` if the
/// hub doesn't say, because the server is not active.
#[must_use]
pub fn locate(http: &Http, token: &Token, user: &str, server: &str, timeout: Duration) -> Option<String> {
    let reply = http.call(token, Call::get(&["hub", "api", "user"], timeout)).ok()?;
    let verified = model::verify(&reply.body, user, server).ok().filter(|_| reply.status == 200)?;
    if verified.address.is_some() || verified.state != ServerState::Unknown {
        return verified.address;
    }
    let mut path = vec!["hub", "user", user];
    path.extend((!server.is_empty()).then_some(server));
    path.push("api");
    match http.call(token, Call::get(&path, timeout)) {
        Err(HttpError { fault: Fault::Redirect { target, .. }, .. }) => {
            to_server(&target, http.base().path())
        }
        _ => None,
    }
}

/// Returns a redirect's target if it is a server and not a page of the hub. `base` is the hub's
/// path, with its slash.
fn to_server(target: &str, base: &str) -> Option<String> {
    let (_, rest) = target.split_once("://")?;
    let path = rest.get(rest.find('/')?..)?;
    path.strip_prefix(base)?.starts_with("user/").then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fake::{Fake, answer, send};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn model(scopes: &str, servers: &str) -> String {
        format!(r#"{{"kind":"user","name":"alice","scopes":[{scopes}]{servers}}}"#)
    }

    /// Returns the address found, and the requests made for it.
    fn found(model: &str, location: &str) -> (Option<String>, Vec<String>) {
        let model = answer(200, "", model);
        let moved = answer(302, &format!("Location: {location}\r\n"), "");
        let fake = Fake::new(move |stream, head, _| {
            send(stream, if head.contains("/api/user ") { &model } else { &moved }.as_bytes());
        });
        let http = Http::new(&fake.base, None).unwrap();
        let found = locate(&http, &Token::parse("s3cret").unwrap(), "alice", "gpu", SECOND);
        (found, fake.lines())
    }

    #[test]
    fn the_model_says_it_to_whoever_may_read_servers() {
        let all = r#""access:servers!user=alice","read:servers!user=alice""#;
        let (gpu, other) = ("http://alice.hub/user/alice/gpu/", "http://alice.hub/user/alice/");
        let servers = format!(r#","servers":{{"":{{"url":"{other}"}},"gpu":{{"url":"{gpu}"}}}}"#);
        assert_eq!(found(&model(all, &servers), "").0.unwrap(), gpu);
        let servers = format!(r#","servers":{{"":{{"url":"{other}","ready":true}}}}"#);
        assert_eq!(found(&model(all, &servers), "").0.unwrap(), other, "the same host");
        let stopped = found(&model(all, r#","servers":{}"#), "http://alice.hub/base/user/alice/gpu/api");
        assert_eq!(stopped, (None, vec!["GET /base/hub/api/user".to_owned()]), "no other question");
    }

    #[test]
    fn a_redirect_says_it_to_others() {
        let narrow = model(r#""access:servers!user=alice""#, "");
        let (address, asked) = found(&narrow, "http://alice.hub:8000/base/user/alice/gpu/api?redirects=1");
        assert_eq!(address.unwrap(), "http://alice.hub:8000/base/user/alice/gpu/api");
        assert_eq!(asked[1..], ["GET /base/hub/user/alice/gpu/api"]);
        for page in ["/base/hub/login", "/base/hub/spawn-pending/alice", "http://x/user/alice/", "http://x"] {
            assert_eq!(found(&narrow, page).0, None, "{page}");
        }
    }
}
