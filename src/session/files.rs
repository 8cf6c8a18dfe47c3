//! sftp, scp and rsync: this process becomes the distribution's own program, in the jail and as the user.

use super::client::{self, Broken};
use super::expand::expand;
use super::transfer;
use crate::control::{FileTool, SessionReply, SessionRequest};
use crate::sys::process;
use nix::sys::stat::{Mode, umask};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// Variables that the programs get: where the client is (sftp-server logs it), who and where the user is, the locale.
const ENVIRONMENT: [&str; 7] = ["SSH_CLIENT", "SSH_CONNECTION", "HOME", "USER", "LOGNAME", "LANG", "TZ"];

/// Why files are not served.
pub enum Unserved {
    /// The session is over: the status, and what the user is told.
    Refused(u8, String),
    /// It broke.
    Broken(Broken),
}

impl From<Broken> for Unserved {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<io::Error> for Unserved {
    fn from(e: io::Error) -> Self {
        Self::Broken(e.into())
    }
}

/// Asks the gateway, and becomes the program that serves `tool`. `command` is what the client has asked for.
///
/// # Errors
/// [`Unserved`]; on success it does not return.
pub fn serve(tool: FileTool, command: &[u8]) -> Result<Infallible, Unserved> {
    let refused = |message: String| Unserved::Refused(super::REFUSED, message);
    let (configured, mask) = match client::ask(&SessionRequest::Files { tool })? {
        SessionReply::Serve { arguments, umask } => (arguments, umask),
        SessionReply::Exit { status, message } => {
            return Err(Unserved::Refused(status, message.unwrap_or_default()));
        }
        SessionReply::Progress { .. } | SessionReply::Attach => return Err(Broken::GatewayLost.into()),
    };
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    // sshd has tried this as well, and goes on in / when it fails: files would end up, or be looked for, elsewhere.
    let home = home.filter(|home| env::set_current_dir(home).is_ok()).ok_or_else(|| {
        refused(
            "Your home directory cannot be entered: the file server may be gone, or the directory replaced.\n\
             Log in again; if that doesn't help, tell the administrator of this bastion."
                .to_owned(),
        )
    })?;
    let arguments = match tool {
        FileTool::Sftp => configured.into_iter().map(OsString::from).collect(),
        FileTool::Rsync | FileTool::Scp => transfer::arguments(tool, command)
            .and_then(|arguments| expand(arguments, &home, Path::new(".")))
            .map_err(|refusal| refused(refusal.to_string()))?,
    };
    r#become(program(tool), &arguments, mask)
}

/// Where the distribution has the program. Never searched for.
fn program(tool: FileTool) -> &'static str {
    match tool {
        FileTool::Sftp => "/usr/lib/openssh/sftp-server",
        FileTool::Rsync => "/usr/bin/rsync",
        FileTool::Scp => "/usr/bin/scp",
    }
}

fn r#become(program: &str, arguments: &[OsString], mask: u32) -> Result<Infallible, Unserved> {
    // That there is no core file and no new privilege was settled at the start of this process; both outlast the exec.
    umask(Mode::from_bits_truncate(mask & 0o777));
    // Everything of ours is closed on exec; this is for what sshd may have left open.
    process::close_from(3)?;
    let wanted = env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| ENVIRONMENT.contains(&name) || name.starts_with("LC_"))
    });
    let failed = Command::new(program).args(arguments).env_clear().envs(wanted).exec();
    let message = if failed.kind() == io::ErrorKind::NotFound {
        format!(
            "This bastion has no {program}, which serves these files.\n\
             Tell its administrator: a package is missing there, or the jail was built without it."
        )
    } else {
        format!(
            "{program} of this bastion cannot be run: {failed}.\n\
             Try it with fewer files at once; if that doesn't help, tell the administrator."
        )
    };
    Err(Unserved::Refused(super::BROKEN, message))
}
