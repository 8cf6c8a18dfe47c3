//! Builds the jail: the private namespaces of one SSH connection, and the few files in them.
//!
//! The PAM module runs this program as root when sshd opens the session. Its processes:
//! - the **first** checks who called it, connects to the gateway, leaves the host's namespaces and
//!   forks;
//! - the **mounter** ([`mounter`]), its child in the host's namespaces, and a child of that for the
//!   home and for each share: only these touch file systems whose server may hang. They end when
//!   the jail is built;
//! - **process 1** of the new pid namespace ([`init`]), its other child: builds the view, hands the
//!   session program's socket to the gateway, gives up root, and from then on only watches sshd and
//!   the gateway. When it ends, the kernel ends every other process of the namespace, and with the
//!   last of them the mounts vanish.
//!
//! If sshd doesn't run as root, there is none of this, only [`none`].
//!
//! The first process stays until the PAM module has joined the namespaces: as long as it has not
//! reaped process 1, that process's number cannot belong to another process.
//!
//! | module | what it is for |
//! |---|---|
//! | [`caller`] | the PAM module: its request, and who it is |
//! | [`gateway`] | finds the gateway and connects to it |
//! | [`plan`] | which home and shares the user is to see |
//! | [`mounter`], [`trees`] | bring homes and shares from file systems that may hang |
//! | [`init`] | process 1: builds the jail, claims the gateway, watches |
//! | [`view`], [`programs`], [`elf`] | the jail's file system, and the programs in it |
//! | [`hide`], [`barrier`] | what root's part of sshd, and an unconfined user, must not reach |
//! | [`none`] | `session.jail = "none"` |
//! | [`failure`] | why there is no jail |

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
use init::Inherited;
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
        // For the package: would a hub user's login be confined?
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
    // Dropped, and so ended, when this function returns for any reason.
    let (_mounter, parcels) = Mounter::start(&plan)?;
    let gateway_ids = gateway::ids()?;
    // The first login after a boot makes many files here. On a slow disk this takes longer than a
    // gateway waits for its claim, so it comes first.
    view::prepare_host().map_err(why("cannot prepare /run/jupyterhub-openssh"))?;
    let gateway = gateway::connect(&request, gateway_ids.0)?;
    uids::record(request.ids, request.user.as_str()).map_err(why("cannot record the session's uid"))?;
    namespace::leave_host().map_err(why("cannot leave the host's namespaces (CAP_SYS_ADMIN missing?)"))?;
    let (answer, from_init) = pipe()?;
    match process::fork_single_threaded().map_err(why("cannot fork"))? {
        None => {
            drop(answer);
            init::run(Inherited { request, plan, mounter: parcels, sshd, gateway, gateway_ids }, from_init)
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
        // End of file: the caller has joined, given up or died. Process 1 watches sshd itself.
        let rest = caller::read_line(io::stdin().as_fd(), JOIN_TIME)
            .map_err(why("the PAM module did not join the jail"))?;
        if rest == JOINED.as_bytes() { Ok(()) } else { Err("the PAM module could not join the jail".into()) }
    });
    if outcome.is_err() {
        // Our child, not yet reaped: its number cannot belong to another process.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    outcome
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("cannot make a pipe: {e}"))
}
