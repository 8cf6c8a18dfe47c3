//! `pam_jupyterhub.so`: lets hub users log in to sshd with a token or a key.
//!
//! It asks for a token of the hub and starts the gateway, which verifies it; for a user whose key
//! sshd has checked, the gateway has the hub make one. When the session opens, the module starts
//! the jail and joins its namespaces.
//!
//! The module runs inside sshd's root processes, so it does as little as possible there: no HTTP,
//! no threads, no state. For other services than sshd and for accounts that aren't the hub's it
//! returns `PAM_IGNORE` before it asks or reads anything.
//!
//! From top to bottom, each file using only those below it:
//!
//! * [`entry`]: the C functions that libpam calls;
//! * [`hooks`]: the decisions, over two traits, so that tests can script both sides;
//! * [`client`]: libpam as a trait, [`system`]: the host as a trait, and the real ones;
//! * [`child`], [`token`]: running our programs, the token in an answer; what they are asked and
//!   answer is in [`wire`];
//! * [`sys`]: system calls.

pub mod client;
pub mod hooks;
pub mod system;
pub mod token;

mod child;
mod entry;
mod sys;
