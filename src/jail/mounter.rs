//! The processes that touch homes and shares: the mounter and its children.
//!
//! A file server that hangs may block any process that uses it, forever. So no other process does:
//! neither sshd, nor process 1, nor the first process. The first process forks the mounter while it
//! is still in the host's mount namespace, and the mounter forks a child for the home and for each
//! share. A child opens its directory, clones the mount, removes from the clone what users must not
//! have, and sends it to process 1, which attaches what arrives in time. Children that still wait
//! then are killed.

use super::failure::{Failure, why};
use super::plan::Plan;
use host::config::Share;
use host::homes::{self, Fault};
use host::sys::mount::{Flags, Tree};
use host::sys::{pidfd, process, socket};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::MAX_MESSAGE;
use wire::claim::HomeFault;

/// How long killed processes may take to end.
///
/// One that cannot be killed (the kernel waits and ignores signals) is left to the system.
const END_TIME: Duration = Duration::from_millis(200);

/// A request from process 1 to the mounter.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Make the home, which is missing.
    CreateHome,
    /// Mount these shares, by their number in the configuration.
    Shares(Vec<usize>),
}

/// What a parcel contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// The home.
    Home,
    /// A share, by its number in the configuration.
    Share(usize),
}

/// A message from the mounter to process 1. A tree comes with it if `outcome` is good.
#[derive(Debug, Serialize, Deserialize)]
pub struct Parcel {
    /// What it contains.
    pub item: Item,
    /// Success, or why there is no tree.
    pub outcome: Result<(), Fault>,
}

/// The mounter, as the first process knows it.
pub struct Mounter(libc::pid_t);

impl Mounter {
    /// Forks the mounter; the socket is for process 1. When it is closed, the mounter ends.
    ///
    /// # Errors
    /// Fails if the socket or the process cannot be made.
    pub fn start(plan: &Plan) -> Result<(Self, OwnedFd), Failure> {
        let (ours, theirs) = socket::pair().map_err(why("cannot make a socket pair"))?;
        let parent = getpid().as_raw();
        match process::fork_single_threaded().map_err(why("cannot fork"))? {
            Some(pid) => Ok((Self(pid), ours)),
            None => run(plan, &theirs, parent),
        }
    }
}

impl Drop for Mounter {
    /// Ends the mounter. It is our child and only we reap it, so its number is still its own.
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0);
        // It ends by itself when process 1 is done with it, and kills its children.
        reap(&[self.0], END_TIME);
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(pid, Signal::SIGKILL);
            reap(&[self.0], END_TIME);
        }
    }
}

/// A child that mounts one item.
struct Worker {
    item: Item,
    pid: libc::pid_t,
    ended: OwnedFd,
}

fn run(plan: &Plan, socket: &OwnedFd, parent: libc::pid_t) -> ! {
    let mut workers = Vec::new();
    let prepared = process::die_with_parent(parent)
        // The pipes to the PAM module and other descriptors of the first process are not for us,
        // nor for a child that may hang.
        .and_then(|()| process::discard_stdio())
        .and_then(|()| process::close_all_but(&[socket.as_raw_fd()]))
        .and_then(|()| process::set_name(c"jupyterhub-home"));
    if prepared.is_ok() {
        let _ = serve(plan, socket, &mut workers);
    }
    for worker in &workers {
        // Not yet reaped, so the number is still its own.
        let _ = kill(Pid::from_raw(worker.pid), Signal::SIGKILL);
    }
    reap(&workers.iter().map(|worker| worker.pid).collect::<Vec<_>>(), END_TIME);
    // No destructors: they would end what belongs to the first process.
    process::exit_now(i32::from(prepared.is_err()));
}

