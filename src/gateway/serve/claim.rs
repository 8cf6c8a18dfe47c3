//! Waiting for the session that sshd has granted to take this gateway over.

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

/// How long a claim may be in coming. sshd opens the session at once after the token was accepted;
/// a client that never gets there must not leave gateways behind for long.
pub const CLAIM_TIME: Duration = Duration::from_secs(20);
/// A claimant has this long to speak, so that none can keep the true one waiting.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the jail may take to attach the home and report: more than its own deadlines.
const REPORT_TIME: Duration = Duration::from_secs(10);

/// A gateway that belongs to a session.
pub struct Claimed {
    /// Held open by the jail for as long as sshd lives; its end is the session's end.
    pub claim: OwnedFd,
    /// Where the session's programs connect.
    pub sessions: OwnedFd,
    /// What is written to the jail's /dev/log.
    pub transfers: OwnedFd,
    /// The only uid welcome among the sessions.
    pub uid: u32,
    /// What became of the home.
    pub home: HomeState,
}

/// Why a gateway has nobody to serve.
#[derive(Debug)]
pub enum Unclaimed {
    /// Nobody came in time.
    Nobody,
    /// We were asked to end.
    AskedToEnd,
    /// The owner came and did not go through with it. There is only one jail for each login.
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

/// The only claim that is taken.
pub struct Expected<'a> {
    /// With its secret.
    pub handle: &'a Handle,
    /// For the user whom we verified.
    pub user: &'a str,
    /// From this uid: sshd's, which is root's.
    pub owner: u32,
}

/// Waits up to [`CLAIM_TIME`] for the expected claim, and then for the jail's report. `groups` is
/// what the jail is told.
///
/// # Errors
/// [`Unclaimed`]. The attempt of anybody but the owner is refused and forgotten; the first is
/// logged.
pub fn wait(
    listener: &OwnedFd,
    terminated: BorrowedFd<'_>,
    expected: &Expected<'_>,
    groups: Vec<String>,
    log: &mut Log,
) -> Result<Claimed, Unclaimed> {
    let until = Instant::now() + CLAIM_TIME;
    // One of those who are not the owner has been logged: anybody may come as often as they like.
    let mut told = false;
    socket::set_nonblocking(listener)?;
    loop {
        match readable_before(&[listener.as_fd(), terminated], until)? {
            None => return Err(Unclaimed::Nobody),
            Some(1) => return Err(Unclaimed::AskedToEnd),
            // Somebody who keeps knocking keeps no gateway.
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
                // The claimant may have gone: its loss.
                let _ = reply(&claim, &ClaimReply::Refused(refused.why));
                if refused.by_owner {
                    return Err(Unclaimed::JailFailed("could not be built"));
                }
            }
        }
    }
}

/// Waits for the jail to say that it is complete.
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

/// What an administrator should know of the jail.
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

/// A claim that is not taken.
struct Refused {
    by_owner: bool,
    why: String,
}

/// A claim that is taken.
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
