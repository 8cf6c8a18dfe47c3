//! sftp, scp and rsync: this process becomes the distribution's own program, in the jail and as the
//! user.

use super::expand::expand;
use super::gateway::{Broken, Gateway};
use super::{End, transfer};
use common::paths::LOG_SOCKET;
use host::environment::is_locale;
use host::sys::process;
use nix::sys::stat::{Mode, umask};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};
use wire::session::{FileTool, SessionReply, SessionRequest};

/// Variables that the programs get: where the client is (sftp-server logs it), who the user is, and
/// the locale.
///
/// Not HOME: rsync would read `~/.popt` before its arguments, and in that file its user can give
/// `--server` any meaning (popt(3), poptReadDefaultConfig). The home is the working directory, and
/// `~` is expanded already.
const ENVIRONMENT: [&str; 5] = ["SSH_CLIENT", "SSH_CONNECTION", "USER", "LOGNAME", "TZ"];

/// How much of a command is logged, in bytes.
const MAX_LOGGED: usize = 1024;

/// Asks the gateway, and becomes the program that serves `tool`; `command` is what the client has
/// asked for. Returns the gateway if this host does not have the files: then the user's server
/// serves them.
///
/// # Errors
/// How the channel ends instead; on success it does not return.
pub fn serve(gateway: Gateway, tool: FileTool, command: &[u8]) -> Result<Gateway, End> {
    let asked = String::from_utf8_lossy(command.get(..MAX_LOGGED).unwrap_or(command)).into_owned();
    let (configured, mask) = match gateway.request(&SessionRequest::Files { tool, command: asked })? {
        SessionReply::Serve { arguments, umask } => (arguments, umask),
        SessionReply::Elsewhere => return Ok(gateway),
        SessionReply::Exit { status, message } => return Err(End::Exit { status, message }),
        _ => return Err(Broken::GatewayLost.into()),
    };
    // Close it before all descriptors are closed below: nothing may own one then.
    drop(gateway);
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    // sshd has tried this, too, and goes on in / if it fails: files would then be written and
    // looked for in the wrong place.
    let home = home.filter(|home| env::set_current_dir(home).is_ok()).ok_or_else(|| {
        End::refused(
            "Your home directory cannot be entered: the file server may be gone, or the directory replaced.\n\
             Log in again; if that doesn't help, tell the administrator of this host.",
        )
    })?;
    let arguments = match tool {
        FileTool::Sftp => configured.into_iter().map(OsString::from).collect(),
        FileTool::Rsync | FileTool::Scp => transfer::arguments(tool, command)
            .and_then(|arguments| expand(arguments, &home, Path::new(".")))
            .map_err(|refusal| End::refused(refusal.to_string()))?,
    };
    Err(r#become(tool, arguments, mask))
}

/// The program's path in the distribution. It is never searched for.
fn program(tool: FileTool) -> &'static str {
    match tool {
        FileTool::Sftp => "/usr/lib/openssh/sftp-server",
        FileTool::Rsync => "/usr/bin/rsync",
        FileTool::Scp => "/usr/bin/scp",
    }
}

/// Makes the jail's log standard error, for sftp-server's `-e`.
///
/// It costs a write(2) for each line, where syslog(3) would open, connect and close a socket for
/// each. On a datagram socket each line stays a message of its own, whatever a file's name
/// contains. sshd discards what a subsystem writes to its own standard error.
fn log_as_standard_error() -> io::Result<Stdio> {
    let log = UnixDatagram::unbound()?;
    log.connect(LOG_SOCKET)?;
    Ok(OwnedFd::from(log).into())
}

/// Executes the program. Returns only if that fails.
fn r#become(tool: FileTool, mut arguments: Vec<OsString>, mask: u32) -> End {
    let program = program(tool);
    // This process has ruled out core files and new privileges at its start; both outlast the exec.
    umask(Mode::from_bits_truncate(mask & 0o777));
    // Ours are closed on exec; this closes what sshd may have left open.
    if let Err(e) = process::close_from(3) {
        return e.into();
    }
    let wanted = env::vars_os().filter(|(name, value)| {
        let text = name.to_str().zip(value.to_str());
        text.is_some_and(|(name, value)| ENVIRONMENT.contains(&name) || is_locale(name, value))
    });
    let mut command = Command::new(program);
    if let (FileTool::Sftp, Ok(log)) = (tool, log_as_standard_error()) {
        arguments.insert(0, "-e".into());
        command.stderr(log);
    }
    let failed = command.args(arguments).env_clear().envs(wanted).exec();
    let message = if failed.kind() == io::ErrorKind::NotFound {
        format!(
            "This host has no {program}, which serves these files.\n\
             Tell its administrator: a package is missing there, or the jail was built without it."
        )
    } else {
        format!(
            "{program} of this host cannot be run: {failed}.\n\
             Try it with fewer files at once; if that doesn't help, tell the administrator."
        )
    };
    End::Exit { status: super::BROKEN, message: Some(message) }
}
