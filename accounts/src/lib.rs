//! Names, home templates and uid rules of hub users, and the constants that the modules share.
//!
//! Everything here is pure: no file, no network, no process state is touched. The NSS and PAM modules
//! run inside sshd and link only this crate, never the root package.

pub mod paths;
