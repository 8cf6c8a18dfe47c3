//! /usr/lib/jupyterhub-openssh/jail
use jupyterhub_openssh::{confinement, jail};

fn main() {
    let status = match std::env::args().nth(1).as_deref() {
        None => jail::run(),
        // For the PAM module: will this login be confined?
        Some("--is-confined") => confinement::run(),
        // For the package: would anybody's be?
        Some("--would-confine") => confinement::package::run(),
        Some(_) => 64,
    };
    std::process::exit(status.into());
}
