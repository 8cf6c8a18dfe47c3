//! One process for one SSH connection, unprivileged: it holds the token, speaks with the hub and with the
//! user's server, and moves the bytes of every session of the connection.

pub mod claim;
pub mod handle;
pub mod output;
pub mod request;
