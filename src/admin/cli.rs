//! Parses the command line of `jupyterhub-openssh` and runs the sub-command.
//!
//! The comments on commands and options are their help texts.

use crate::hub_url::Request;
use crate::status::Show;
use clap::{CommandFactory, Parser, Subcommand};
use wire::By;

/// SSH into any JupyterHub through the stock OpenSSH server.
#[derive(Parser)]
#[command(name = "jupyterhub-openssh", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is wrong with the configuration, with this host, and with the way to the hub, and
    /// how to mend it.
    Check {
        /// Follow the login of this user through every part; asks for a token to try, empty for
        /// none.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Show live sessions, and the homes of hub users on this host: their owners, what they use and
    /// what they may use.
    Status {
        /// Only the homes of these users, and no sessions.
        #[arg(value_name = "USER", conflicts_with_all = ["sessions", "json", "watch"])]
        users: Vec<String>,
        /// Only the sessions.
        #[arg(long)]
        sessions: bool,
        /// The sessions as JSON.
        #[arg(long)]
        json: bool,
        /// The sessions, drawn anew every two seconds until Ctrl-C.
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// End a live session; its user is told so.
    Disconnect {
        /// Its name, as `status` and the log have it.
        #[arg(required_unless_present = "all")]
        session: Option<String>,
        /// End all sessions.
        #[arg(long, conflicts_with = "session")]
        all: bool,
    },
    /// Print what was counted, in Prometheus' text format.
    Metrics {
        /// Write it to metrics.textfile of the configuration instead; nothing if that is not set.
        #[arg(long)]
        textfile: bool,
    },
    /// Serve one SSH connection; the PAM module runs this as root, with the request on standard
    /// input.
    #[command(hide = true)]
    Gateway {
        /// The user has shown a key to sshd, and no token: the hub is asked for one.
        #[arg(long)]
        key: bool,
        /// The name of the login in the log.
        #[arg(long)]
        session: Option<String>,
    },
    /// Print the hub's address, for the question that the package asks at its installation.
    #[command(hide = true)]
    HubUrl {
        /// Say whether this can be the address of a hub, instead.
        #[arg(long = "try", value_name = "URL", conflicts_with = "set")]
        tried: Option<String>,
        /// Write this address into the configuration, instead.
        #[arg(long, value_name = "URL")]
        set: Option<String>,
    },
}

/// The clap command, for the completions and the test of the manual page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the sub-command that the command line names, and returns the exit status.
#[must_use]
pub fn run() -> u8 {
    match Cli::parse().command {
        Command::Check { user, json } => crate::check::run(user.as_deref(), json),
        Command::Status { users, sessions, json, watch } => {
            let show = match (sessions, json, watch) {
                (_, true, _) => Show::Json,
                (_, _, true) => Show::Watch,
                (true, ..) => Show::Sessions,
                (false, ..) => Show::Everything,
            };
            crate::status::run(show, &users)
        }
        Command::Disconnect { session, all: _ } => crate::status::disconnect(session.as_deref()),
        Command::Metrics { textfile } => crate::metrics::run(textfile),
        Command::Gateway { key, session } => {
            let by = if key { By::Key } else { By::Token };
            gateway::run(by, session.as_deref())
        }
        Command::HubUrl { tried, set } => crate::hub_url::run(&match (&tried, &set) {
            (Some(url), _) => Request::Try(url),
            (None, Some(url)) => Request::Set(url),
            (None, None) => Request::Show,
        }),
    }
}
