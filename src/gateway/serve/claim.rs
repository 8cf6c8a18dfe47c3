//! Waits until the jail claims this gateway for the connection that sshd has accepted.

use host::log::{Event, Line, Log};
use host::sys::socket;
use host::sys::wait::readable_before;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::MAX_MESSAGE;
use wire::claim::{ClaimReply, ClaimRequest, HomeState, JailReport};
use wire::handle::Handle;

/// How long to wait for a claim. sshd opens the session right after the token was accepted; a
/// client that never gets there must not leave gateways behind for long.
pub const CLAIM_TIME: Duration = Duration::from_secs(20);
/// How long a claimant may take to send its claim, so that none keeps the right one waiting.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the jail may take to attach the home and report: longer than its own deadlines.
const REPORT_TIME: Duration = Duration::from_secs(10);

/// A gateway that serves a connection.
pub struct Claimed {
    /// The jail keeps it open as long as sshd lives; when it closes, the connection is over.
    pub claim: OwnedFd,
    /// The socket to which session programs connect.
    pub sessions: OwnedFd,
    /// Reads what is written to the jail's /dev/log.
    pub transfers: OwnedFd,
    /// The only uid that may connect as a session program.
    pub uid: u32,
    /// Whether the home is there.
    pub home: HomeState,
}

/// Why a gateway has no connection to serve.
#[derive(Debug)]
pub enum Unclaimed {
    /// No claim came in time.
    Nobody,
    /// The gateway was asked to end.
    AskedToEnd,
    /// The owner claimed it and did not go through with it. Each login gets one jail only.
    JailFailed(&'static str),
    /// A system call failed.
    System(io::Error),
}

impl From<io::Error> for Unclaimed {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

impl fmt::Display for Unclaimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("login was not completed: nobody claimed it"),
            Self::AskedToEnd => f.write_str("login was given up: asked to end"),
            Self::JailFailed(how) => write!(f, "login was given up: its jail {how}"),
            Self::System(e) => write!(f, "could not be claimed: {e}"),
        }
    }
}

/// The claim that is accepted.
pub struct Expected<'a> {
    /// Its secret must be this handle's.
    pub handle: &'a Handle,
    /// It must name the user whom this gateway has verified.
    pub user: &'a str,
    /// It must come from this uid: sshd's, which is root.
    pub owner: u32,
}

/// Waits up to [`CLAIM_TIME`] for the expected claim, and then for the jail's report. `groups` goes
/// to the jail.
///
/// A claim by anybody but the owner is refused and forgotten; the first such claim is logged.
///
/// # Errors
/// [`Unclaimed`]: there is nothing to serve.
pub fn wait(
    listener: &OwnedFd,
    terminated: BorrowedFd<'_>,
    expected: &Expected<'_>,
    groups: Vec<String>,
    log: &mut Log,
) -> Result<Claimed, Unclaimed> {
    let until = Instant::now() + CLAIM_TIME;
    // Log one stranger only: anybody may connect any number of times.
    let mut told = false;
    socket::set_nonblocking(listener)?;
    loop {
        match readable_before(&[listener.as_fd(), terminated], until)? {
            None => return Err(Unclaimed::Nobody),
            Some(1) => return Err(Unclaimed::AskedToEnd),
            // Strangers who keep connecting must not keep the gateway alive.
            Some(_) if Instant::now() >= until => return Err(Unclaimed::Nobody),
            Some(_) => {}
        }
        let claim = match socket::accept(listener.as_fd()) {
            Ok(claim) => claim,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e.into()),
        };
        match examine(&claim, expected) {
            Ok(Claim { sessions, transfers, uid }) => {
                socket::set_nonblocking(&sessions)?;
                socket::set_nonblocking(&transfers)?;
                reply(&claim, &ClaimReply::Claimed { groups })?;
                let report = report(&claim, terminated, Instant::now() + REPORT_TIME)?;
                note(&report, uid, log);
                return Ok(Claimed { claim, sessions, transfers, uid, home: report.home });
            }
            Err(refused) => {
                if refused.by_owner || !std::mem::replace(&mut told, true) {
                    log.warning(
                        Line::new(Event::Denied).with("socket", "claim").with("reason", &refused.why),
                    );
                }
                // The claimant may be gone already; that is its problem.
                let _ = reply(&claim, &ClaimReply::Refused(refused.why));
                if refused.by_owner {
                    return Err(Unclaimed::JailFailed("could not be built"));
                }
            }
        }
    }
}

