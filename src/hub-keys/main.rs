//! /usr/lib/jupyterhub-openssh/hub-keys
fn main() {
    hub_keys::run()
}
