//! No jail: sshd runs as an ordinary user, who cannot make one (`session.jail = "none"`).
//!
//! The user is kept apart from this host only by the one program that sshd runs for them. What is
//! left to do is to claim the gateway and to watch sshd.
//!
//! Nothing here needs root, and root's PAM module doesn't accept this program's answer: see
//! pam/src/system.rs.

use super::failure::{Failure, why};
use super::init::{claim, watch};
use super::{caller, gateway};
use common::paths::CHANNELS_SOCKET_PREFIX;
use host::rights::Rights;
use host::sandbox;
use host::sys::{pidfd, process, socket};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use wire::claim::{HomeState, JailReport};
use wire::jail::{Answer, JOINED, Request};

/// Claims the gateway, starts the watcher, and tells the caller where the session program finds the
/// gateway.
pub fn serve(request: &Request, rights: Rights) -> Result<(), Failure> {
    let own = rights.owner();
    // The configuration says so; the answer to sshd's own lookup may be another's.
    if request.ids.uid() != own {
        return Err(format!("sshd runs as uid {own}, and this user has uid {}", request.ids.uid()));
    }
    let sshd = caller::sshd(request.sshd)?;
    let gateway = gateway::connect(request, own)?;
    // Abstract: it vanishes with its last descriptor, and needs no directory. Anybody in this
    // network namespace can connect, so the gateway accepts this uid only.
    let name = format!("{CHANNELS_SOCKET_PREFIX}{}", request.handle.name());
    let listener =
        socket::listen_abstract(name.as_bytes()).map_err(why("cannot make the session's socket"))?;
    // The gateway expects a log of file servers; there are none here.
    let log = UnixDatagram::unbound().map_err(why("cannot make a socket"))?;
    claim(request, &gateway, &listener, &log.into())?;
    drop(listener);
    let report = JailReport { home: HomeState::Unconfigured, notes: Vec::new(), accounts: Vec::new() };
    let report = serde_json::to_vec(&report).map_err(why("cannot write the report"))?;
    socket::send(gateway.as_fd(), &report, &[])
        .map_err(why("the gateway that verified the token is gone"))?;
    let watcher = match process::fork_single_threaded().map_err(why("cannot fork"))? {
        None => watch_over(&sshd, &gateway),
        Some(pid) => pid,
    };
    drop((sshd, gateway));
    let joined = writeln!(io::stdout(), "{}", Answer::None(request.handle.name().to_owned()).line())
        .map_err(why("the PAM module went away"))
        .and_then(|()| {
            caller::read_line(io::stdin().as_fd(), caller::JOIN_TIME)
                .map_err(why("the PAM module did not answer"))
        });
    if joined.as_deref() == Ok(JOINED.as_bytes()) {
        return Ok(());
    }
    // Our child, not yet reaped: its number cannot belong to another process.
    let _ = kill(Pid::from_raw(watcher), Signal::SIGKILL);
    Err(joined.err().unwrap_or_else(|| "the PAM module did not open the session".into()))
}

/// Holds the claim while sshd lives; the gateway exits with it.
fn watch_over(sshd: &OwnedFd, gateway: &OwnedFd) -> ! {
    let prepare = || -> io::Result<()> {
        nix::unistd::setsid()?;
        process::discard_stdio()?;
        process::close_all_but(&[sshd.as_raw_fd(), gateway.as_raw_fd()])?;
        process::set_name(c"jupyterhub-jail")?;
        process::stay_unprivileged()?;
        sandbox::confine_watcher_without_jail(sshd.as_fd())
    };
    let prepared = prepare();
    if prepared.is_ok() {
        watch(sshd.as_fd(), gateway.as_fd());
        // The connection ends with the gateway. No process 1 sees to that here, so sshd is ended.
        let _ = pidfd::terminate(sshd.as_fd());
    }
    process::exit_now(i32::from(prepared.is_err()));
}
