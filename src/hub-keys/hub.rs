//! Asks the source `hub`: a field of the user's auth_state at the hub.

use super::lines::{self, Found};
use common::UserName;
use host::config::Config;
use hub::http::Http;
use hub::service_token;
use hub::users::auth_state_texts;
use std::time::Duration;

/// Names who answers, and where in the answer the keys are.
pub fn origin(config: &Config, user: &UserName) -> Result<String, String> {
    let hub = config.hub_url().map_err(|why| why.one_line())?;
    Ok(format!("{}/users/{} auth_state.{}", hub.api(), user.path_segment(), config.keys.hub_field))
}

/// Asks the hub for the user's keys, within `timeout`.
///
/// # Errors
/// The hub didn't say which keys the user has: why, for the log.
pub fn fetch_keys(config: &Config, user: &UserName, timeout: Duration) -> Result<Found, String> {
    let hub = config.hub_url().map_err(|why| why.one_line())?;
    let file = config.keys.service_token_file.as_deref().ok_or("keys.service_token_file is not set")?;
    let token = service_token::read(file).map_err(|why| why.one_line())?;
    let http = Http::new(&format!("{}/", hub.base()), config.hub().ca_file.as_deref())
        .map_err(|why| why.to_string())?;
    let texts = auth_state_texts(&http, &token, user, &config.keys.hub_field, timeout)
        .map_err(|why| why.to_string())?;
    Ok(lines::read(texts.join("\n").as_bytes()))
}
