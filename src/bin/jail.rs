//! /usr/lib/jupyterhub-openssh/jail
fn main() {
    std::process::exit(jupyterhub_openssh::jail::run().into());
}
