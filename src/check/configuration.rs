//! Is /etc/jupyterhub-openssh/config.toml complete and right?

use super::Finding;
use crate::config::Config;
use accounts::paths::CONFIG_FILE;

const TOPIC: &str = "configuration";

/// Reads the configuration as every login does; without one there is nothing else to check. An error is what is
/// wrong, where, and what to do about it, in two lines as everywhere.
pub fn check() -> (Option<Config>, Vec<Finding>) {
    let broken = |error| Finding { text: format!("{TOPIC}: {error}"), broken: true };
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => return (None, vec![broken(error)]),
    };
    let finding = match config.hub_url() {
        Ok(hub) => Finding::fine(TOPIC, format_args!("{CONFIG_FILE} is in order; the hub is {hub}")),
        Err(error) => broken(error),
    };
    (Some(config), vec![finding])
}
