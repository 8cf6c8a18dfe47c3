//! The session program's end of the socket to its gateway.

use common::paths::{CHANNELS_SOCKET_PREFIX, CHANNELS_VARIABLE, GATEWAY_SOCKET};
use host::sandbox::Reach;
use host::sys::socket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::MAX_MESSAGE;
use wire::session::{SessionReply, SessionRequest};

/// How long the gateway may take to answer a question. It asks nobody for the answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a channel could not be served. Display is for the user: what happened, what to do.
#[derive(Debug)]
pub enum Broken {
    /// The gateway's socket is missing or refuses: there is no jail, or the gateway is gone.
    NoGateway(io::Error),
    /// The gateway went away while the channel was open.
    GatewayLost,
    /// The gateway is there, but does not answer.
    NoAnswer,
    /// A system call failed that never should.
    System(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGateway(e) => write!(
                f,
                "This host has no connection to your Jupyter server ({e}).\n\
                 Log in again; if it happens again, tell the administrator of this host."
            ),
            Self::GatewayLost => f.write_str(
                "This host's connection to your Jupyter server has ended unexpectedly.\n\
                 Log in again. Your terminal may still be listed under \"Running\" in Jupyter.",
            ),
            Self::NoAnswer => write!(
                f,
                "This host did not answer within {} s.\n\
                 Log in again; if it happens again, tell the administrator of this host.",
                ANSWER.as_secs()
            ),
            Self::System(e) => write!(
                f,
                "The session could not go on: {e}.\nLog in again; if it happens again, tell the administrator."
            ),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

impl From<Errno> for Broken {
    fn from(e: Errno) -> Self {
        Self::System(e.into())
    }
}

/// One channel's connection to the gateway.
pub struct Gateway(OwnedFd);

impl Gateway {
    /// Connects to the gateway.
    ///
    /// # Errors
    /// [`Broken::NoGateway`]: its socket is missing or refuses.
    pub fn connect() -> Result<Self, Broken> {
        // In a jail only this path counts, whatever the environment says.
        let jail = socket::connect_path(Path::new(GATEWAY_SOCKET));
        let connected = match (jail, std::env::var(CHANNELS_VARIABLE)) {
            (Err(e), Ok(name)) if e.kind() == io::ErrorKind::NotFound => without_jail(&name),
            (jail, _) => jail,
        };
        connected.map(Self).map_err(Broken::NoGateway)
    }

    /// Sends a request, with descriptors.
    ///
    /// # Errors
    /// [`Broken`] if a system call fails. A gateway that is gone is no error here: its last message
    /// may still be waiting.
    pub fn say(&self, request: &SessionRequest, descriptors: &[BorrowedFd<'_>]) -> Result<(), Broken> {
        self.send(&serde_json::to_vec(request).map_err(|e| Broken::System(e.into()))?, descriptors)
    }

    /// Sends a packet of plain bytes.
    ///
    /// # Errors
    /// As for [`Gateway::say`].
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), Broken> {
        socket::make_room(self.0.as_fd(), bytes.len())?;
        self.send(bytes, &[])
    }

    fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Broken> {
        match socket::send(self.0.as_fd(), packet, descriptors) {
            // Reset: it left something unread. What it said before can still be read.
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Waits for the gateway's next message.
    ///
    /// # Errors
    /// [`Broken::GatewayLost`] after its last message; [`Broken::System`] for one that is not
    /// understood.
    pub fn hear(&self) -> Result<SessionReply, Broken> {
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            return match socket::recv(self.0.as_fd(), &mut buffer, 0) {
                Ok((0, _)) => Err(Broken::GatewayLost),
                Ok((n, _)) => serde_json::from_slice(buffer.get(..n).unwrap_or_default())
                    .map_err(|e| Broken::System(e.into())),
                // A socket reports its error once, before what is still to be read (unix(7)).
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => continue,
                Err(e) => Err(e.into()),
            };
        }
    }

    /// Sends a question that the gateway answers at once, and waits for the answer.
    ///
    /// # Errors
    /// [`Broken`]: the gateway is gone, or does not answer in time.
    pub fn request(&self, request: &SessionRequest) -> Result<SessionReply, Broken> {
        self.say(request, &[])?;
        let until = Instant::now() + ANSWER;
        loop {
            let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()));
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left.unwrap_or(PollTimeout::MAX)) {
                Ok(0) => return Err(Broken::NoAnswer),
                Ok(_) => return self.hear(),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Connects to the gateway where sshd and this program run as the same ordinary user.
fn without_jail(name: &str) -> io::Result<OwnedFd> {
    let socket = socket::connect_abstract(format!("{CHANNELS_SOCKET_PREFIX}{name}").as_bytes())?;
    // Any process may listen on a name of this shape; ours listens as the user who runs this.
    if socket::peer(socket.as_fd())?.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Instead of a jail: from here on open no file, connect to no other gateway, signal nobody.
    Reach::nothing().enforce()?;
    Ok(socket)
}

impl AsFd for Gateway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
impl From<OwnedFd> for Gateway {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reply(there: &OwnedFd, reply: &SessionReply) {
        socket::send(there.as_fd(), &serde_json::to_vec(reply).unwrap(), &[]).unwrap();
    }

    /// The gateway closes without reading our message: what it said before is still heard.
    #[test]
    fn the_last_word_is_heard() {
        let (here, there) = socket::pair().unwrap();
        let gateway = Gateway::from(here);
        gateway.say(&SessionRequest::Signal { name: "TERM".into() }, &[]).unwrap();
        let end = SessionReply::Exit { status: 7, message: None };
        reply(&there, &end);
        drop(there);
        gateway.say(&SessionRequest::Signal { name: "TERM".into() }, &[]).unwrap();
        assert_eq!(gateway.hear().unwrap(), end);
        assert!(matches!(gateway.hear(), Err(Broken::GatewayLost)));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let (here, there) = socket::pair().unwrap();
        socket::send(there.as_fd(), b"{\"exec\":1}", &[]).unwrap();
        assert!(matches!(Gateway::from(here).hear(), Err(Broken::System(_))));
    }

    #[test]
    fn a_question_is_answered() {
        let (here, there) = socket::pair().unwrap();
        reply(&there, &SessionReply::Elsewhere);
        let answer = Gateway::from(here).request(&SessionRequest::Signal { name: "TERM".into() });
        assert_eq!(answer.unwrap(), SessionReply::Elsewhere);
    }

    #[test]
    fn without_a_jail_a_session_reaches_its_gateway_and_nothing_else() {
        use host::sys::process::{harden, in_child};
        assert!(in_child(|| {
            let name = std::process::id().to_string();
            let [own, others] =
                ["", "x"].map(|end| format!("{CHANNELS_SOCKET_PREFIX}{name}{end}").into_bytes());
            let _listening = [&own, &others].map(|name| socket::listen_abstract(name).unwrap());
            harden().unwrap();
            drop(without_jail(&name).unwrap());
            let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
            let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
            let kernel: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            // As far as this kernel supports Landlock.
            if Reach::nothing().enforce().unwrap() {
                assert!(std::fs::File::open("/etc/passwd").is_err());
                assert_eq!(socket::connect_abstract(&others).is_err(), kernel >= (6, 12));
            }
        }));
    }

    #[test]
    fn every_fault_has_two_lines() {
        let error = || io::Error::from(io::ErrorKind::NotFound);
        for broken in
            [Broken::NoGateway(error()), Broken::GatewayLost, Broken::NoAnswer, Broken::System(error())]
        {
            assert_eq!(broken.to_string().lines().count(), 2, "{broken}");
        }
    }
}
