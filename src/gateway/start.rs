//! How a gateway starts: as root it makes its sockets and the keeper, then it gives up all that it
//! does not need, checks the login, waits for its claim, and serves.

use crate::connections::Connections;
use crate::login::{self, Proof, keeper, request};
use crate::process::{Failed, PROGRAM, context, termination, trying};
use crate::serve;
use crate::serve::admin::Admin;
use crate::serve::claim::{self, Unclaimed};
use common::paths::GATEWAY_USER;
use host::config::Config;
use host::counters::Meter;
use host::log::{Event, Line, Log};
use host::rights::Rights;
use host::sandbox;
use host::sys::{process, random, socket};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use wire::By;
use wire::handle::Handle;
use wire::login::MAX_REQUEST;
use zeroize::Zeroizing;

/// Runs a gateway. The PAM module starts it as sshd's user, root, with the request on standard
/// input; `session` is the login's name in the log.
///
/// Returns the exit status of the process that stays in the foreground.
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
    // OpenSSL then looks trusted certificates up by their hash in /etc/ssl/certs as they are
    // needed. Otherwise native-tls has it parse the file of all of them for each connector: 50 ms
    // and 2 MB for every login.
    trying("choose the certificates", process::set_variable("SSL_CERT_FILE", "/dev/null"))?;
    let handle = Handle::new(&trying("draw a random handle", random::bytes())?, session);
    // As root, so that whoever connects can see that root listened.
    let listener = trying("listen for the claim", socket::listen_abstract(&handle.socket_name()))?;
    let admin = trying("listen for root", socket::listen_abstract(&handle.admin_socket_name()))?;
    trying("listen for root", socket::set_nonblocking(&admin))?;
    let meter = Meter::open();
    let rights = Rights::of_this_process();
    let user = trying("look up the user _jupyterhub-openssh", rights.system_user(GATEWAY_USER))?;
    let stdin = trying("keep standard input", io::stdin().as_fd().try_clone_to_owned())?;
    trying("go to the background", process::daemonize_keeping_stdout())?;

    // Parse as root: a compromised gateway must not choose the user.
    let keeper = match by {
        By::Token => None,
        By::Key => {
            let text = trying("read the request", read_request(&stdin))?;
            let login = match request::parse_key(&text, handle.connection_id()) {
                Ok(login) => login,
                Err(bad) => {
                    login::not_understood(&bad, handle.connection_id());
                    return Ok(());
                }
            };
            let keeper =
                keeper::start(&login, rights, &context(&login.session, login.user.as_str(), &login.peer))?;
            Some((login, keeper))
        }
    };

    // After the last fork: a child would hold the lock that counts the connection.
    let connections = Connections::open();
    // Still root, and already the process that will hold the token: locks are not inherited by
    // fork(2).
    let locked = process::lock_memory();
    trying("drop root", rights.give_up(user))?;
    trying("harden the process", process::harden())?;
    let to_swap = locked.err().filter(|_| has_swap());
    // Last unrestricted read; the sandbox follows. It allows what the configuration names, and what
    // looking up a host name needs.
    let config = Config::load().and_then(|config| rights.suit(&config).map(|()| config));
    let confined = trying("confine the process", sandbox::confine(&sandbox::reach_of(&config)))?;

    let terminated = trying("watch for SIGTERM", termination())?;
    let asked = match keeper {
        Some((login, keeper)) => (login.user.to_string(), login.peer, Proof::Key(keeper)),
        None => match request::parse(&trying("read the request", read_request(&stdin))?) {
            Ok(login) => (login.user, login.peer, Proof::Token(login.token)),
            Err(bad) => {
                login::not_understood(&bad, handle.connection_id());
                return Ok(());
            }
        },
    };
    drop(stdin);
    let Some(granted) = login::check(asked, config, &handle, meter, &connections) else { return Ok(()) };
    // Keep the keeper to the end, when all terminals are closed: it revokes the token when we drop
    // it.
    let login::Granted { mut log, access, peer, groups, keeper: _keeper } = granted;
    // Have the server's token made while sshd and the jail are busy. Where this host serves files,
    // many connections are only for those and never reach the server: there it is made when it is
    // needed.
    if !access.config().serves_homes() {
        access.prepare_server_token();
    }
    confined.tell(&mut log);
    if let Some(e) = to_swap {
        log.warning(Line::of(
            Event::Fault,
            format_args!("memory could not be locked ({e}): tokens may reach this host's swap"),
        ));
    }
    let expected = claim::Expected { handle: &handle, user: access.login().as_str(), owner: rights.owner() };
    match claim::wait(&listener, terminated.as_fd(), &expected, groups, &mut log) {
        Ok(claimed) => {
            let about = serve::About { session: handle.connection_id().to_owned(), peer };
            // No second claim: the socket's name vanishes with its last descriptor.
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

/// True if this host has swap space. (proc(5): a header, then a line for each area.)
fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|areas| areas.lines().count() > 1)
}

fn read_request(stdin: &OwnedFd) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserve all of it: a vector that grows would leave copies of the token behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_REQUEST + 1));
    File::from(stdin.try_clone()?).take(MAX_REQUEST as u64 + 1).read_to_end(&mut text)?;
    if text.len() > MAX_REQUEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "request is too long"));
    }
    Ok(text)
}
