//! The client's terminal: raw mode and back, and its size.

use crate::control::WindowSize;
use nix::sys::termios::{self, SetArg, Termios};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

mod request {
    #![allow(unsafe_code, missing_docs)]
    nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
}

/// Puts a terminal into raw mode (termios(3), cfmakeraw) and back when dropped.
pub struct RawMode<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Switches `fd` to raw mode at once, keeping what was typed ahead.
    ///
    /// # Errors
    /// The system's; `ENOTTY` when `fd` is no terminal.
    pub fn enter(fd: BorrowedFd<'a>) -> io::Result<Self> {
        let before = termios::tcgetattr(fd)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(fd, SetArg::TCSANOW, &raw)?;
        Ok(Self { fd, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // TCSANOW, not TCSADRAIN: a client that has stopped reading must not hold up the end. It may be
        // gone altogether (EIO): nothing to restore then.
        let _ = termios::tcsetattr(self.fd, SetArg::TCSANOW, &self.before);
    }
}

/// The window's size as the ssh client last told sshd. A client that sent none, or zero, gets 24 × 80.
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
