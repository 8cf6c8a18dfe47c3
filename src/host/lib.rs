//! What all our programs need of this host: its configuration, log, homes, system calls, child
//! processes and sandbox. It links no TLS and knows nothing of the hub's API.
//!
//! | module | concern |
//! |---|---|
//! | [`sys`] | system calls: the only unsafe code outside the PAM and NSS modules |
//! | [`config`] | `/etc/jupyterhub-openssh/config.toml` |
//! | [`log`] | the system log |
//! | [`rights`] | what our processes may do: root's rights, or an ordinary user's |
//! | [`child`] | child processes with a deadline |
//! | [`sandbox`] | seccomp, Landlock and limits |
//! | [`homes`] | opening and creating users' home directories |
//! | [`uids`] | which user a uid belongs to |
//! | [`confinement`] | asks sshd itself whether it confines hub users |
//! | [`counters`] | the numbers that gateways count, for `metrics` |
//! | [`environment`] | which of a client's variables are passed to the user's server |
//! | [`secret`] | tokens, wiped when dropped |

// The maps of modules are for `cargo doc --document-private-items`: some modules are private.
#![allow(rustdoc::private_intra_doc_links)]

pub mod child;
pub mod config;
pub mod confinement;
pub mod counters;
pub mod environment;
pub mod homes;
pub mod log;
pub mod rights;
pub mod sandbox;
pub mod secret;
pub mod sys;
pub mod uids;
