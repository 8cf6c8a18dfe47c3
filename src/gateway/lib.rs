//! One process for one SSH connection, unprivileged: it holds the token, speaks with the hub and with the
//! user's server, and moves the bytes of every session of the connection.

mod access; // what is needed to speak for the user
mod admin; // root asks about the session
mod boot; // how the agent is started
mod channel; // one session: what it asks for decides what becomes of it
mod claim; // root takes the gateway over
mod command; // a session that is a stream of the agent
mod connections; // how many a user may have
mod control_terminal; // the second terminal that watches the first
mod denied; // what is said instead of a grant
mod files; // may a session have files?
mod groups; // of the user, for shares
mod input; // client to server, paced
mod job; // what may block
mod keeper; // gets a token for a login by key, and gives it back
mod life; // what becomes of a terminal, as a table
mod limits; // how long a session may be idle, and last
mod link; // the agent in the user's server
mod login; // is this token good for this user?
mod news; // what jobs report
mod output; // the bounded queue to the client
mod own_home; // ~NAME in SFTP
mod own_server; // is it there?
mod peer; // the session program of a channel
mod remote; // calls to the user's server
mod remote_terminal; // one terminal at the user's server
mod request; // what the PAM module asks
mod screen; // server to client
mod serve; // the poll loop
mod server_token; // what the user's server gets to see of the user
mod terminal; // one remote terminal
mod terminal_channel; // a session that is a plain terminal
mod transfer; // a session that has become a program which serves files
mod transfer_log; // what is done to files, for the log
mod turn; // what everything that acts in a turn of the loop needs

use admin::Admin;
use claim::Unclaimed;
use common::paths::GATEWAY_USER;
use connections::Connections;
use host::config::Config;
use host::counters::Meter;
use host::log::{Event, Line, Log};
use host::rights::Rights;
use host::sandbox;
use host::sys::{process, random, socket};
use login::Asked;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use wire::By;
use wire::handle::Handle;
use zeroize::Zeroizing;

/// The name in the log.
const PROGRAM: &str = "jupyterhub-openssh";

/// Why a gateway ended before it served anybody. For the log; the PAM module has been answered already
/// or sees standard output close.
struct Failed {
    tried: &'static str,
    why: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.tried, self.why)
    }
}

/// Names what was tried when an error turns up.
fn trying<T>(tried: &'static str, result: io::Result<T>) -> Result<T, Failed> {
    result.map_err(|why| Failed { tried, why })
}

/// Runs a gateway: started by the PAM module as sshd's user, who is root, with the request on standard input. `session`
/// is the name of the login in the log.
///
/// Returns the exit status of whatever is still in the foreground.
#[must_use]
pub fn run(by: By, session: Option<&str>) -> u8 {
    match start(by, session) {
        Ok(()) => 0,
        Err(failed) => {
            let session = session.map(|session| ("session", session));
            Log::open(PROGRAM, session.as_slice()).error(Line::of(Event::Fault, failed));
            1
        }
    }
}

