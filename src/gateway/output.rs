//! A bounded queue of bytes to the client's terminal, which never blocks on a client that does not
//! read.

use std::io::{self, Write};

/// With more bytes than this, the user's server is no longer read: it is told to stop.
pub const HIGH: usize = 256 * 1024;
/// With fewer bytes than this, reading goes on.
pub const LOW: usize = 64 * 1024;
/// Memory kept while the queue is empty, in bytes.
const KEEP: usize = 16 * 1024;

/// The queue.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// How many bytes at the front have been written.
    written: usize,
}

impl Output {
    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.written > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Discards what waits and returns how much that was.
    pub fn clear(&mut self) -> usize {
        let waiting = self.len();
        self.bytes = Vec::new();
        self.written = 0;
        waiting
    }

    /// Writes as much as `to` takes without blocking.
    ///
    /// # Errors
    /// A write failed, other than by `WouldBlock` or `Interrupted`.
    pub fn write_to(&mut self, to: &mut impl Write) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match to.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.bytes.clear();
        self.written = 0;
        if self.bytes.capacity() > KEEP {
            self.bytes.shrink_to(KEEP);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes a few bytes at a time and blocks in between.
    struct Slow(Vec<u8>, usize);

    impl Write for Slow {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            if self.1 == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = buffer.len().min(self.1);
            self.1 -= n;
            self.0.extend_from_slice(&buffer[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            takes in proptest::collection::vec(0usize..200, 1..20),
        ) {
            let (mut output, mut slow) = (Output::default(), Slow(Vec::new(), 0));
            for (piece, take) in pieces.iter().zip(takes.iter().cycle()) {
                output.push(piece);
                slow.1 = *take;
                output.write_to(&mut slow).unwrap();
            }
            slow.1 = usize::MAX;
            output.write_to(&mut slow).unwrap();
            prop_assert!(output.is_empty());
            prop_assert_eq!(slow.0, pieces.concat());
        }
    }

    #[test]
    fn clearing_says_how_much_was_lost() {
        let (mut output, mut slow) = (Output::default(), Slow(Vec::new(), 2));
        output.push(b"hello");
        output.write_to(&mut slow).unwrap();
        assert_eq!(output.clear(), 3);
        assert!(output.is_empty());
    }
}
