//! Is /etc/jupyterhub-openssh/config.toml complete and right?

use crate::config::Config;
use accounts::paths::CONFIG_FILE;

/// Reads the configuration as every login does.
///
/// # Errors
/// What is wrong, where, and what to do about it, in two lines.
pub fn check() -> Result<String, String> {
    let config = Config::load().map_err(|e| format!("configuration: {e}"))?;
    let hub = config.hub_url().map_err(|e| format!("configuration: {e}"))?;
    Ok(format!("configuration: {CONFIG_FILE} is in order; the hub is {hub}"))
}
