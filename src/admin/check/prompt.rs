//! Asks for a token to try. On a terminal the token is not echoed; otherwise it is read from
//! standard input.

use host::secret::Token;
use host::sys::tty::RawMode;
use host::sys::wait::readable;
use nix::unistd::{isatty, read};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wire::token::MAX_TOKEN;
use zeroize::Zeroizing;

/// How long to wait for standard input that is not a terminal.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a person may take to paste a token.
const TYPING: Duration = Duration::from_secs(300);

/// What was typed.
#[derive(Debug)]
pub enum Typed {
    /// A token.
    Token(Token),
    /// Nothing, or Ctrl-C or Ctrl-D was typed.
    Nothing,
    /// Something that is not a token: why.
    Wrong(&'static str),
}

/// Shows a prompt and reads a token. The prompt goes to standard error, because standard output is
/// for the findings.
pub fn read_token(question: &str) -> Typed {
    let stdin = io::stdin();
    let fd = stdin.as_fd();
    let terminal = isatty(fd).unwrap_or(false);
    let mut line = Line::new();
    if !terminal {
        read_line(fd, &mut line, Instant::now() + PATIENCE);
        return line.typed();
    }
    let mut err = io::stderr();
    match RawMode::enter(fd) {
        Ok((raw, before)) => {
            let before = Zeroizing::new(before);
            let _ = write!(err, "{question}").and_then(|()| err.flush());
            if !before.iter().any(|byte| line.take(*byte)) {
                read_line(fd, &mut line, Instant::now() + TYPING);
            }
            drop(raw);
            let _ = writeln!(err);
        }
        // The echo cannot be switched off, so the token would be shown.
        Err(_) => line.broken = true,
    }
    line.typed()
}

/// Reads until the line or the input ends, or until `end`.
fn read_line(fd: BorrowedFd<'_>, line: &mut Line, end: Instant) {
    let mut byte = Zeroizing::new([0; 1]);
    while readable(fd, end).unwrap_or(false) {
        match read(fd, byte.as_mut_slice()) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if byte.first().is_some_and(|byte| line.take(*byte)) {
                    return;
                }
            }
        }
    }
}

/// A line that is being typed.
struct Line {
    /// Never longer than its first capacity: growing would leave copies of the token behind.
    text: Zeroizing<Vec<u8>>,
    too_long: bool,
    broken: bool,
}

impl Line {
    fn new() -> Self {
        Self { text: Zeroizing::new(Vec::with_capacity(MAX_TOKEN)), too_long: false, broken: false }
    }

    /// Takes a byte. Returns true if it ends the line.
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            b'\r' | b'\n' => return true,
            // Ctrl-C and Ctrl-D, which a raw terminal passes on as bytes.
            0x03 | 0x04 => {
                self.broken = true;
                return true;
            }
            0x08 | 0x7f => {
                self.text.pop();
            }
            // Ctrl-U erases the line.
            0x15 => self.text.clear(),
            _ if self.text.len() < MAX_TOKEN => self.text.push(byte),
            _ => self.too_long = true,
        }
        false
    }

    /// The token in the line, once the line has ended.
    fn typed(&self) -> Typed {
        let Ok(text) = std::str::from_utf8(&self.text) else { return Typed::Wrong("it is not text") };
        match text.trim_ascii() {
            _ if self.too_long => Typed::Wrong("it is too long for a token"),
            _ if self.broken => Typed::Nothing,
            "" => Typed::Nothing,
            text => Token::parse(text).map_or(Typed::Wrong("it holds what a token does not"), Typed::Token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Result<String, &'static str> {
        let mut line = Line::new();
        let _ = bytes.iter().any(|byte| line.take(*byte));
        match line.typed() {
            Typed::Token(token) => Ok(token.expose().to_owned()),
            Typed::Nothing => Err(""),
            Typed::Wrong(why) => Err(why),
        }
    }

    #[test]
    fn a_line_is_a_token_or_none() {
        assert_eq!(typed(b"secret\nmore").as_deref(), Ok("secret"));
        assert_eq!(typed(b" secret \r").as_deref(), Ok("secret"));
        assert_eq!(typed(b"wrong\x15secrex\x7ft\n").as_deref(), Ok("secret"));
        for nothing in [&b""[..], b"\n", b"   \n", b"secret\x03", b"secret\x04"] {
            assert_eq!(typed(nothing), Err(""));
        }
        assert!(typed(b"a b\n").is_err() && typed(b"\xff\n").is_err() && typed(b"\x1b[A\n").is_err());
        assert_eq!(typed(&vec![b'a'; MAX_TOKEN]).map(|text| text.len()), Ok(MAX_TOKEN));
        assert_eq!(typed(&vec![b'a'; MAX_TOKEN + 1]), Err("it is too long for a token"));
    }
}
