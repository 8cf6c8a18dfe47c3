//! `SOCK_SEQPACKET` unix sockets: one packet is one message, with descriptors and the other end's
//! credentials.

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType,
    UnixAddr, UnixCredentials, accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, setsockopt,
    shutdown, socket, socketpair, sockopt,
};
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Listens on an abstract name (unix(7)): nothing is left on disk, and it ends with the last
/// descriptor.
///
/// # Errors
/// The socket cannot be made; `EADDRINUSE` if another process has the name.
pub fn listen_abstract(name: &[u8]) -> io::Result<OwnedFd> {
    let fd = seqpacket()?;
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    listen(&fd, Backlog::new(8)?)?;
    Ok(fd)
}

/// Connects to an abstract name. Check [`peer`]: any process may listen on a name that has become
/// free.
///
/// # Errors
/// The connection cannot be made; `ECONNREFUSED` if nobody listens.
pub fn connect_abstract(name: &[u8]) -> io::Result<OwnedFd> {
    let fd = seqpacket()?;
    connect(fd.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    Ok(fd)
}

/// Connects to an abstract name without ever waiting: `WouldBlock` if the listener is not
/// accepting.
///
/// # Errors
/// The same as for [`connect_abstract`].
pub fn connect_abstract_at_once(name: &[u8]) -> io::Result<OwnedFd> {
    let fd = seqpacket()?;
    set_nonblocking(&fd)?;
    connect(fd.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    Ok(fd)
}

/// Listens on a path that belongs to `uid` with permission bits `mode`.
///
/// # Errors
/// The socket cannot be made; the path must not exist.
pub fn listen_path(path: &Path, mode: u32, uid: u32) -> io::Result<OwnedFd> {
    let fd = seqpacket()?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    give(path, mode, uid)?;
    // Listening starts last: until here connecting is refused.
    listen(&fd, Backlog::new(16)?)?;
    Ok(fd)
}

/// Makes a datagram socket at a path that belongs to `uid` with permission bits `mode`: what
/// syslog(3) writes to.
///
/// # Errors
/// The socket cannot be made; the path must not exist.
pub fn datagram_path(path: &Path, mode: u32, uid: u32) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    give(path, mode, uid)?;
    Ok(fd)
}

fn give(path: &Path, mode: u32, uid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), None)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Makes two sockets that are connected to each other.
///
/// # Errors
/// socketpair(2) fails.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Connects to a path.
///
/// # Errors
/// The connection cannot be made.
pub fn connect_path(path: &Path) -> io::Result<OwnedFd> {
    let fd = seqpacket()?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Accepts one connection. The new descriptor is non-blocking.
///
/// # Errors
/// accept4(2) fails; `WouldBlock` on a non-blocking listener if nobody connects.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    Ok(own(raw))
}

