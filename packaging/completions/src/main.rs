//! Writes the completions of `jupyterhub-openssh` for bash, zsh and fish.
//!
//! The only argument is the directory to write to. The package's build runs this program; the
//! package doesn't contain it.

use std::io;
use std::path::PathBuf;

use clap::Command;
use clap_complete::{Shell, generate_to};

const NAME: &str = "jupyterhub-openssh";

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "name the directory to write to"));
    };
    std::fs::create_dir_all(&directory)?;
    let mut command = shown(&admin::cli::command());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, NAME, &directory)?;
    }
    Ok(())
}

/// Returns the command as it is completed: without hidden subcommands and clap's own `help`.
///
/// The generators would offer hidden ones, and `help` is of no use next to `--help`.
fn shown(whole: &Command) -> Command {
    let mut command = Command::new(NAME).version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    if let Some(about) = whole.get_about() {
        command = command.about(about.clone());
    }
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set());
    command.args(whole.get_arguments().cloned()).subcommands(commands.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_not_offered() {
        let whole = admin::cli::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut made = Vec::new();
            clap_complete::generate(shell, &mut shown(&whole), NAME, &mut made);
            let made = String::from_utf8_lossy(&made);
            for command in whole.get_subcommands() {
                assert_eq!(
                    made.contains(command.get_name()),
                    !command.is_hide_set(),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
