//! /usr/lib/jupyterhub-openssh/authorized-keys
fn main() {
    std::process::exit(jupyterhub_openssh::keys::authorized_keys::run().into());
}
