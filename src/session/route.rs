//! What a channel asks for, and who serves it. Pure.

use super::transfer;
use wire::session::FileTool;

/// What a channel gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A login shell in the user's server.
    Shell,
    /// A command in the user's server.
    Exec,
    /// Files: the gateway knows whether a program in the jail or the user's server serves them.
    Files(FileTool),
}

/// Decides by `SSH_ORIGINAL_COMMAND`.
///
/// It is absent for a shell; for a subsystem sshd puts the configured command line there
/// (`ForceCommand` in sshd_config(5)). Whether the client has asked for a terminal makes no
/// difference, as with sshd itself: `ssh -t -s alice@bastion sftp`.
#[must_use]
pub fn route(command: Option<&[u8]>) -> Route {
    match command {
        None => Route::Shell,
        Some(command) if is_sftp(command) => Route::Files(FileTool::Sftp),
        Some(command) => transfer::tool(command).map_or(Route::Exec, Route::Files),
    }
}

/// True for the sftp subsystem as Debian or an administrator configures it, with or without
/// arguments: we use those of our own configuration. `ssh alice@bastion
/// /usr/lib/openssh/sftp-server` looks the same, and is served the same.
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
        let table: &[(Option<&[u8]>, Route)] = &[
            (None, Route::Shell),
            (Some(b"/usr/lib/openssh/sftp-server"), SFTP),
            (Some(b"/usr/lib/openssh/sftp-server -f AUTH -l INFO"), SFTP),
            (Some(b"/usr/lib/sftp-server"), SFTP),
            (Some(b"internal-sftp"), SFTP),
            (Some(b"internal-sftp -l VERBOSE -u 0077"), SFTP),
            (Some(b"internal-sftp; id"), Route::Exec),
            (Some(b"x/sftp-server"), Route::Exec),
            (Some(b"sftp-server"), Route::Exec),
            (Some(b"scp -t ."), Route::Files(FileTool::Scp)),
            (Some(b"scp -r -f 'a b'"), Route::Files(FileTool::Scp)),
            (Some(b"scp a b"), Route::Exec),
            (Some(b"rsync --server -e.LsfxCIvu . ."), Route::Files(FileTool::Rsync)),
            (Some(b"rsync"), Route::Exec),
            (Some(b"rsync -a here there"), Route::Exec),
            (Some(b"rsync-ssl --server"), Route::Exec),
            (Some(b"ls"), Route::Exec),
            (Some(b"git-upload-pack 'repo'"), Route::Exec),
            (Some(b""), Route::Exec),
            (Some(b"\xff\n; sftp-server"), Route::Exec),
        ];
        for (command, expected) in table {
            assert_eq!(&route(*command), expected, "{command:?}");
        }
    }
}
