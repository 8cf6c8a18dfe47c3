//! SSH into any JupyterHub through the stock OpenSSH server: the library behind the programs.

pub mod agent;
pub mod check;
pub mod child;
pub mod cli;
pub mod config;
pub mod confinement;
pub mod control;
pub mod environment;
pub mod gateway;
pub mod homes;
pub mod hub;
pub mod hub_url;
pub mod jail;
pub mod keys;
pub mod log;
pub mod metrics;
pub mod mux;
pub mod rights;
pub mod sandbox;
pub mod secret;
pub mod session;
pub mod status;
pub mod sys;
pub mod terminado;
