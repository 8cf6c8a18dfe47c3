//! What a session asks for, and what it gets: a pure decision.

use super::transfer;
use crate::control::FileTool;

/// What is to be done for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// An interactive terminal in the user's server.
    Shell,
    /// One of the programs that serve files, in the jail.
    Files(FileTool),
    /// Nothing; the text tells the user why and what works instead.
    Refuse(&'static str),
}

const NO_COMMANDS: &str = "This bastion opens terminals and serves files: commands are not available yet.\n\
    Log in without a command, for example: ssh alice@bastion";
const NO_TERMINAL: &str = "A shell needs a terminal here: your ssh client did not ask for one.\n\
    Log in with: ssh -t alice@bastion";

/// Decides from `SSH_ORIGINAL_COMMAND` (absent for a shell; sshd puts a subsystem's configured command line
/// there, see `ForceCommand` in `sshd_config(5)`) and whether the client asked for a terminal.
///
/// Files are served with a terminal as well as without, as sshd itself does: `ssh -t -s alice@bastion sftp`.
#[must_use]
pub fn route(command: Option<&[u8]>, terminal: bool) -> Route {
    match command {
        None if terminal => Route::Shell,
        None => Route::Refuse(NO_TERMINAL),
        Some(command) if is_sftp(command) => Route::Files(FileTool::Sftp),
        Some(command) => transfer::tool(command).map_or(Route::Refuse(NO_COMMANDS), Route::Files),
    }
}

/// The sftp subsystem as Debian or an administrator configures it, with arguments or without: ours come from our own
/// configuration. `ssh alice@bastion /usr/lib/openssh/sftp-server` cannot be told from it, and is as good.
fn is_sftp(command: &[u8]) -> bool {
    let first = command.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    first == b"internal-sftp" || first.starts_with(b"/") && first.ends_with(b"/sftp-server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_session_has_its_answer() {
        const SFTP: Route = Route::Files(FileTool::Sftp);
        const NO: Route = Route::Refuse(NO_COMMANDS);
        let table: &[(Option<&[u8]>, bool, Route)] = &[
            (None, true, Route::Shell),
            (None, false, Route::Refuse(NO_TERMINAL)),
            (Some(b"/usr/lib/openssh/sftp-server"), false, SFTP),
            (Some(b"/usr/lib/openssh/sftp-server"), true, SFTP),
            (Some(b"/usr/lib/openssh/sftp-server -f AUTH -l INFO"), false, SFTP),
            (Some(b"/usr/lib/sftp-server"), false, SFTP),
            (Some(b"internal-sftp"), false, SFTP),
            (Some(b"internal-sftp -l VERBOSE -u 0077"), false, SFTP),
            (Some(b"internal-sftp; id"), false, NO),
            (Some(b"x/sftp-server"), false, NO),
            (Some(b"sftp-server"), false, NO),
            (Some(b"scp -t ."), false, Route::Files(FileTool::Scp)),
            (Some(b"rsync --server -e.LsfxCIvu . ."), true, Route::Files(FileTool::Rsync)),
            (Some(b"rsync"), false, Route::Files(FileTool::Rsync)),
            (Some(b"rsync-ssl"), false, NO),
            (Some(b"ls"), false, NO),
            (Some(b"htop"), true, NO),
            (Some(b""), true, NO),
            (Some(b"\xff\0\n; sftp-server"), true, NO),
        ];
        for (command, terminal, expected) in table {
            assert_eq!(&route(*command, *terminal), expected, "{command:?} {terminal}");
        }
    }
}
