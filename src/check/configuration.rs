//! Is /etc/jupyterhub-openssh/config.toml complete and right?

use super::Finding;
use crate::config::Config;
use accounts::paths::CONFIG_FILE;
use nix::unistd::geteuid;

const TOPIC: &str = "configuration";

/// Reads the configuration as every login does; without one there is little else to check.
pub fn check() -> (Option<Config>, Vec<Finding>) {
    // Two lines as everywhere: what is wrong and where, and what to do about it.
    let broken = |error: accounts::ConfigError| {
        let text = error.to_string();
        let (what, remedy) = text.split_once('\n').unwrap_or((&text, "See jupyterhub-openssh.toml(5)."));
        Finding::error(TOPIC, what, remedy)
    };
    let mut findings = Vec::new();
    if !geteuid().is_root() {
        findings.push(Finding::unknown(
            TOPIC,
            "not run as root: much of what follows cannot be found out",
            "sudo jupyterhub-openssh check",
        ));
    }
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => {
            findings.push(broken(error));
            return (None, findings);
        }
    };
    findings.push(match config.hub_url() {
        Ok(hub) => Finding::fine(TOPIC, format_args!("{CONFIG_FILE} is in order; the hub is {hub}")),
        Err(error) => broken(error),
    });
    (Some(config), findings)
}
