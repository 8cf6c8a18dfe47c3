//! System calls behind safe functions. All unsafe code outside the PAM and NSS modules is here; each
//! `unsafe` states its contract.
//!
//! | module | concern |
//! |---|---|
//! | [`process`] | this process: hardening, giving up root, background, fork |
//! | [`identity`] | whom a thread acts for on files |
//! | [`capabilities`] | a thread's capabilities |
//! | [`namespace`], [`mount`] | new namespaces, and mounts by descriptor |
//! | [`seccomp`] | installing a filter of system calls |
//! | [`heap`], [`code`] | memory: what is not locked, what an idle process gives back |
//! | [`socket`] | unix sockets, with descriptors passed along |
//! | [`tty`] | the client's terminal: raw mode, size, modes |
//! | [`pidfd`], [`wait`] | processes by descriptor, and waiting for descriptors |
//! | [`freshness`], [`quota`] | file servers asked directly, and disk quotas |
//! | [`random`] | the kernel's random numbers |

mod capabilities;
mod code;
pub(crate) mod freshness;
pub mod heap;
pub mod identity;
pub mod mount;
pub mod namespace;
pub mod pidfd;
pub mod process;
pub(crate) mod quota;
pub mod random;
pub(crate) mod seccomp;
pub mod socket;
pub mod tty;
pub mod wait;
