//! This host: its configuration, log, homes, system calls, child processes and sandbox. No TLS.
//!
//! | module | concern |
//! |---|---|
//! | [`sys`] | system calls: the only unsafe code outside the PAM and NSS modules |
//! | [`config`] | `/etc/jupyterhub-openssh/config.toml` |
//! | [`log`] | the system log |
//! | [`rights`] | who our processes run as: root, or an ordinary user |
//! | [`child`] | child processes with a deadline |
//! | [`sandbox`] | seccomp, Landlock and limits |
//! | [`homes`] | opening and creating users' home directories |
//! | [`uids`] | the uids that connections use |
//! | [`confinement`] | whether sshd confines hub users, which sshd itself is asked |
//! | [`counters`] | what gateways count |
//! | [`environment`] | which variables of a client travel to the user's server |
//! | [`secret`] | tokens, wiped when dropped |

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
