//! What a session asks for, and what it gets: a pure decision.

/// What is to be done for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// An interactive terminal in the user's server.
    Shell,
    /// Nothing; the text tells the user why and what works instead.
    Refuse(&'static str),
}

const NO_COMMANDS: &str = "This bastion opens terminals only: commands are not available yet.\n\
    Log in without a command, for example: ssh alice@bastion";
const NO_FILES: &str = "This bastion opens terminals only: sftp and scp are not available yet.\n\
    Use the file browser of your Jupyter server to move files.";
const NO_TERMINAL: &str = "A shell needs a terminal here: your ssh client did not ask for one.\n\
    Log in with: ssh -t alice@bastion";

/// Decides from `SSH_ORIGINAL_COMMAND` (absent for a shell; sshd puts a subsystem's configured command line
/// there, see `ForceCommand` in `sshd_config(5)`) and whether the client asked for a terminal.
#[must_use]
pub fn route(command: Option<&[u8]>, terminal: bool) -> Route {
    match command {
        None if terminal => Route::Shell,
        None => Route::Refuse(NO_TERMINAL),
        Some(command) if is_file_transfer(command) => Route::Refuse(NO_FILES),
        Some(_) => Route::Refuse(NO_COMMANDS),
    }
}

/// The sftp subsystem as Debian or an administrator configures it, or the server side of `scp -O`.
fn is_file_transfer(command: &[u8]) -> bool {
    let first = command.split(|b| *b == b' ').next().unwrap_or_default();
    let base = first.rsplit(|b| *b == b'/').next().unwrap_or_default();
    matches!(base, b"sftp-server" | b"internal-sftp" | b"scp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_session_has_its_answer() {
        let table: &[(Option<&[u8]>, bool, Route)] = &[
            (None, true, Route::Shell),
            (None, false, Route::Refuse(NO_TERMINAL)),
            (Some(b"/usr/lib/openssh/sftp-server"), false, Route::Refuse(NO_FILES)),
            (Some(b"/usr/lib/openssh/sftp-server -f AUTH -l INFO"), false, Route::Refuse(NO_FILES)),
            (Some(b"internal-sftp"), false, Route::Refuse(NO_FILES)),
            (Some(b"scp -t ."), false, Route::Refuse(NO_FILES)),
            (Some(b"ls"), false, Route::Refuse(NO_COMMANDS)),
            (Some(b"htop"), true, Route::Refuse(NO_COMMANDS)),
            (Some(b""), true, Route::Refuse(NO_COMMANDS)),
            (Some(b"\xff\0\n; sftp-server"), true, Route::Refuse(NO_COMMANDS)),
        ];
        for (command, terminal, expected) in table {
            assert_eq!(&route(*command, *terminal), expected, "{command:?} {terminal}");
        }
    }
}
