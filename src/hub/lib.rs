//! JupyterHub's REST API: it tells who a token belongs to, starts a user's server, and lets the
//! hub's service make tokens for users who log in by key.
//!
//! The hub is trusted to say who a token belongs to, and for nothing else: its answers are limited
//! in size and time, its texts are cleaned before anybody sees them, and an answer that we don't
//! understand never grants anything.
//!
//! | module | concern |
//! |---|---|
//! | [`model`] | what `GET /hub/api/user` says, and whether it lets the user log in (pure) |
//! | [`scopes`] | which servers a list of scopes covers (pure) |
//! | [`progress`] | the event stream of a starting server (pure) |
//! | [`reply`] | what the hub's answer to "start the server" means (pure) |
//! | [`json`] | JSON objects, parsed strictly (pure) |
//! | [`text`] | foreign text made fit for a terminal or a log line (pure) |
//! | [`http`], [`error`] | one limited HTTP request, and how it can fail |
//! | [`mod@verify`] | token → [`model::Verified`], within a deadline |
//! | [`mod@locate`] | where the user's server is |
//! | [`start`], [`follow`] | starting the server and waiting until it is ready |
//! | [`tokens`] | making a token for a user, and revoking it |
//! | [`service_token`] | the token of the hub's service, which makes tokens for users |
//! | [`users`] | the auth_state that the hub keeps for a user |

pub mod error;
pub(crate) mod follow;
pub mod http;
pub mod json;
pub mod locate;
pub mod model;
pub mod progress;
pub(crate) mod reply;
pub(crate) mod scopes;
pub mod service_token;
pub mod start;
pub mod text;
pub mod tokens;
pub mod users;
pub mod verify;

#[cfg(any(test, feature = "testing"))]
pub mod fake;