/// Waits until the jail reports that it is complete.
fn report(claim: &OwnedFd, terminated: BorrowedFd<'_>, until: Instant) -> Result<JailReport, Unclaimed> {
    match readable_before(&[claim.as_fd(), terminated], until)? {
        None => return Err(Unclaimed::JailFailed("was not ready in time")),
        Some(1) => return Err(Unclaimed::AskedToEnd),
        Some(_) => {}
    }
    let mut buffer = [0; MAX_MESSAGE];
    match socket::recv(claim.as_fd(), &mut buffer, 0) {
        Ok((0, _)) => Err(Unclaimed::JailFailed("could not be built")),
        Ok((length, _)) => serde_json::from_slice(buffer.get(..length).unwrap_or_default())
            .map_err(|_| Unclaimed::JailFailed("sent a report that was not understood")),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
            Err(Unclaimed::JailFailed("could not be built"))
        }
        Err(e) => Err(e.into()),
    }
}

/// Logs what an administrator should know about the jail.
fn note(report: &JailReport, uid: u32, log: &mut Log) {
    if let HomeState::Unavailable { detail, .. } = &report.home {
        log.warning(Line::of(Event::Home, format_args!("the home is not available: {detail}")));
    }
    for note in &report.notes {
        log.warning(Line::of(Event::Home, note));
    }
    if !report.accounts.is_empty() {
        let accounts = report.accounts.join(" ");
        let line = Line::new(Event::Uid).with("uid", uid).with("accounts", accounts);
        log.warning(line.message(
            "these accounts of this host have the session's uid too: its files are theirs, and they can end it",
        ));
    }
}

/// Refuses a claim.
struct Refused {
    by_owner: bool,
    why: String,
}

/// Accepts a claim.
struct Claim {
    sessions: OwnedFd,
    transfers: OwnedFd,
    uid: u32,
}

/// Checks one claim.
fn examine(claim: &OwnedFd, expected: &Expected<'_>) -> Result<Claim, Refused> {
    let stranger = |why: String| Refused { by_owner: false, why };
    let peer = socket::peer(claim.as_fd()).map_err(|e| stranger(format!("its sender is not known: {e}")))?;
    if peer.uid() != expected.owner {
        let who = format!("it came from uid {}, process {}, not from sshd's", peer.uid(), peer.pid());
        return Err(stranger(who));
    }
    read_claim(claim, expected).map_err(|why| Refused { by_owner: true, why })
}

fn read_claim(claim: &OwnedFd, expected: &Expected<'_>) -> Result<Claim, String> {
    let Expected { handle, user, .. } = expected;
    if !matches!(readable_before(&[claim.as_fd()], Instant::now() + PATIENCE), Ok(Some(_))) {
        return Err("its sender said nothing".into());
    }
    let mut buffer = [0; MAX_MESSAGE];
    let (n, descriptors) =
        socket::recv(claim.as_fd(), &mut buffer, 2).map_err(|e| format!("it could not be read: {e}"))?;
    if n == 0 {
        return Err("its sender left without a word".into());
    }
    let request: ClaimRequest =
        serde_json::from_slice(&buffer[..n]).map_err(|e| format!("it was not understood: {e}"))?;
    if !handle.secret_is(&request.secret) {
        return Err("its secret is wrong".into());
    }
    if request.user != *user {
        return Err(format!("it is for user {}, the token was {user}'s", request.user));
    }
    let [sessions, transfers] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_| "it brought no session socket, or no log socket".to_owned())?;
    Ok(Claim { sessions, transfers, uid: request.uid })
}

