//! /usr/bin/jupyterhub-openssh
fn main() {
    std::process::exit(jupyterhub_openssh::cli::run().into());
}
