//! ForceCommand and login shell of every hub user: runs in the jail, as the user.
//!
//! It holds no secret and moves no bytes: it hands its standard input, output and error to the gateway,
//! keeps the terminal's mode and size right, shows the progress of a starting server, and ends with the
//! status that the gateway names. For sftp, scp and rsync it becomes the program that serves them, once the gateway
//! has agreed.

mod client;
mod expand;
mod files;
mod progress;
mod route;
mod sftp_refusal;
mod transfer;

use crate::control::FileTool;
use crate::sys::process;
use route::Route;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;

/// Status of a session that was refused for what it asked.
const REFUSED: u8 = 1;
/// Status of a session that broke: as ssh(1) reports its own failures.
const BROKEN: u8 = 255;

/// Runs the session and returns its exit status.
#[must_use]
pub fn run() -> u8 {
    // Users may share a uid: nobody else's process is to trace this one or read its memory.
    if let Err(e) = process::harden() {
        complain(&client::Broken::from(e).to_string());
        return BROKEN;
    }
    let command = std::env::var_os("SSH_ORIGINAL_COMMAND").map(OsStringExt::into_vec);
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    match route::route(command.as_deref(), terminal) {
        Route::Shell => client::shell().unwrap_or_else(|broken| {
            complain(&broken.to_string());
            BROKEN
        }),
        Route::Files(tool) => match files::serve(tool, command.as_deref().unwrap_or_default()) {
            Ok(never) => match never {},
            Err(files::Unserved { status, message }) => {
                complain(&message);
                if tool == FileTool::Sftp {
                    sftp_refusal::refuse(&message);
                }
                status
            }
        },
        Route::Refuse(why) => {
            complain(why);
            REFUSED
        }
    }
}

/// Tells the user. A client that has gone is no reason to panic, as `eprintln!` would.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
