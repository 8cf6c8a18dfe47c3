//! pam_jupyterhub.so: asks for a hub token, starts the gateway that verifies it, or that gets one for a user whose key sshd
//! has checked, and joins the jail.
//!
//! The module runs inside sshd's root processes, so it does as little as possible there: it never speaks
//! HTTP, starts no thread and holds no state. For every other service than sshd and every account that
//! isn't the hub's it returns `PAM_IGNORE` before it asks or reads anything.
//!
//! [`hooks`] has the decisions, over two traits: [`client`] is libpam's side, [`system`] the host's.

pub mod client;
pub mod hooks;
pub mod reply;
pub mod system;
pub mod token;

mod child;
mod ffi;
