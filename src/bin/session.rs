//! /usr/lib/jupyterhub-openssh/session
fn main() {
    std::process::exit(jupyterhub_openssh::session::run().into());
}
