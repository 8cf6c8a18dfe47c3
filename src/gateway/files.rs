//! May this session run a program that serves files? Pure.
//!
//! That the token may reach the home is not asked here: there is no session without a login, and no login with a token
//! that cannot open this user's server. A token that cannot open the server cannot open the home either.
//! [`crate::hub::model::verify`] is where that stands, its tests and those of [`crate::hub::scopes`] hold it.

use crate::config::Files;
use crate::control::{FileTool, HomeFault, HomeState, SessionReply};

/// Status of a session that gets no files, as sftp(1) and scp(1) know it from other servers.
const REFUSED: u8 = 1;

/// How a tool is called in the log.
fn name(tool: FileTool) -> &'static str {
    match tool {
        FileTool::Sftp => "sftp",
        FileTool::Rsync => "rsync",
        FileTool::Scp => "scp",
    }
}

/// What the log says of a request. rsync and scp tell it nothing of what they do: their command line says which way
/// and which paths.
#[must_use]
pub fn request_line(channel: u64, tool: FileTool, command: &str) -> String {
    match tool {
        FileTool::Sftp => format!("channel={channel} sftp requested"),
        FileTool::Rsync | FileTool::Scp => {
            format!("channel={channel} {} requested: {command}", name(tool))
        }
    }
}

/// The answer to [`crate::control::SessionRequest::Files`].
#[must_use]
pub fn answer(tool: FileTool, home: &HomeState, files: &Files) -> SessionReply {
    let text = match home {
        HomeState::Unconfigured => UNCONFIGURED,
        // Before the fault of a home, which the tool would not have reached in any case.
        _ if tool != FileTool::Sftp && !files.rsync => SWITCHED_OFF,
        HomeState::Unavailable { fault, .. } => fault_text(*fault),
        HomeState::Mounted => {
            return SessionReply::Serve { arguments: arguments(tool, files), umask: files.umask };
        }
    };
    SessionReply::Exit { status: REFUSED, message: Some(text.to_owned()) }
}

/// What the configuration adds: for sftp-server(8) only.
fn arguments(tool: FileTool, files: &Files) -> Vec<String> {
    match tool {
        FileTool::Sftp => {
            let level = ["-l", files.log_level.as_str()].map(str::to_owned);
            level.into_iter().chain(files.sftp_options.iter().cloned()).collect()
        }
        FileTool::Rsync | FileTool::Scp => Vec::new(),
    }
}

const UNCONFIGURED: &str = "This bastion opens terminals only: sftp, scp and rsync have no files to serve here.\n\
    Use the file browser of your Jupyter server to move files.";
const SWITCHED_OFF: &str = "rsync and scp -O are switched off on this bastion.\n\
    Use sftp, or scp without -O; the administrator can set files.rsync = true.";

fn fault_text(fault: HomeFault) -> &'static str {
    match fault {
        HomeFault::Missing => {
            "You have no home directory on the file system of this bastion yet.\n\
             Start your Jupyter server once, which makes it, and log in again; if that doesn't help, tell the \
             administrator."
        }
        HomeFault::NoAnswer => {
            "Your home directory did not answer in time: its file server is down or overloaded.\n\
             Log in again in a few minutes; terminals work meanwhile."
        }
        HomeFault::NotTheirs => {
            "The directory in the place of your home does not belong to you.\n\
             Tell the administrator of this bastion; its log says more."
        }
        HomeFault::NotCreated => {
            "Your home directory is missing and could not be made.\n\
             Tell the administrator of this bastion; its log says why."
        }
        HomeFault::Failed => {
            "Your home directory cannot be reached from this bastion.\n\
             Log in again; if that doesn't help, tell the administrator: the log says why."
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    fn files(rsync: bool) -> Files {
        let sftp_options = vec!["-R".to_owned()];
        Files { umask: 0o027, log_level: LogLevel::Info, sftp_options, rsync }
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
        let exit = |text: &str| SessionReply::Exit { status: 1, message: Some(text.to_owned()) };
        let late = unavailable(HomeFault::NoAnswer);
        let no_answer = fault_text(HomeFault::NoAnswer);
        for (tool, home, rsync, expected) in [
            (Sftp, &HomeState::Mounted, false, serve(&["-l", "INFO", "-R"])),
            (Sftp, &HomeState::Mounted, true, serve(&["-l", "INFO", "-R"])),
            (Rsync, &HomeState::Mounted, true, serve(&[])),
            (Scp, &HomeState::Mounted, true, serve(&[])),
            (Rsync, &HomeState::Mounted, false, exit(SWITCHED_OFF)),
            (Scp, &HomeState::Mounted, false, exit(SWITCHED_OFF)),
            (Sftp, &HomeState::Unconfigured, true, exit(UNCONFIGURED)),
            (Rsync, &HomeState::Unconfigured, false, exit(UNCONFIGURED)),
            (Sftp, &late, false, exit(no_answer)),
            (Scp, &late, true, exit(no_answer)),
            (Scp, &late, false, exit(SWITCHED_OFF)),
        ] {
            assert_eq!(answer(tool, home, &files(rsync)), expected, "{tool:?} {home:?} {rsync}");
        }
    }

    #[test]
    fn every_refusal_has_two_lines_and_no_detail() {
        use HomeFault::{Failed, Missing, NoAnswer, NotCreated, NotTheirs};
        let mut seen = Vec::new();
        for fault in [Missing, NoAnswer, NotTheirs, NotCreated, Failed] {
            let SessionReply::Exit { status: 1, message: Some(text) } =
                answer(FileTool::Sftp, &unavailable(fault), &files(true))
            else {
                unreachable!()
            };
            assert!(!text.contains("detail"));
            seen.push(text);
        }
        seen.extend([UNCONFIGURED, SWITCHED_OFF].map(str::to_owned));
        assert!(seen.iter().all(|text| text.lines().count() == 2));
        seen.dedup();
        assert_eq!(seen.len(), 7);
    }
}
