//! The client's terminal: raw mode and back, its size, and its modes.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::unistd::read;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use wire::session::WindowSize;

mod modes;

mod request {
    #![allow(unsafe_code, missing_docs)]
    nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
}

/// Puts a terminal into raw mode (termios(3), cfmakeraw), and back when dropped.
pub struct RawMode<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Switches `fd` to raw mode at once. Also returns what was typed before, which the terminal
    /// may have echoed. Anything beyond [`MAX_TYPED`] bytes stays to be read.
    ///
    /// # Errors
    /// The terminal's modes cannot be read or set; `ENOTTY` if `fd` is not a terminal.
    pub fn enter(fd: BorrowedFd<'a>) -> io::Result<(Self, Vec<u8>)> {
        let before = termios::tcgetattr(fd)?;
        let mut typed = if before.local_flags.contains(LocalFlags::ICANON) {
            take_lines(fd, before.control_chars.get(SpecialCharacterIndices::VEOF as usize).copied())?
        } else {
            Vec::new()
        };
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(fd, SetArg::TCSANOW, &raw)?;
        let entered = Self { fd, before };
        // An incomplete line.
        let mut buffer = [0; MAX_TYPED];
        let left = buffer.get_mut(..MAX_TYPED - typed.len()).unwrap_or_default();
        let rest = take_now(fd, left)?.unwrap_or(0);
        typed.extend_from_slice(left.get(..rest).unwrap_or_default());
        Ok((entered, typed))
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // TCSANOW, not TCSADRAIN: a client that has stopped reading must not delay the end. If the
        // terminal is gone (EIO), there is nothing to restore.
        let _ = termios::tcsetattr(self.fd, SetArg::TCSANOW, &self.before);
    }
}

/// Most bytes of typed input that a terminal buffers (n_tty.c, `N_TTY_BUF_SIZE`).
pub const MAX_TYPED: usize = 4096;

/// Takes whole lines that were typed ahead, while `fd` is still in canonical mode (termios(3)):
/// there an end of file (Ctrl-D) is a mark and not a byte, and raw mode would turn it into a NUL.
/// It is returned as the byte that was typed, `end`.
fn take_lines(fd: BorrowedFd<'_>, end: Option<u8>) -> io::Result<Vec<u8>> {
    let mut typed = Vec::new();
    let mut buffer = [0; MAX_TYPED];
    while typed.len() < MAX_TYPED {
        let left = buffer.get_mut(..MAX_TYPED - typed.len()).unwrap_or_default();
        let Some(n) = take_now(fd, left)? else { break };
        let line = left.get(..n).unwrap_or_default();
        typed.extend_from_slice(line);
        // A line without a line feed was ended by that mark, and the read consumed both.
        if !line.ends_with(b"\n") && n < left.len() {
            typed.extend(end);
        }
    }
    Ok(typed)
}

/// Reads what is available now; `None` if nothing is.
fn take_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
        match read(fd, buffer) {
            Ok(n) => return Ok(Some(n)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Returns the window's size as the ssh client last told sshd; 24 × 80 if it sent none, or zero.
#[must_use]
#[allow(unsafe_code)]
pub fn window_size(fd: BorrowedFd<'_>) -> WindowSize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ (ioctl_tty(2)) fills the struct that we own; `fd` is open while borrowed.
    let known = unsafe { request::window_size(fd.as_fd().as_raw_fd(), &raw mut size) }.is_ok();
    if known && size.ws_row > 0 && size.ws_col > 0 {
        WindowSize { rows: size.ws_row, cols: size.ws_col }
    } else {
        WindowSize { rows: 24, cols: 80 }
    }
}

/// Returns the terminal's modes, as opcodes and values of RFC 4254, section 8; empty if `fd` is not
/// a terminal.
#[must_use]
pub fn modes(fd: BorrowedFd<'_>) -> Vec<(u8, u32)> {
    termios::tcgetattr(fd).map(|found| modes::encode(&found.into())).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::pty::openpty;

    #[test]
    fn raw_and_back_with_the_modes_as_they_were() {
        let pty = openpty(None, None).unwrap();
        let before = modes(pty.slave.as_fd());
        // ISIG, ICANON and ECHO are on in a new terminal (tty_std_termios).
        assert!([50, 51, 53].iter().all(|mode| before.contains(&(*mode, 1))), "{before:?}");
        let (raw, _) = RawMode::enter(pty.slave.as_fd()).unwrap();
        assert!([50, 51, 53].iter().all(|mode| modes(pty.slave.as_fd()).contains(&(*mode, 0))));
        drop(raw);
        assert_eq!(modes(pty.slave.as_fd()), before);
    }

    /// Returns what raw mode finds after this was typed on the master's side.
    fn typed(master: &[&[u8]]) -> Vec<u8> {
        let pty = openpty(None, None).unwrap();
        for bytes in master {
            nix::unistd::write(&pty.master, bytes).unwrap();
        }
        RawMode::enter(pty.slave.as_fd()).unwrap().1
    }

    #[test]
    fn what_was_typed_ahead_is_taken_with_its_ends_of_file() {
        assert_eq!(typed(&[]), b"");
        assert_eq!(typed(&[b"one\ntwo\n\x04half\x04rest"]), b"one\ntwo\n\x04half\x04rest");
        assert_eq!(typed(&[b"rest"]), b"rest");
        assert_eq!(typed(&[b"\x04"]), b"\x04");
        // Input beyond a terminal's buffer is lost before it reaches us, as with any sshd.
        assert_eq!(typed(&[&[b'x'; 3000], b"\n"]).len(), 3001);
    }

    #[test]
    fn a_terminal_that_is_raw_has_no_ends_of_file() {
        let pty = openpty(None, None).unwrap();
        let (_raw, _) = RawMode::enter(pty.slave.as_fd()).unwrap();
        nix::unistd::write(&pty.master, b"one\ntwo\x04").unwrap();
        assert_eq!(RawMode::enter(pty.slave.as_fd()).unwrap().1, b"one\ntwo\x04");
    }

    #[test]
    fn what_is_no_terminal_has_no_modes() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(modes(file.as_fd()), []);
        assert_eq!(window_size(file.as_fd()), WindowSize { rows: 24, cols: 80 });
        assert!(RawMode::enter(file.as_fd()).is_err());
    }
}