fn serve(plan: &Plan, socket: &OwnedFd, workers: &mut Vec<Worker>) -> io::Result<()> {
    let start = |item, create, workers: &mut Vec<Worker>| -> io::Result<()> {
        workers.push(Worker::start(plan, item, create, socket.as_fd())?);
        Ok(())
    };
    if plan.homes.is_some() {
        start(Item::Home, false, workers)?;
    }
    for (number, share) in plan.shares.iter().enumerate() {
        // The other shares depend on the user's groups, which the hub knows.
        if share.groups.is_empty() && !plan.clashes(share) {
            start(Item::Share(number), false, workers)?;
        }
    }
    loop {
        let mut polled = vec![PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        polled.extend(workers.iter().map(|worker| PollFd::new(worker.ended.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any() == Some(true)).collect();
        for at in (0..workers.len()).rev() {
            if ready[at + 1] {
                workers.remove(at).reap(socket.as_fd())?;
            }
        }
        if ready[0] {
            let mut buffer = vec![0; MAX_MESSAGE];
            let (length, _) = socket::recv(socket.as_fd(), &mut buffer, 0)?;
            match serde_json::from_slice(&buffer[..length]) {
                Ok(Order::CreateHome) => start(Item::Home, true, workers)?,
                Ok(Order::Shares(numbers)) => {
                    for number in numbers {
                        start(Item::Share(number), false, workers)?;
                    }
                }
                // Process 1 is done.
                Err(_) => return Ok(()),
            }
        }
    }
}

impl Worker {
    fn start(plan: &Plan, item: Item, create: bool, socket: BorrowedFd<'_>) -> io::Result<Self> {
        let parent = getpid().as_raw();
        match process::fork_single_threaded()? {
            Some(pid) => Ok(Self { item, pid, ended: pidfd::open(pid)? }),
            None => {
                let done = process::die_with_parent(parent).and_then(|()| {
                    let outcome = match item {
                        Item::Home => home(plan, create),
                        Item::Share(number) => share(plan, number),
                    };
                    deliver(socket, item, outcome)
                });
                process::exit_now(i32::from(done.is_err()))
            }
        }
    }

    /// Reaps the child, and reports an end without a parcel.
    fn reap(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        match waitpid(Pid::from_raw(self.pid), None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            end => {
                let fault =
                    Fault::new(HomeFault::Failed, &format!("the process that mounts it ended: {end:?}"));
                deliver(socket, self.item, Err(fault))
            }
        }
    }
}

fn deliver(socket: BorrowedFd<'_>, item: Item, outcome: Result<Tree, Fault>) -> io::Result<()> {
    let (tree, outcome) = match outcome {
        Ok(tree) => (Some(tree), Ok(())),
        Err(fault) => (None, Err(fault)),
    };
    let message = serde_json::to_vec(&Parcel { item, outcome })?;
    let trees: Vec<_> = tree.iter().map(Tree::descriptor).collect();
    socket::send(socket, &message, &trees)
}

/// Runs in a child: opens the home, and returns it as the user may have it.
fn home(plan: &Plan, create: bool) -> Result<Tree, Fault> {
    let Some(homes) = &plan.homes else {
        return Err(Fault::new(HomeFault::Failed, "homes.root is not set"));
    };
    homes::claim::claim(Path::new(homes::claim::CLAIMS), homes, &plan.user)?;
    if create {
        homes::create(homes, &plan.user, plan.ids, plan.owns_uid_alone)?;
    }
    let home = homes::open(homes, &plan.user, Some(plan.ids))?;
    let flags = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
    clone(home.as_fd(), flags).map_err(|e| {
        let path = homes::open::path(homes, &plan.user);
        Fault::new(HomeFault::Failed, &format!("{path} cannot be mounted: {e}"))
    })
}

/// Runs in a child: opens a share, and returns it as the user may have it.
fn share(plan: &Plan, number: usize) -> Result<Tree, Fault> {
    let Some(share) = plan.shares.get(number) else {
        return Err(Fault::new(HomeFault::Failed, "no such share"));
    };
    let dir = homes::open::open_share(&share.source, Some(plan.ids))?;
    clone(dir.as_fd(), share_flags(share)).map_err(|e| {
        Fault::new(HomeFault::Failed, &format!("{} cannot be mounted: {e}", share.source.display()))
    })
}

fn share_flags(share: &Share) -> Flags {
    let flags = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
    if share.writable { flags } else { flags | Flags::RO }
}

fn clone(dir: BorrowedFd<'_>, flags: Flags) -> io::Result<Tree> {
    Tree::clone_descriptor(dir)?.restrict_private(flags)
}

/// Reaps children that have ended or are about to.
fn reap(pids: &[libc::pid_t], within: Duration) {
    let end = Instant::now() + within;
    for pid in pids {
        if let Ok(ended) = pidfd::open(*pid) {
            let _ = host::sys::wait::readable(ended.as_fd(), end);
        }
        let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
    }
}

#[cfg(test)]
#[path = "mounter_tests.rs"]
pub mod tests;
