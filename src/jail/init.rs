//! Process 1 of a connection's pid namespace: builds the jail as root, then watches without rights.

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

/// How long the gateway may take to answer a claim; it does nothing else meanwhile.
const CLAIM_TIME: Duration = Duration::from_secs(3);
/// How many messages may wait in the jail's /dev/log.
const LOG_QUEUE: &str = "512";
/// How long the jail's programs may go on without sshd.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the connection may go on without its gateway: time to say why it ends.
const GRACE: Duration = Duration::from_secs(3);

/// What process 1 needs from the first process.
pub struct Inherited {
    pub request: Request,
    pub plan: Plan,
    /// The socket to the mounter.
    pub mounter: OwnedFd,
    pub sshd: OwnedFd,
    pub gateway: OwnedFd,
    pub gateway_ids: (u32, u32),
}

/// Runs process 1 to its end.
///
/// `first` takes one line: `ready`, or why there is no jail.
pub fn run(inherited: Inherited, first: OwnedFd) -> ! {
    let mut answer = std::fs::File::from(first);
    let outcome = start(inherited, answer.as_fd());
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

/// Builds the jail, and returns what to watch: sshd and the gateway.
fn start(inherited: Inherited, answer: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), Failure> {
    let Inherited { request, plan, mounter, sshd, gateway, gateway_ids } = inherited;
    let failed = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    // A process session of our own: a signal to sshd's process group doesn't reach us.
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
    // Nobody sees what is mounted from here on.
    barrier::raise()?;
    let report = serde_json::to_vec(&report).map_err(|e| format!("cannot write the report: {e}"))?;
    socket::send(gateway.as_fd(), &report, &[]).map_err(gone)?;

    process::close_all_but(&[sshd.as_raw_fd(), gateway.as_raw_fd(), answer.as_raw_fd()])
        .map_err(failed("cannot close descriptors"))?;
    process::set_name(c"jupyterhub-jail").map_err(failed("cannot name the process"))?;
    // Orphans in the jail become our children; while SIGCHLD is ignored, the kernel reaps them
    // (wait(2)).
    process::ignore_signal(Signal::SIGCHLD).map_err(failed("cannot ignore SIGCHLD"))?;
    process::drop_privileges(gateway_ids.0, gateway_ids.1).map_err(failed("cannot give up root"))?;
    sandbox::confine_watcher().map_err(failed("cannot confine the process"))?;
    Ok((sshd, gateway))
}

/// Makes the jail's /dev/log, which the gateway reads.
fn log_socket(uid: u32) -> std::io::Result<OwnedFd> {
    // A transfer of many small files logs several lines for each, and a program that logs waits
    // while the queue is full: with the kernel's default of 10 it would wait for the gateway all
    // the time. The setting belongs to this network namespace. Where it cannot be changed (a
    // container), transfers are slower.
    let _ = std::fs::write("/proc/sys/net/unix/max_dgram_qlen", LOG_QUEUE);
    socket::datagram_path(&view::outside(LOG_SOCKET), 0o600, uid)
}

fn gone(e: std::io::Error) -> Failure {
    format!("the gateway that verified the token is gone: {e}")
}

/// Claims the gateway, and returns the user's groups.
///
/// From now on the gateway serves this SSH connection, and ends when our socket to it closes.
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

/// Waits a moment after sshd's end, before the end of the namespace kills the jail's programs.
///
/// sftp-server sees the end of its input now, and logs what became of files that were open.
fn last_words() {
    let end = Instant::now() + LAST_WORDS;
    // True while there is any process here but us. We may signal none of them, which is EPERM while
    // there is one (kill(2)).
    let others = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), None) != Err(nix::Error::ESRCH);
    while others() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sleeps until sshd has ended, or until the gateway has and the grace is over.
pub(super) fn watch(sshd: BorrowedFd<'_>, gateway: BorrowedFd<'_>) {
    loop {
        let mut both = [PollFd::new(sshd, PollFlags::POLLIN), PollFd::new(gateway, PollFlags::POLLIN)];
        if !matches!(poll(&mut both, PollTimeout::NONE), Ok(_) | Err(nix::Error::EINTR))
            || both[0].any() == Some(true)
        {
            return last_words();
        }
        if both[1].any() == Some(true) {
            // The gateway has nothing more to say; if a packet comes all the same, it is ignored.
            let mut buffer = [0; 64];
            if !socket::recv(gateway, &mut buffer, 0).is_ok_and(|(length, _)| length > 0) {
                let _ = readable(sshd, Instant::now() + GRACE);
                return;
            }
        }
    }
}
