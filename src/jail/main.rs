//! The jail: the private namespaces of one SSH connection, and the little that a session sees in them.
//!
//! The PAM module runs this as root when sshd opens the session. The processes:
//! - the **first** checks who called, joins the gateway, leaves the host's namespaces and forks;
//! - the **mounter**, its child in the host's namespaces, and a child of that for the home and for each share
//!   ([`mounter`]): nobody else touches a file system of which a server may hang. They end when the jail is built;
//! - its other child is **process 1** of the new pid namespace ([`init`]): it builds the view, hands the session
//!   socket to the gateway, gives up root, and from then on only watches sshd and the gateway. When it ends,
//!   the kernel ends every process of the session with it, and with the last of them the mounts vanish.
//!
//! Where sshd isn't root's there is none of that, but [`none`].
//!
//! The first process stays until the PAM module has joined the namespaces: as long as it has not reaped
//! process 1, that process's number cannot belong to anybody else.

mod barrier;
mod caller;
mod elf;
mod failure;
mod gateway;
mod hide;
mod init;
mod mounter;
mod none;
mod plan;
mod programs;
mod trees;
mod view;

use caller::JOIN_TIME;
use failure::{Failure, why};
use host::config::{Config, Jail};
use host::confinement;
use host::rights::Rights;
use host::sys::{namespace, process};
use host::uids;
use init::Session;
use mounter::Mounter;
use plan::Plan;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::jail::{Answer, JOINED, Request};

/// How long building the view and claiming the gateway may take.
const BUILD_TIME: Duration = Duration::from_secs(8);
fn main() {
    let status = match std::env::args().nth(1).as_deref() {
        None => run(),
        // For the PAM module: will this login be confined?
        Some("--is-confined") => confinement::run(),
        // For the package: would anybody's be?
        Some("--would-confine") => confinement::package::run(),
        Some(_) => 64,
    };
    std::process::exit(status.into());
}

/// Builds a jail. Returns the exit status.
fn run() -> u8 {
    match build() {
        Ok(()) => 0,
        Err(message) => {
            let _ = writeln!(io::stdout(), "{}", Answer::Failed(message).line());
            1
        }
    }
}

fn build() -> Result<(), Failure> {
    let start = Instant::now();
    process::close_from(3).map_err(why("cannot close inherited descriptors"))?;
    let rights = Rights::of_this_process();
    process::harden().map_err(why("cannot harden this process"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let request =
        Request::parse(&caller::read_request()?).map_err(|e| format!("request not understood: {e}"))?;
    let config = Config::load().map_err(|e| e.one_line())?;
    rights.suit(&config).map_err(|e| e.one_line())?;
    if config.settings.jail == Jail::None {
        return none::serve(&request, rights);
    }
    let plan = Plan::new(config, &request, start)?;
    let sshd = caller::sshd(request.sshd)?;
    // Ended when this returns, whatever happens from here on.
    let (_mounter, parcels) = Mounter::start(&plan)?;
    let gateway_ids = gateway::ids()?;
    // The first login after a boot makes many files here, on a slow disk for longer than a gateway waits for its claim.
    view::prepare_host().map_err(why("cannot prepare /run/jupyterhub-openssh"))?;
    let gateway = gateway::connect(&request, gateway_ids.0)?;
    uids::record(request.ids, request.user.as_str()).map_err(why("cannot record the session's uid"))?;
    namespace::leave_host().map_err(why("cannot leave the host's namespaces (CAP_SYS_ADMIN missing?)"))?;
    let (answer, from_init) = pipe()?;
    match process::fork_single_threaded().map_err(why("cannot fork"))? {
        None => {
            drop(answer);
            init::run(Session { request, plan, mounter: parcels, sshd, gateway, gateway_ids }, from_init)
        }
        Some(pid) => {
            drop((from_init, parcels, sshd, gateway));
            wait_for_init(pid, &answer)
        }
    }
}

/// Reports process 1 to the caller, and waits until the caller has joined its namespaces.
fn wait_for_init(pid: libc::pid_t, answer: &OwnedFd) -> Result<(), Failure> {
    let outcome = match caller::read_line(answer.as_fd(), BUILD_TIME) {
        Ok(line) if line == b"ready" => Ok(()),
        Ok(line) if line.is_empty() => Err("the jail's first process died while building it".to_owned()),
        Ok(line) => Err(String::from_utf8_lossy(&line).into_owned()),
        Err(e) => Err(format!("the jail was not ready within {} s: {e}", BUILD_TIME.as_secs())),
    };
    let outcome = outcome.and_then(|()| {
        writeln!(io::stdout(), "{}", Answer::Ready(pid).line()).map_err(why("the PAM module went away"))?;
        // End of file: the caller has joined, or given up, or died; process 1 watches sshd for itself.
        let rest = caller::read_line(io::stdin().as_fd(), JOIN_TIME)
            .map_err(why("the PAM module did not join the jail"))?;
        if rest == JOINED.as_bytes() { Ok(()) } else { Err("the PAM module could not join the jail".into()) }
    });
    if outcome.is_err() {
        // Our child, not yet reaped: the number can be nobody else's.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    outcome
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("cannot make a pipe: {e}"))
}
