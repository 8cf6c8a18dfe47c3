//! The command line of the administrator's program.

use clap::{Parser, Subcommand};

/// SSH into any JupyterHub through the stock OpenSSH server.
#[derive(Parser)]
#[command(name = "jupyterhub-openssh", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read the configuration and say what is wrong with it.
    Check,
    /// Serve one SSH connection; the PAM module runs this as root, with the request on standard input.
    #[command(hide = true)]
    Gateway,
}

/// Runs the command that was asked for and returns the exit status.
#[must_use]
pub fn run() -> u8 {
    match Cli::parse().command {
        Command::Check => crate::check::run(),
        Command::Gateway => crate::gateway::run(),
    }
}
