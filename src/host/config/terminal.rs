//! `[terminal]`: how a login shell runs in the user's server.

use common::ConfigError;
use common::error::excerpt;
use common::table::Document;

/// How a login shell runs in the user's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// `mode`: the kind of terminal.
    pub mode: TerminalMode,
    /// `exit_status`: true if the shell's exit status in a plain terminal becomes that of ssh(1).
    /// Otherwise ssh's is 0 whenever the terminal ended normally.
    pub exit_status: bool,
}

/// The kind of terminal that a login shell gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalMode {
    /// A pseudo-terminal of the agent, or, if no agent can run there, a terminal of the Jupyter
    /// server.
    Auto,
    /// Always a terminal of the Jupyter server.
    Plain,
}

/// Reads `[terminal]`.
///
/// # Errors
/// A value is not allowed.
pub(super) fn read(document: &Document<'_>) -> Result<Terminal, ConfigError> {
    let table = document.table("terminal", &["mode", "exit_status"])?;
    let mode = match table.text("mode")?.unwrap_or("auto") {
        "auto" => TerminalMode::Auto,
        "plain" => TerminalMode::Plain,
        other => {
            return Err(table.refuse(
                "mode",
                format!("\"{}\" is not a mode of terminals", excerpt(other)),
                "Use \"auto\" or \"plain\".",
            ));
        }
    };
    Ok(Terminal { mode, exit_status: table.boolean("exit_status")?.unwrap_or(true) })
}
