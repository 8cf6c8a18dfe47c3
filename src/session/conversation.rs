//! What a channel runs in the user's server: the request, and the conversation with the gateway
//! until the process has ended.
//!
//! With a terminal, the gateway says when the remote one is there ([`SessionReply::Attach`]). Only
//! then is ours made raw, and only then does the process start. Without a terminal the gateway
//! takes the descriptors at once.

use super::descriptors::write_all;
use super::gateway::{Broken, Gateway};
use super::progress::{Style, Waiting};
use super::signals::{Heard, Signals};
use super::{End, environment};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host::sys::{process, tty};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;
use wire::session::{MAX_COMMAND, SessionReply, SessionRequest, Tty};

/// What runs in the user's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job<'a> {
    /// The login shell.
    Shell,
    /// A command, in the client's own words.
    Command(&'a [u8]),
    /// An sftp server.
    Sftp,
}

/// Runs it with our standard input, output and error; `terminal` says whether these are the
/// client's terminal.
///
/// # Errors
/// [`Broken`], after the terminal has been restored.
pub fn run(gateway: &Gateway, job: Job<'_>, terminal: bool) -> Result<End, Broken> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let terminal = (terminal && job != Job::Sftp).then(|| stdin.as_fd());
    // Before the size is read for the first time, so that no change is missed.
    let signals = Signals::new()?;
    let tty = terminal.map(|fd| Tty { size: tty::window_size(fd), modes: tty::modes(fd) });
    let descriptors = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    if let Some(refused) = request(gateway, job, tty, environment::own(), &descriptors)? {
        return Ok(refused);
    }
    // Close our copies, so that the client sees the end of file when the remote process closes its
    // output, and not only when we end. With sftp a refusal may still have to be written.
    if terminal.is_none() && job != Job::Sftp {
        process::discard_stdin_and_stdout()?;
    }
    let style = match (job, terminal) {
        // sshd discards what a subsystem writes to standard error.
        (Job::Sftp, _) => Style::Silent,
        (_, Some(_)) => Style::Rewritten,
        (_, None) => Style::Lines,
    };
    let conversation = Conversation {
        gateway,
        signals: &signals,
        terminal,
        stderr: stderr.as_fd(),
        raw: None,
        running: false,
        waiting: Waiting::new(style, Instant::now()),
    };
    conversation.hold()
}

/// Sends the request. Returns an end if the request cannot be sent.
fn request(
    gateway: &Gateway,
    job: Job<'_>,
    tty: Option<Tty>,
    environment: BTreeMap<String, String>,
    descriptors: &[BorrowedFd<'_>; 3],
) -> Result<Option<End>, Broken> {
    let (request, command) = match job {
        Job::Shell => (SessionRequest::Shell { tty, environment }, &b""[..]),
        Job::Sftp => (SessionRequest::Sftp { environment }, &b""[..]),
        Job::Command(command) => match u32::try_from(command.len()) {
            Ok(length) if command.len() <= MAX_COMMAND => {
                (SessionRequest::Exec { length, tty, environment }, command)
            }
            _ => return Ok(Some(End::refused(too_long(command.len())))),
        },
    };
    gateway.say(&request, descriptors)?;
    if !command.is_empty() {
        gateway.send_bytes(command)?;
    }
    Ok(None)
}

fn too_long(length: usize) -> String {
    format!(
        "This command has {length} bytes; at most {MAX_COMMAND} can be passed on.\n\
         Send it as a script: ssh alice@host sh < script"
    )
}

struct Conversation<'a> {
    gateway: &'a Gateway,
    signals: &'a Signals,
    /// The client's terminal.
    terminal: Option<BorrowedFd<'a>>,
    stderr: BorrowedFd<'a>,
    /// With a terminal: true once it is handed over.
    raw: Option<tty::RawMode<'a>>,
    /// The gateway has said that the wait is over.
    running: bool,
    waiting: Waiting,
}

impl Conversation<'_> {
    /// Runs until the gateway says that the process has ended.
    fn hold(mut self) -> Result<End, Broken> {
        let end = loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(end)) => break Ok(end),
                Err(broken) => break Err(broken),
            }
        };
        self.raw = None;
        self.stop_waiting();
        end
    }

    fn step(&mut self) -> Result<Option<End>, Broken> {
        let timeout = match self.waiting.due(Instant::now()) {
            Some(due) => PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(self.gateway.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let gateway_speaks = fds.first().and_then(PollFd::revents).is_some_and(|found| !found.is_empty());
        if let Some(end) = self.hear_signals()? {
            return Ok(Some(end));
        }
        if gateway_speaks {
            if let Some(end) = self.hear_gateway()? {
                return Ok(Some(end));
            }
        }
        let cols = self.terminal.map_or(0, |fd| tty::window_size(fd).cols);
        if let Some(text) = self.waiting.show(cols, Instant::now()) {
            // A failed write means that the client is gone; the gateway will notice, too.
            let _ = write_all(self.stderr, text.as_bytes());
        }
        Ok(None)
    }

    fn hear_signals(&mut self) -> Result<Option<End>, Broken> {
        let mut resized = false;
        while let Some(heard) = self.signals.next() {
            match heard {
                Heard::Resized => resized = true,
                // Ctrl-C while the server starts: no process exists yet to receive it. Without a
                // terminal only the gateway knows whether one exists.
                Heard::Forward(name) if self.terminal.is_some() && !self.running => {
                    return Ok(Some(End::Killed { signal: name.to_owned(), message: None }));
                }
                Heard::Forward(name) => {
                    self.gateway.say(&SessionRequest::Signal { name: name.to_owned() }, &[])?;
                }
            }
        }
        match self.terminal {
            // Before that, Ready carries the size.
            Some(fd) if resized && self.running => {
                self.gateway.say(&SessionRequest::Resize { size: tty::window_size(fd) }, &[])?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn hear_gateway(&mut self) -> Result<Option<End>, Broken> {
        match self.gateway.hear()? {
            SessionReply::Progress { percent, message } if !self.running => {
                self.waiting.heard(percent, &message);
            }
            SessionReply::Progress { .. } => {}
            SessionReply::Attach => {
                self.stop_waiting();
                if let Some(fd) = self.terminal {
                    // A second time, if the first terminal failed before it was used: answer each.
                    let mut typed = Vec::new();
                    if self.raw.is_none() {
                        let (raw, found) = tty::RawMode::enter(fd)?;
                        (self.raw, typed) = (Some(raw), found);
                    }
                    let (size, typed) = (tty::window_size(fd), STANDARD.encode(typed));
                    self.gateway.say(&SessionRequest::Ready { size, typed }, &[])?;
                }
                self.running = true;
            }
            // The client then sees its end, as with sshd.
            SessionReply::ErrorEnded if self.terminal.is_none() => process::discard_stderr()?,
            SessionReply::ErrorEnded => {}
            SessionReply::Exit { status, message } => return Ok(Some(End::Exit { status, message })),
            SessionReply::Killed { signal, message } => return Ok(Some(End::Killed { signal, message })),
            SessionReply::Serve { .. } | SessionReply::Elsewhere => return Err(Broken::GatewayLost),
        }
        Ok(None)
    }

    fn stop_waiting(&mut self) {
        if let Some(text) = self.waiting.end() {
            let _ = write_all(self.stderr, text.as_bytes());
        }
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
