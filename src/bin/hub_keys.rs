//! /usr/lib/jupyterhub-openssh/hub-keys
fn main() {
    jupyterhub_openssh::keys::remote::run()
}