fn reply(claim: &OwnedFd, reply: &ClaimReply) -> io::Result<()> {
    socket::send(claim.as_fd(), &serde_json::to_vec(reply)?, &[])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::sys::random;

    fn claim_with(message: &[u8], sockets: usize, owner: u32) -> Result<u32, String> {
        let handle = Handle::parse(&("a".repeat(32) + &"b".repeat(32))).unwrap();
        let name = Handle::new(&random::bytes().unwrap(), None).socket_name();
        let listener = socket::listen_abstract(&name).unwrap();
        let client = socket::connect_abstract(&name).unwrap();
        let server = socket::accept(listener.as_fd()).unwrap();
        socket::send(client.as_fd(), message, &vec![listener.as_fd(); sockets]).unwrap();
        let expected = Expected { handle: &handle, user: "alice", owner };
        examine(&server, &expected).map(|claim| claim.uid).map_err(|refused| refused.why)
    }

    fn message(secret: &str, user: &str) -> Vec<u8> {
        serde_json::to_vec(&ClaimRequest { secret: secret.into(), user: user.into(), uid: 1000 }).unwrap()
    }

    #[test]
    fn only_the_right_claim_is_taken() {
        let me = nix::unistd::getuid().as_raw();
        let secret = "b".repeat(32);
        assert_eq!(claim_with(&message(&secret, "alice"), 2, me), Ok(1000));
        let refused = |message: &[u8], sockets, owner, why: &str| {
            let got = claim_with(message, sockets, owner).unwrap_err();
            assert!(got.contains(why), "{got}");
        };
        refused(&message(&secret, "alice"), 2, me + 1, "not from sshd");
        refused(&message(&"a".repeat(32), "alice"), 2, me, "secret is wrong");
        refused(&message(&secret, "bob"), 2, me, "for user bob");
        refused(&message(&secret, "alice"), 0, me, "no session socket");
        refused(&message(&secret, "alice"), 1, me, "no session socket");
        refused(&message(&secret, "alice"), 3, me, "could not be read");
        refused(b"{}", 2, me, "not understood");
        refused(&[b'['; 10_000], 2, me, "not understood");
    }

    #[test]
    fn strangers_are_refused_and_logged_once() {
        let handle = Handle::new(&random::bytes().unwrap(), None);
        let listener = socket::listen_abstract(&handle.socket_name()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let logger = std::os::unix::net::UnixDatagram::bind(dir.path().join("log")).unwrap();
        let mut log = Log::at(&dir.path().join("log"));
        let strangers: Vec<_> =
            (0..5).map(|_| socket::connect_abstract(&handle.socket_name()).unwrap()).collect();
        let (asked_to_end, end) = nix::unistd::pipe().unwrap();
        let waiting = std::thread::spawn(move || {
            let owner = nix::unistd::getuid().as_raw() + 1;
            let expected = Expected { handle: &handle, user: "alice", owner };
            wait(&listener, asked_to_end.as_fd(), &expected, Vec::new(), &mut log).map(drop)
        });
        for stranger in &strangers {
            let length = socket::recv(stranger.as_fd(), &mut [0; 512], 0).unwrap().0;
            assert!(length > 0);
        }
        nix::unistd::write(&end, b"x").unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Unclaimed::AskedToEnd)));
        logger.set_nonblocking(true).unwrap();
        assert!(logger.recv(&mut [0; 2048]).is_ok());
        assert!(logger.recv(&mut [0; 2048]).is_err());
    }

    /// What comes of a report, of a jail that leaves, of none, of being asked to end.
    #[test]
    fn the_jail_reports_before_anybody_is_served() {
        let name = Handle::new(&random::bytes().unwrap(), None).socket_name();
        let listener = socket::listen_abstract(&name).unwrap();
        let (quiet, end) = nix::unistd::pipe().unwrap();
        let after = |message: Option<&[u8]>, terminated: BorrowedFd<'_>| {
            let jail = socket::connect_abstract(&name).unwrap();
            let claim = socket::accept(listener.as_fd()).unwrap();
            if let Some(message) = message {
                socket::send(jail.as_fd(), message, &[]).unwrap();
            }
            report(&claim, terminated, Instant::now() + Duration::from_millis(50))
        };
        let sent = JailReport {
            home: HomeState::Mounted,
            notes: vec!["a share is missing".to_owned()],
            accounts: vec!["debian".to_owned()],
        };
        let bytes = serde_json::to_vec(&sent).unwrap();
        assert_eq!(after(Some(&bytes), quiet.as_fd()).unwrap(), sent);
        let why = |result: Result<JailReport, Unclaimed>| result.unwrap_err().to_string();
        assert!(why(after(Some(b"{}"), quiet.as_fd())).contains("not understood"));
        assert!(why(after(None, quiet.as_fd())).contains("not ready in time"));
        drop(end);
        assert!(why(after(None, quiet.as_fd())).contains("asked to end"));
        let jail = socket::connect_abstract(&name).unwrap();
        let claim = socket::accept(listener.as_fd()).unwrap();
        drop(jail);
        assert!(
            why(report(&claim, listener.as_fd(), Instant::now() + PATIENCE)).contains("could not be built")
        );
    }
}
