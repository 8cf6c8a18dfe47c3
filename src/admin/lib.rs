//! The administrator's program, `jupyterhub-openssh`. Its page comes first in the documentation of
//! all crates, so it is also their map:
//!
//! | crate | what it is |
//! |---|---|
//! | [`admin`](crate) | `jupyterhub-openssh`: `check`, `status`, `disconnect`, `metrics`, `gateway` |
//! | [`gateway`] | the process of one SSH connection that talks to the hub and the user's server |
//! | [`authorized-keys`] | tells sshd whether a key is the user's |
//! | [`hub_keys`] | gets users' keys from the hub and from `keys.url` |
//! | [`jail`] | builds the namespaces and the file system of a connection |
//! | [`session`] | runs for each channel, as the user, in the jail |
//! | [`pam`] | the PAM module |
//! | [`nss`] | the NSS module |
//! | [`server`] | the user's server: terminals, streams, the agent |
//! | [`hub`] | JupyterHub's REST API, and the service's token |
//! | [`keys`] | authorized_keys(5): keys, their options, the files that list them |
//! | [`host`] | this host: configuration, log, homes, system calls, child processes, sandbox |
//! | [`wire`] | what our processes say to each other |
//! | [`common`] | names, homes, uids: what the PAM and NSS modules use too |
//!
//! `docs/architecture.md` tells how they work together, from the login to the end.
//!
//! The modules of this crate:
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | reads the command line and runs the sub-command |
//! | [`check`] | `check`: inspects this host and the hub, and says what to do about what is wrong |
//! | [`status`] | `status`, `disconnect`: live connections and homes |
//! | [`metrics`] | `metrics`: numbers for Prometheus |
//! | [`hub_url`] | `hub-url`: reads and sets the hub's address, for the package's questions |
//!
//! [`authorized-keys`]: ../jupyterhub_openssh_authorized_keys/index.html
//! [`jail`]: ../jupyterhub_openssh_jail/index.html
//! [`session`]: ../jupyterhub_openssh_session/index.html
//! [`pam`]: ../pam_jupyterhub/index.html
//! [`nss`]: ../nss_jupyterhub/index.html

mod check;
pub mod cli;
mod hub_url;
mod metrics;
mod status;
