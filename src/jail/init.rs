//! Process 1 of a session's pid namespace: builds the view as root, then watches as nobody in particular.

use super::failure::Failure;
use super::plan::Plan;
use super::{barrier, trees, view};
use common::paths::{GATEWAY_SOCKET, JAIL_DIR, LOG_SOCKET};
use host::sandbox;
use host::sys::wait::readable;
use host::sys::{namespace, process, socket};
use host::uids;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::MAX_MESSAGE;
use wire::claim::{ClaimReply, ClaimRequest};
use wire::jail::Request;

/// How long the gateway may take to answer a claim; it does nothing else at that time.
const CLAIM_TIME: Duration = Duration::from_secs(3);
/// Messages that wait in the jail's /dev/log.
const LOG_QUEUE: &str = "512";
/// How long the programs of a session may go on without sshd.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long a session may go on without its gateway: time to say why it ends.
const GRACE: Duration = Duration::from_secs(3);

/// What process 1 needs from the first process.
pub struct Session {
    pub request: Request,
    pub plan: Plan,
    /// To the mounter.
    pub mounter: OwnedFd,
    pub sshd: OwnedFd,
    pub gateway: OwnedFd,
    pub gateway_ids: (u32, u32),
}

/// Runs process 1 to its end. `first` takes one line: `ready`, or why not.
pub fn run(session: Session, first: OwnedFd) -> ! {
    let mut answer = std::fs::File::from(first);
    let outcome = start(session, answer.as_fd());
    let line = match &outcome {
        Ok(_) => "ready\n".to_owned(),
        Err(message) => format!("{}\n", message.replace('\n', " ")),
    };
    let told = answer.write_all(line.as_bytes());
    drop(answer);
    if let (Ok((sshd, gateway)), Ok(())) = (&outcome, told) {
        watch(sshd.as_fd(), gateway.as_fd());
    }
    // No destructors: the end of process 1 ends the namespace and everything in it.
    process::exit_now(i32::from(outcome.is_err()));
}

/// Builds the jail; returns what is to be watched: sshd and the gateway.
fn start(session: Session, answer: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), Failure> {
    let Session { request, plan, mounter, sshd, gateway, gateway_ids } = session;
    let failed = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    // Our own session: a signal to sshd's process group is not for us.
    nix::unistd::setsid().map_err(|e| format!("cannot start a session: {e}"))?;
    process::discard_stdio().map_err(failed("cannot open /dev/null"))?;
    let notes = view::build(&request, &plan)?;
    let listener = socket::listen_path(&view::outside(GATEWAY_SOCKET), 0o600, request.ids.uid())
        .map_err(failed("cannot make the session's socket"))?;
    let log = log_socket(request.ids.uid()).map_err(failed("cannot make the session's /dev/log"))?;
    namespace::bring_loopback_up().map_err(failed("cannot bring the jail's loopback interface up"))?;
    let groups = claim(&request, &gateway, &listener, &log)?;
    drop((listener, log));
    let mut report = trees::collect(&plan, mounter, &groups).attach(&plan, notes, Path::new(JAIL_DIR))?;
    report.accounts = uids::local_accounts(request.ids.uid(), plan.own_home.as_deref());
    view::seal()?;
    // Whatever is mounted from here on is seen by nobody.
    barrier::raise()?;
    let report = serde_json::to_vec(&report).map_err(|e| format!("cannot write the report: {e}"))?;
    socket::send(gateway.as_fd(), &report, &[]).map_err(gone)?;

    process::close_all_but(&[sshd.as_raw_fd(), gateway.as_raw_fd(), answer.as_raw_fd()])
        .map_err(failed("cannot close descriptors"))?;
    process::set_name(c"jupyterhub-jail").map_err(failed("cannot name the process"))?;
    // Orphans of the session become our children; ignoring SIGCHLD lets the kernel reap them (wait(2)).
    process::ignore_signal(Signal::SIGCHLD).map_err(failed("cannot ignore SIGCHLD"))?;
    process::drop_privileges(gateway_ids.0, gateway_ids.1).map_err(failed("cannot give up root"))?;
    sandbox::confine_watcher().map_err(failed("cannot confine the process"))?;
    Ok((sshd, gateway))
}

/// Where the session's programs log: the gateway reads it.
fn log_socket(uid: u32) -> std::io::Result<OwnedFd> {
    // A transfer of many small files logs several lines for each, and a program that logs waits while the queue is
    // full: with the kernel's default of 10 it would wait for the gateway at every turn. The setting is this network
    // namespace's own; where it cannot be changed (a container), it is slower.
    let _ = std::fs::write("/proc/sys/net/unix/max_dgram_qlen", LOG_QUEUE);
    socket::datagram_path(&view::outside(LOG_SOCKET), 0o600, uid)
}

fn gone(e: std::io::Error) -> Failure {
    format!("the gateway that verified the token is gone: {e}")
}

/// Takes the gateway over: from now on it serves this session and ends with our connection. Returns the user's
/// groups.
pub(super) fn claim(
    request: &Request,
    gateway: &OwnedFd,
    listener: &OwnedFd,
    log: &OwnedFd,
) -> Result<Vec<String>, Failure> {
    let message = ClaimRequest {
        secret: request.handle.secret().to_owned(),
        user: request.user.to_string(),
        uid: request.ids.uid(),
    };
    let message = serde_json::to_vec(&message).map_err(|e| format!("cannot write the claim: {e}"))?;
    socket::send(gateway.as_fd(), &message, &[listener.as_fd(), log.as_fd()]).map_err(gone)?;
    if !readable(gateway.as_fd(), Instant::now() + CLAIM_TIME).map_err(gone)? {
        return Err("the gateway did not answer".into());
    }
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, _) = socket::recv(gateway.as_fd(), &mut buffer, 0).map_err(gone)?;
    match serde_json::from_slice(&buffer[..length]) {
        Ok(ClaimReply::Claimed { groups }) => Ok(groups),
        Ok(ClaimReply::Refused(why)) => Err(format!("the gateway refused the session: {why}")),
        Err(_) if length == 0 => Err("the gateway ended instead of answering".into()),
        Err(_) => Err("the gateway's answer makes no sense".into()),
    }
}

/// sshd has ended: sftp-server sees the end of its input now, and logs what became of files that were open. It has a
/// moment to do so before the end of the namespace kills it.
fn last_words() {
    let end = Instant::now() + LAST_WORDS;
    // Every process here but us; we may signal none of them, which is EPERM while there is one (kill(2)).
    let others = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), None) != Err(nix::Error::ESRCH);
    while others() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sleeps until sshd has ended, or the gateway has and the grace is over.
pub(super) fn watch(sshd: BorrowedFd<'_>, gateway: BorrowedFd<'_>) {
    loop {
        let mut both = [PollFd::new(sshd, PollFlags::POLLIN), PollFd::new(gateway, PollFlags::POLLIN)];
        if !matches!(poll(&mut both, PollTimeout::NONE), Ok(_) | Err(nix::Error::EINTR))
            || both[0].any() == Some(true)
        {
            return last_words();
        }
        if both[1].any() == Some(true) {
            // The gateway has nothing more to say; a packet all the same is read and forgotten.
            let mut buffer = [0; 64];
            if !socket::recv(gateway, &mut buffer, 0).is_ok_and(|(length, _)| length > 0) {
                let _ = readable(sshd, Instant::now() + GRACE);
                return;
            }
        }
    }
}
