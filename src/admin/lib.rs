//! The administrator's program, `jupyterhub-openssh`.

mod check;
pub mod cli;
mod hub_url;
mod metrics;
mod status;
