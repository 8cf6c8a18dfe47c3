//! Decides who serves files to a channel: a program in the jail, or the user's server. Pure.
//!
//! Whether the token may reach the home is not checked here. A connection needs a login, and no
//! login succeeds with a token that cannot open this user's server: `verify` in [`hub::model`] sees
//! to that, and its tests and those of `hub::scopes` prove it.

use host::config::{Backend, Files};
use wire::claim::{HomeFault, HomeState};
use wire::session::{FileTool, SessionReply};

/// Exit status of a channel that gets no files, as other servers give it to sftp(1) and scp(1).
const REFUSED: u8 = 1;

/// A tool's name in the log.
#[must_use]
pub fn name(tool: FileTool) -> &'static str {
    match tool {
        FileTool::Sftp => "sftp",
        FileTool::Rsync => "rsync",
        FileTool::Scp => "scp",
    }
}

/// The answer to [`wire::session::SessionRequest::Files`].
#[must_use]
pub fn answer(tool: FileTool, home: &HomeState, files: &Files) -> SessionReply {
    if files.backend == Backend::Server || tool != FileTool::Sftp && !files.rsync {
        return SessionReply::Elsewhere;
    }
    match home {
        // The configuration was changed during the connection.
        HomeState::Unconfigured => SessionReply::Elsewhere,
        // Never serve another directory in place of the home. It might be empty, and a client that
        // synchronises with it would delete its own files.
        HomeState::Unavailable { fault, .. } => {
            SessionReply::Exit { status: REFUSED, message: Some(fault_text(*fault).to_owned()) }
        }
        HomeState::Mounted => SessionReply::Serve { arguments: arguments(tool, files), umask: files.umask },
    }
}

/// The arguments that the configuration adds, for sftp-server(8) only.
fn arguments(tool: FileTool, files: &Files) -> Vec<String> {
    match tool {
        FileTool::Sftp => {
            let level = ["-l", files.log_level.as_str()].map(str::to_owned);
            level.into_iter().chain(files.sftp_options.iter().cloned()).collect()
        }
        FileTool::Rsync | FileTool::Scp => Vec::new(),
    }
}

fn fault_text(fault: HomeFault) -> &'static str {
    match fault {
        HomeFault::Missing => {
            "You have no home directory on the file system of this host yet.\n\
             Start your Jupyter server once, which makes it, and log in again; if that doesn't help, tell the \
             administrator."
        }
        HomeFault::NoAnswer => {
            "Your home directory did not answer in time: its file server is down or overloaded.\n\
             Log in again in a few minutes; terminals and commands work meanwhile."
        }
        HomeFault::NotTheirs => {
            "The directory in the place of your home does not belong to you.\n\
             Tell the administrator of this host; its log says more."
        }
        HomeFault::NotCreated => {
            "Your home directory is missing and could not be made.\n\
             Tell the administrator of this host; its log says why."
        }
        HomeFault::Failed => {
            "Your home directory cannot be reached from this host.\n\
             Log in again; if that doesn't help, tell the administrator: the log says why."
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::config::LogLevel;

    fn files(backend: Backend, rsync: bool) -> Files {
        let sftp_options = vec!["-R".to_owned()];
        Files { backend, umask: 0o027, log_level: LogLevel::Info, sftp_options, rsync }
    }

    fn unavailable(fault: HomeFault) -> HomeState {
        HomeState::Unavailable { fault, detail: "secret detail".to_owned() }
    }

    #[test]
    fn every_case_has_its_answer() {
        use FileTool::{Rsync, Scp, Sftp};
        let serve = |arguments: &[&str]| SessionReply::Serve {
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            umask: 0o027,
        };
        let no_answer =
            || SessionReply::Exit { status: 1, message: Some(fault_text(HomeFault::NoAnswer).to_owned()) };
        let elsewhere = || SessionReply::Elsewhere;
        let late = unavailable(HomeFault::NoAnswer);
        for (tool, home, rsync, expected) in [
            (Sftp, &HomeState::Mounted, false, serve(&["-l", "INFO", "-R"])),
            (Sftp, &HomeState::Mounted, true, serve(&["-l", "INFO", "-R"])),
            (Rsync, &HomeState::Mounted, true, serve(&[])),
            (Scp, &HomeState::Mounted, true, serve(&[])),
            (Rsync, &HomeState::Mounted, false, elsewhere()),
            (Scp, &HomeState::Mounted, false, elsewhere()),
            (Sftp, &HomeState::Unconfigured, true, elsewhere()),
            (Rsync, &HomeState::Unconfigured, true, elsewhere()),
            (Rsync, &HomeState::Unconfigured, false, elsewhere()),
            (Sftp, &late, false, no_answer()),
            (Rsync, &late, true, no_answer()),
            (Scp, &late, true, no_answer()),
            (Scp, &late, false, elsewhere()),
        ] {
            assert_eq!(
                answer(tool, home, &files(Backend::Homes, rsync)),
                expected,
                "{tool:?} {home:?} {rsync}"
            );
            assert_eq!(
                answer(tool, home, &files(Backend::Server, rsync)),
                elsewhere(),
                "{tool:?} {home:?} {rsync}"
            );
        }
    }

    #[test]
    fn every_refusal_has_two_lines_and_no_detail() {
        use HomeFault::{Failed, Missing, NoAnswer, NotCreated, NotTheirs};
        let mut seen = Vec::new();
        for fault in [Missing, NoAnswer, NotTheirs, NotCreated, Failed] {
            let SessionReply::Exit { status: 1, message: Some(text) } =
                answer(FileTool::Sftp, &unavailable(fault), &files(Backend::Homes, true))
            else {
                unreachable!()
            };
            assert!(!text.contains("detail"));
            seen.push(text);
        }
        assert!(seen.iter().all(|text| text.lines().count() == 2));
        seen.dedup();
        assert_eq!(seen.len(), 5);
    }
}
