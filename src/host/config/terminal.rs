//! `[terminal]`: terminals of users' servers.

use common::ConfigError;
use common::error::excerpt;
use common::table::Document;

/// Terminals of users' servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// `mode`: what a login shell runs in.
    pub mode: TerminalMode,
    /// `exit_status`, for plain terminals: run the shell so that its exit status becomes that of ssh(1). Otherwise it
    /// is 0 whenever the terminal ended in good order.
    pub exit_status: bool,
}

/// What a login shell at a terminal runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalMode {
    /// A pseudo-terminal of the agent; where there can be no agent, a terminal of the Jupyter server.
    Auto,
    /// A terminal of the Jupyter server, always.
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
