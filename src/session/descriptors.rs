//! Writes to standard output and error.
//!
//! The gateway may have made them non-blocking, for itself and for us: the flag belongs to the open
//! file, not to the descriptor (fcntl(2)).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long to wait for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes all bytes.
///
/// A client that is gone is an error, never a signal: every Rust program ignores SIGPIPE from its
/// start.
///
/// # Errors
/// The write failed, or nothing was read for [`PATIENCE`] (`TimedOut`).
pub fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    write_all_within(fd, bytes, PATIENCE)
}

fn write_all_within(fd: BorrowedFd<'_>, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    let mut until = Instant::now() + patience;
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                until = Instant::now() + patience;
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()));
                let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
                if poll(&mut fds, left.unwrap_or(PollTimeout::MAX)) == Ok(0) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use host::sys::socket::set_nonblocking;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_slow_reader_gets_everything() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        set_nonblocking(&writer).unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let (sent, reading) = (
            bytes.clone(),
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                let mut got = Vec::new();
                File::from(reader).read_to_end(&mut got).unwrap();
                got
            }),
        );
        write_all(writer.as_fd(), &sent).unwrap();
        drop(writer);
        assert_eq!(reading.join().unwrap(), bytes);
    }

    #[test]
    fn one_that_reads_nothing_is_left_and_one_that_has_gone_is_an_error() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        set_nonblocking(&writer).unwrap();
        let late = write_all_within(writer.as_fd(), &[0; 1 << 20], Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        drop(reader);
        assert_eq!(write_all(writer.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
