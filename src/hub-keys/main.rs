//! `/usr/lib/jupyterhub-openssh/hub-keys`: the program is in the library [`hub_keys`].
fn main() {
    hub_keys::run()
}
