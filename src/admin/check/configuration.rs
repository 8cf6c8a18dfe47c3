//! Checks /etc/jupyterhub-openssh/config.toml: is it complete and right?

use super::Finding;
use common::paths::CONFIG_FILE;
use host::config::Config;
use host::rights::Rights;

const TOPIC: &str = "configuration";

/// Reads the configuration as each login does. Returns it with the findings; without it there is
/// little else to check.
pub fn check() -> (Option<Config>, Vec<Finding>) {
    // An error has two lines: what is wrong and where, and what to do.
    let broken = |error: common::ConfigError| {
        let text = error.to_string();
        let (what, remedy) = text.split_once('\n').unwrap_or((&text, "See jupyterhub-openssh.toml(5)."));
        Finding::error(TOPIC, what, remedy)
    };
    let mut findings = Vec::new();
    let rights = Rights::of_this_process();
    let config = Config::load();
    let unsuited = config.as_ref().ok().and_then(|config| rights.suit(config).err());
    // Where sshd runs without root, its own user knows as much as root.
    let ours = rights == Rights::Root || rights.own_sshd_config().is_some();
    if !ours {
        findings.push(Finding::unknown(
            TOPIC,
            "not run as root: much of what follows cannot be found out",
            "sudo jupyterhub-openssh check",
        ));
    }
    let config = match config {
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
    findings.extend(unsuited.filter(|_| ours).map(broken));
    (Some(config), findings)
}