fn start(by: By, session: Option<&str>) -> Result<(), Failed> {
    trying("close inherited descriptors", process::close_from(3))?;
    // OpenSSL then looks trusted certificates up by their hash in /etc/ssl/certs as they are needed. Otherwise
    // native-tls has it parse the file of all of them for each connector: 50 ms and 2 MB for every login.
    trying("choose the certificates", process::set_variable("SSL_CERT_FILE", "/dev/null"))?;
    let handle = Handle::new(&trying("draw a random handle", random::bytes())?, session);
    // As root: whoever connects can see that it was root who listened.
    let listener = trying("listen for the claim", socket::listen_abstract(&handle.socket_name()))?;
    let admin = trying("listen for root", socket::listen_abstract(&handle.admin_socket_name()))?;
    trying("listen for root", socket::set_nonblocking(&admin))?;
    let meter = Meter::open();
    let rights = Rights::of_this_process();
    let user = trying("look up the user _jupyterhub-openssh", rights.system_user(GATEWAY_USER))?;
    let stdin = trying("keep standard input", io::stdin().as_fd().try_clone_to_owned())?;
    trying("go to the background", process::daemonize_keeping_stdout())?;

    // While we are root: whom a token is made for is not for the gateway to say.
    let keeper = match by {
        By::Token => None,
        By::Key => {
            let text = trying("read the request", read_request(&stdin))?;
            let login = match request::parse_key(&text, handle.session_id()) {
                Ok(login) => login,
                Err(bad) => {
                    login::not_understood(&bad, handle.session_id());
                    return Ok(());
                }
            };
            let keeper =
                keeper::start(&login, rights, &context(&login.session, login.user.as_str(), &login.peer))?;
            Some((login, keeper))
        }
    };

    // After the last fork: a child would hold what is counted.
    let connections = Connections::open();
    // Still root, and already the process that will hold the token: locks are not inherited by fork(2).
    let locked = process::lock_memory();
    trying("drop root", rights.give_up(user))?;
    trying("harden the process", process::harden())?;
    let to_swap = locked.err().filter(|_| has_swap());
    // The last that is read of this host at will: from here on only what it names, and what a look-up of a name needs.
    let config = Config::load().and_then(|config| rights.suit(&config).map(|()| config));
    let confined = trying("confine the process", sandbox::confine(&sandbox::reach_of(&config)))?;

    let terminated = trying("watch for SIGTERM", termination())?;
    let asked = match keeper {
        Some((login, keeper)) => Asked::Key(login, keeper),
        None => Asked::Token(trying("read the request", read_request(&stdin))?),
    };
    drop(stdin);
    let Some(granted) = login::check(asked, config, &handle, meter, &connections) else { return Ok(()) };
    // The keeper is held to the end: all terminals are closed by then.
    let login::Granted { mut log, access, peer, groups, keeper: _keeper } = granted;
    // sshd and the jail are at work now: the hub makes it meanwhile. Where this host serves files, many a connection is
    // for these alone and never meets the server: then it is made when it is needed.
    if !access.config().serves_homes() {
        access.prepare_server_token();
    }
    confined.tell(&mut log);
    if let Some(e) = to_swap {
        let problem = format_args!("memory could not be locked ({e}): tokens may reach this host's swap");
        log.warning(Line::of(Event::Fault, problem));
    }
    let expected = claim::Expected { handle: &handle, user: access.login().as_str(), owner: rights.owner() };
    match claim::wait(&listener, terminated.as_fd(), &expected, groups, &mut log) {
        Ok(claimed) => {
            let about = serve::About { session: handle.session_id().to_owned(), peer };
            // Nobody else is to come; the name vanishes with its last descriptor.
            drop((listener, handle));
            let admin = Admin::new(admin, rights.owner());
            let kept = serve::Kept { admin, connections, terminated };
            serve::serve(claimed, kept, about, access.clone(), &mut log);
        }
        Err(why @ (Unclaimed::Nobody | Unclaimed::AskedToEnd)) => {
            log.info(Line::new(Event::SessionFailed).with("reason", why));
        }
        Err(why) => log.error(Line::new(Event::SessionFailed).with("reason", why)),
    }
    access.give_server_token_back(&mut log);
    Ok(())
}

/// SIGTERM as something to poll, for this thread and those that it starts: whoever ends us (a package's removal, a
/// shutdown) gives us the time to close the terminals that we have opened.
fn termination() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Does this host swap? (proc(5): a header, then a line for each area.)
fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|areas| areas.lines().count() > 1)
}

/// What starts each line of the log about a login.
fn context<'a>(session: &'a str, user: &'a str, peer: &'a str) -> [(&'static str, &'a str); 3] {
    [("session", session), ("user", user), ("peer", peer)]
}

fn read_request(stdin: &OwnedFd) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserved in advance: a vector that grows would leave copies of the token behind.
    let mut text = Zeroizing::new(Vec::with_capacity(request::MAX_REQUEST + 1));
    File::from(stdin.try_clone()?).take(request::MAX_REQUEST as u64 + 1).read_to_end(&mut text)?;
    if text.len() > request::MAX_REQUEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "request is too long"));
    }
    Ok(text)
}

/// The one line that answers the PAM module.
fn answer(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(line.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    process::discard_stdout()
}