/// Takes ownership of a descriptor that the kernel has just given to us.
#[allow(unsafe_code)]
fn own(raw: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: `raw` comes straight from a successful accept4 or SCM_RIGHTS: open, and nobody
    // else's.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Returns the credentials of the other end: for a connection to a listener, of the process that
/// called listen(2).
///
/// # Errors
/// getsockopt(2) fails.
pub fn peer(fd: BorrowedFd<'_>) -> io::Result<UnixCredentials> {
    Ok(getsockopt(&fd, sockopt::PeerCredentials)?)
}

/// Sends one packet with descriptors. Never raises SIGPIPE.
///
/// # Errors
/// sendmsg(2) fails; `WouldBlock` if the other end doesn't read.
pub fn send(fd: BorrowedFd<'_>, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<_> = descriptors.iter().map(|d| d.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(message)], control, MsgFlags::MSG_NOSIGNAL, None) {
            // SEQPACKET sends a packet whole or not at all.
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Makes sure that a packet of `bytes` can be sent: a whole one must fit the socket's buffer
/// (socket(7), SO_SNDBUF), whose default an administrator may have made small.
///
/// # Errors
/// The buffer's size cannot be read or set.
pub fn make_room(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    // What the kernel adds to each packet counts as well.
    let wanted = bytes.saturating_add(4096);
    if getsockopt(&fd, sockopt::SndBuf)? < wanted {
        setsockopt(&fd, sockopt::SndBuf, &wanted)?;
    }
    Ok(())
}

/// Receives one packet and at most `max_descriptors` descriptors. 0 bytes mean that the other end
/// has closed.
///
/// # Errors
/// recvmsg(2) fails; `InvalidData` if the packet or its descriptors did not fit (extra ones are
/// closed).
pub fn recv(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    max_descriptors: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([std::os::fd::RawFd; 8]);
    let mut descriptors = Vec::new();
    let (bytes, flags) = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        match recvmsg::<()>(fd.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => {
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raws) = control {
                        descriptors.extend(raws.into_iter().map(own));
                    }
                }
                break (message.bytes, message.flags);
            }
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || descriptors.len() > max_descriptors {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message or descriptors larger than agreed"));
    }
    Ok((bytes, descriptors))
}

/// Ends a connection in both directions while its descriptor stays open: the other end notices at
/// once.
///
/// # Errors
/// shutdown(2) fails; `NotConnected` if the other end is gone.
pub fn hang_up(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(shutdown(fd.as_raw_fd(), Shutdown::Both)?)
}

/// True if the other end of a connection, or of a pipe that we write to, has been closed; false if
/// only one direction of a connection has.
#[must_use]
pub fn is_closed_there(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds.iter().filter_map(PollFd::revents).any(|found| found.intersects(closed))
}

/// Makes a descriptor non-blocking.
///
/// # Errors
/// fcntl(2) fails.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn only_what_is_closed_altogether_is_closed() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert!(!is_closed_there(writer.as_fd()));
        drop(reader);
        assert!(is_closed_there(writer.as_fd()));
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        there.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!is_closed_there(here.as_fd()));
        drop(there);
        assert!(is_closed_there(here.as_fd()));
    }

    #[test]
    fn the_longest_command_is_one_packet() {
        use wire::session::MAX_COMMAND;
        let (here, there) = pair().unwrap();
        setsockopt(&here, sockopt::SndBuf, &4096).unwrap();
        let command = vec![b'x'; MAX_COMMAND];
        let why = send(here.as_fd(), &command, &[]).unwrap_err();
        assert_eq!(why.raw_os_error(), Some(libc::EMSGSIZE));
        make_room(here.as_fd(), MAX_COMMAND).unwrap();
        // After another message that nobody has read yet.
        send(here.as_fd(), b"length", &[]).unwrap();
        send(here.as_fd(), &command, &[]).unwrap();
        let mut buffer = vec![0; MAX_COMMAND];
        assert_eq!(recv(there.as_fd(), &mut buffer, 0).unwrap().0, 6);
        assert_eq!(recv(there.as_fd(), &mut buffer, 0).unwrap().0, MAX_COMMAND);
    }

    #[test]
    fn a_packet_carries_descriptors_and_the_peer_is_known() {
        let name = format!("jupyterhub-openssh-test/{}", std::process::id());
        let listener = listen_abstract(name.as_bytes()).unwrap();
        let client = connect_abstract(name.as_bytes()).unwrap();
        let server = accept(listener.as_fd()).unwrap();
        assert_eq!(peer(server.as_fd()).unwrap().pid(), nix::unistd::getpid().as_raw());

        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (mut reader, writer) = (std::fs::File::from(reader), std::fs::File::from(writer));
        send(client.as_fd(), b"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (n, mut fds) = recv(server.as_fd(), &mut buffer, 1).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"hello"[..], 1));
        std::fs::File::from(fds.pop().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");

        send(client.as_fd(), &[b'a'; 17], &[]).unwrap();
        assert_eq!(recv(server.as_fd(), &mut buffer, 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        send(client.as_fd(), b"y", &[client.as_fd(), client.as_fd()]).unwrap();
        assert_eq!(recv(server.as_fd(), &mut buffer, 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(client);
        assert_eq!(recv(server.as_fd(), &mut buffer, 1).unwrap().0, 0);
    }
}
