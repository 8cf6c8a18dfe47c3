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
mod elf;
mod hide;
mod init;
mod mounter;
mod none;
mod plan;
mod programs;
mod request;
mod trees;
mod view;

use common::paths;
use common::text::one_line;
use host::config::{Config, Jail};
use host::confinement;
use host::rights::Rights;
use host::sys::wait::readable;
use host::sys::{namespace, pidfd, process, socket};
use host::uids;
use mounter::Mounter;
use nix::unistd::User;
use plan::Plan;
use request::Request;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the caller may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long building the view and claiming the gateway may take.
const BUILD_TIME: Duration = Duration::from_secs(8);
/// How long the caller may take to join.
const JOIN_TIME: Duration = Duration::from_secs(10);

/// Why there is no jail: one line for the log, through the PAM module.
type Failure = String;

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
            let _ = writeln!(io::stdout(), "failed {}", one_line(&message));
            1
        }
    }
}

/// What process 1 needs from the first process.
struct Session {
    request: Request,
    plan: Plan,
    /// To the mounter.
    mounter: OwnedFd,
    sshd: OwnedFd,
    gateway: OwnedFd,
    gateway_ids: (u32, u32),
}

fn build() -> Result<(), Failure> {
    let start = Instant::now();
    process::close_from(3).map_err(why("cannot close inherited descriptors"))?;
    let rights = Rights::of_this_process();
    process::harden().map_err(why("cannot harden this process"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let request = Request::parse(&read_request()?).map_err(|e| format!("request not understood: {e}"))?;
    let config = Config::load().map_err(|e| e.one_line())?;
    rights.suit(&config).map_err(|e| e.one_line())?;
    if config.settings.jail == Jail::None {
        return none::serve(&request, rights);
    }
    let plan = Plan::new(config, &request, start)?;
    let sshd = caller(request.sshd)?;
    // Ended when this returns, whatever happens from here on.
    let (_mounter, parcels) = Mounter::start(&plan)?;
    let gateway_ids = gateway_ids()?;
    // The first login after a boot makes many files here, on a slow disk for longer than a gateway waits for its claim.
    view::prepare_host().map_err(why("cannot prepare /run/jupyterhub-openssh"))?;
    let gateway = connect_gateway(&request, gateway_ids.0)?;
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
    let outcome = match read_line(answer.as_fd(), BUILD_TIME) {
        Ok(line) if line == b"ready" => Ok(()),
        Ok(line) if line.is_empty() => Err("the jail's first process died while building it".to_owned()),
        Ok(line) => Err(String::from_utf8_lossy(&line).into_owned()),
        Err(e) => Err(format!("the jail was not ready within {} s: {e}", BUILD_TIME.as_secs())),
    };
    let outcome = outcome.and_then(|()| {
        writeln!(io::stdout(), "ready {pid}").map_err(why("the PAM module went away"))?;
        // End of file: the caller has joined, or given up, or died; process 1 watches sshd for itself.
        let rest =
            read_line(io::stdin().as_fd(), JOIN_TIME).map_err(why("the PAM module did not join the jail"))?;
        if rest == b"joined" { Ok(()) } else { Err("the PAM module could not join the jail".into()) }
    });
    if outcome.is_err() {
        // Our child, not yet reaped: the number can be nobody else's.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    outcome
}

/// Opens the sshd process that ran us. A number alone might have been reused by then: being our parent
/// after the descriptor was opened proves that it is that process.
fn caller(pid: libc::pid_t) -> Result<OwnedFd, Failure> {
    let sshd = pidfd::open(pid).map_err(why("cannot open sshd's process"))?;
    if nix::unistd::getppid().as_raw() == pid {
        Ok(sshd)
    } else {
        Err("run by a process that is not the sshd it names".into())
    }
}

fn gateway_ids() -> Result<(u32, u32), Failure> {
    match User::from_name(paths::GATEWAY_USER) {
        Ok(Some(user)) if !user.uid.is_root() => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(Some(_)) => Err(format!("the system user {} must not be root", paths::GATEWAY_USER)),
        Ok(None) => Err(format!("the system user {} is missing; reinstall the package", paths::GATEWAY_USER)),
        Err(e) => Err(format!("cannot look up the system user {}: {e}", paths::GATEWAY_USER)),
    }
}

/// Connects to the gateway that PAM has started. Abstract names belong to a network namespace, so this
/// comes before leaving the host's.
fn connect_gateway(request: &Request, gateway_uid: u32) -> Result<OwnedFd, Failure> {
    let name = format!("{}{}", paths::GATEWAY_SOCKET_PREFIX, request.gateway);
    let gateway = socket::connect_abstract(name.as_bytes())
        .map_err(why("the gateway that verified the token is gone"))?;
    let peer = socket::peer(gateway.as_fd()).map_err(why("cannot tell who the gateway is"))?;
    // It listens as root, before it gives up root; its own user is as good.
    if peer.uid() == 0 || peer.uid() == gateway_uid {
        Ok(gateway)
    } else {
        Err(format!("uid {} listens in the gateway's place", peer.uid()))
    }
}

fn read_request() -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    let end = Instant::now() + REQUEST_TIME;
    let mut text = Vec::new();
    // The caller says nothing more until it is answered, so a read never takes what belongs to later.
    while !text.ends_with(b"\n\n") {
        let mut buffer = [0; request::MAX_REQUEST];
        if !readable(stdin.as_fd(), end).map_err(why("no request"))? || text.len() > request::MAX_REQUEST {
            return Err("no request".into());
        }
        match nix::unistd::read(stdin.as_fd(), &mut buffer) {
            Ok(0) => return Err("the request ended too early".into()),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(format!("no request: {e}")),
        }
    }
    Ok(text)
}

/// Reads one line of at most 1 KiB, without its end; what was there when the writer closed counts as one.
fn read_line(fd: BorrowedFd<'_>, within: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + within;
    let mut file = File::from(fd.try_clone_to_owned()?);
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while line.len() < 1024 {
        if !readable(fd, end)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match file.read(&mut buffer)? {
            0 => break,
            n => line.extend_from_slice(&buffer[..n]),
        }
        if let Some(at) = line.iter().position(|b| *b == b'\n') {
            line.truncate(at);
            break;
        }
    }
    Ok(line)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("cannot make a pipe: {e}"))
}

/// What could not be mounted, before an error.
fn step(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |e| format!("cannot mount {what} for the jail: {e}")
}

/// Puts a sentence before an error.
fn why<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |e| format!("{what}: {e}")
}
