pub mod process; // identity, hardening, daemonizing
pub mod socket; // SEQPACKET sockets, descriptors passed along
pub mod tty; // raw mode, window size
