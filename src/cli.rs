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
    /// Say what is wrong with the configuration, and with what it needs on this host.
    Check,
    /// Show the homes of hub users on this host: their owners, what they use and what they may use.
    Status {
        /// Only the homes of these users.
        #[arg(value_name = "USER")]
        users: Vec<String>,
    },
    /// Serve one SSH connection; the PAM module runs this as root, with the request on standard input.
    #[command(hide = true)]
    Gateway {
        /// The user has shown a key to sshd, and no token: the hub is asked for one.
        #[arg(long)]
        key: bool,
    },
}

/// Runs the command that was asked for and returns the exit status.
#[must_use]
pub fn run() -> u8 {
    match Cli::parse().command {
        Command::Check => crate::check::run(),
        Command::Status { users } => crate::status::run(&users),
        Command::Gateway { key: false } => crate::gateway::run(),
        Command::Gateway { key: true } => crate::gateway::run_for_key(),
    }
}
