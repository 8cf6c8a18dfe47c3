//! JupyterHub's REST API: who a token belongs to, and bringing that user's server up; and what the hub's service may do
//! for users who log in by key.
//!
//! | file | concern |
//! |---|---|
//! | [`model`] | what `GET /hub/api/user` says, and whether it lets the login in (pure) |
//! | [`scopes`] | which servers a list of scopes covers (pure) |
//! | [`progress`] | the event stream of a starting server (pure) |
//! | [`reply`] | what the hub's answer to "start the server" means (pure) |
//! | [`json`] | JSON objects, read strictly (pure) |
//! | [`text`] | foreign text made fit for a terminal or a log line (pure) |
//! | [`http`], [`error`] | one bounded HTTP call, and how it can fail |
//! | [`mod@verify`] | token → [`model::Verified`], within a deadline |
//! | [`mod@locate`] | where the user's server is |
//! | [`start`], [`follow`] | start the server and wait until it is ready |
//! | [`tokens`] | make a token for a user, and take it back |
//! | [`service_token`] | the token of the hub's service, which makes tokens for users |
//! | [`users`] | what the hub keeps for a user |
//!
//! The hub is trusted to say who a token belongs to, for nothing else: its answers are bounded in size and
//! time, its texts are cleaned before anybody sees them, and whatever is not understood never grants anything.

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
