mod capabilities; // what root may do
mod code; // the program's own pages
pub(crate) mod freshness; // a file server's own word
pub mod heap; // what is large is not locked
pub mod identity; // whom a thread acts for on files
pub mod mount; // mounts by descriptor
pub mod namespace; // leaving the host's namespaces
pub mod pidfd; // processes by descriptor
pub mod process; // identity, hardening, daemonizing
pub(crate) mod quota; // disk quotas by descriptor
pub mod random; // the kernel's random numbers
pub(crate) mod seccomp; // filters of system calls
pub mod socket; // SEQPACKET sockets, descriptors passed along
pub mod tty; // raw mode, window size
pub mod wait; // poll, for a limited time
