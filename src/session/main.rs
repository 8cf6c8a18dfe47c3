//! `/usr/lib/jupyterhub-openssh/session`: ForceCommand and login shell of every hub user. It runs
//! in the jail, as the user, once for each channel.
//!
//! It holds no secret and moves no bytes. It hands its standard input, output and error to the
//! gateway, keeps the terminal's mode and size right, shows the progress of a starting server, and
//! ends as the gateway says: with the status of the remote process, or by its signal.
//!
//! For sftp, scp and rsync it becomes the program that serves them, if the gateway says that this
//! host has the files. Otherwise the user's server serves them like any other command.

mod conversation;
mod descriptors;
mod environment;
mod expand;
mod files;
mod gateway;
mod progress;
mod route;
mod sftp_refusal;
mod signals;
mod transfer;

use conversation::Job;
use gateway::{Broken, Gateway};
use host::sandbox;
use host::sys::process;
use route::Route;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use wire::session::FileTool;

/// Exit status of a channel that was refused for what it asked.
const REFUSED: u8 = 1;
/// Exit status of a channel that broke, as ssh(1) reports its own failures.
const BROKEN: u8 = 255;

/// How a channel ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With a status.
    Exit {
        /// For sshd.
        status: u8,
        /// For the user, two lines; `None` after a clean end.
        message: Option<String>,
    },
    /// By a signal.
    Killed {
        /// The signal's name without `SIG`.
        signal: String,
        /// For the user, two lines; `None` after a clean end.
        message: Option<String>,
    },
}

impl End {
    fn refused(message: impl Into<String>) -> Self {
        Self::Exit { status: REFUSED, message: Some(message.into()) }
    }
}

impl<E: Into<Broken>> From<E> for End {
    fn from(e: E) -> Self {
        Self::Exit { status: BROKEN, message: Some(e.into().to_string()) }
    }
}

fn main() {
    std::process::exit(run().into());
}

/// Serves the channel. Returns its exit status, or ends by a signal as the remote process did.
fn run() -> u8 {
    // Users may share a uid: other processes of this uid must not trace this one or read its
    // memory. And whatever it becomes may do only what it or a file server does.
    if let Err(e) = process::harden().and_then(|()| sandbox::confine_session()) {
        complain(&Broken::from(e).to_string());
        return BROKEN;
    }
    let command = std::env::var_os("SSH_ORIGINAL_COMMAND").map(OsStringExt::into_vec);
    let route = route::route(command.as_deref());
    let end = serve(route, command.as_deref().unwrap_or_default()).unwrap_or_else(|end| end);
    let (End::Exit { message, .. } | End::Killed { message, .. }) = &end;
    if let Some(message) = message {
        complain(message);
        if route == Route::Files(FileTool::Sftp) {
            sftp_refusal::refuse(message);
        }
    }
    match end {
        End::Exit { status, .. } => status,
        End::Killed { signal, .. } => {
            signals::die_of(&signal);
            BROKEN
        }
    }
}

fn serve(route: Route, command: &[u8]) -> Result<End, End> {
    let gateway = Gateway::connect()?;
    // sshd sets it, whatever the client has sent.
    let user = std::env::var_os("USER").map(OsStringExt::into_vec).unwrap_or_default();
    let of_files = transfer::own_home(command, &user);
    let (gateway, job) = match route {
        Route::Shell => (gateway, Job::Shell),
        Route::Exec => (gateway, Job::Command(command)),
        Route::Files(tool) => {
            let job = if tool == FileTool::Sftp { Job::Sftp } else { Job::Command(&of_files) };
            (files::serve(gateway, tool, &of_files)?, job)
        }
    };
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    Ok(conversation::run(&gateway, job, terminal)?)
}

/// Writes a message for the user. A client that is gone must not cause a panic, as `eprintln!`
/// would.
fn complain(text: &str) {
    let _ = descriptors::write_all(std::io::stderr().as_fd(), format!("{text}\n").as_bytes());
}
