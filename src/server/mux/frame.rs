//! Packets, and the lines that carry them (docs/mux.md, "Lines" and "Packets"). No I/O.

use super::protocol::{FIRST_NUMBERED, MAX_PAYLOAD};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memrchr};

/// The length of what comes before the payload, in bytes.
const HEAD: usize = 14;
/// The length of the checksum after the payload, in bytes.
const TAIL: usize = 4;
/// The longest packet, in bytes.
pub(crate) const MAX_PACKET: usize = HEAD + MAX_PAYLOAD + TAIL;
/// The longest base64 of a packet, in bytes.
pub(crate) const MAX_LINE: usize = MAX_PACKET.div_ceil(3) * 4;
/// The byte that begins a packet in a line.
pub(crate) const START: u8 = b'~';

/// One packet, with a borrowed payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The kind, one of [`protocol::kind`](super::protocol::kind).
    pub kind: u8,
    /// The packet's place in the order, or a number whose meaning depends on the kind.
    pub number: u64,
    /// The stream's number; 0 for none.
    pub stream: u32,
    /// The part of the stream.
    pub part: u8,
    /// The payload, at most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// Returns a packet of the link itself, without a stream.
    #[must_use]
    pub fn link(kind: u8, number: u64) -> Self {
        Self { kind, number, stream: 0, part: 0, payload: &[] }
    }
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// Appends the line of a packet to `out`, and overwrites `scratch`.
pub fn encode(packet: &Packet<'_>, salt: u32, scratch: &mut Vec<u8>, out: &mut String) {
    debug_assert!(packet.payload.len() <= MAX_PAYLOAD);
    scratch.clear();
    scratch.push(packet.kind);
    scratch.extend_from_slice(&packet.number.to_be_bytes());
    scratch.extend_from_slice(&packet.stream.to_be_bytes());
    scratch.push(packet.part);
    scratch.extend_from_slice(packet.payload);
    let sum = checksum(salt, scratch);
    scratch.extend_from_slice(&sum.to_be_bytes());
    out.push(char::from(START));
    STANDARD.encode_string(&*scratch, out);
    out.push('\n');
}

/// Decodes the packet in `text`, a candidate's base64, and overwrites `scratch`.
///
/// `None` for anything that isn't a packet.
#[must_use]
pub(crate) fn decode<'a>(text: &[u8], salt: u32, scratch: &'a mut Vec<u8>) -> Option<Packet<'a>> {
    if text.len() > MAX_LINE {
        return None;
    }
    scratch.clear();
    STANDARD.decode_vec(text, scratch).ok()?;
    let (body, sum) = scratch.split_last_chunk::<TAIL>()?;
    let (head, payload) = body.split_at_checked(HEAD)?;
    if payload.len() > MAX_PAYLOAD || checksum(salt, body) != u32::from_be_bytes(*sum) {
        return None;
    }
    let (kind, rest) = head.split_first()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (stream, rest) = rest.split_first_chunk::<4>()?;
    Some(Packet {
        kind: *kind,
        number: u64::from_be_bytes(*number),
        stream: u32::from_be_bytes(*stream),
        part: *rest.first()?,
        payload,
    })
}

/// Returns a nonce's salt: its first 8 hexadecimal digits.
///
/// Anything else gives 0, which fits no agent.
#[must_use]
pub fn salt(nonce: &str) -> u32 {
    nonce.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// True for the numbered kinds.
#[must_use]
pub fn is_numbered(kind: u8) -> bool {
    kind >= FIRST_NUMBERED
}

/// A piece of a terminal's output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The base64 of a line, which may be a packet.
    Candidate(&'a [u8]),
    /// Anything else, in pieces of at most [`MAX_LINE`] bytes.
    Noise(&'a [u8]),
}

/// Splits a terminal's output into pieces, in whatever portions it comes. Holds at most one line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    /// True while the rest of a line that was too long is skipped.
    skip: bool,
}

impl Lines {
    /// Takes the next portion, and hands each piece to `take`.
    ///
    /// # Errors
    /// Stops at the first error of `take` and returns it.
    pub(crate) fn push<E>(
        &mut self,
        text: &[u8],
        mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = text;
        while let Some(at) = memchr(b'\n', left) {
            let (line, after) = (left.get(..at).unwrap_or_default(), left.get(at + 1..).unwrap_or_default());
            left = after;
            if std::mem::take(&mut self.skip) {
                continue;
            }
            if self.rest.is_empty() {
                whole(line, &mut take)?;
            } else {
                self.rest.extend_from_slice(line);
                let outcome = whole(&self.rest, &mut take);
                self.rest.clear();
                outcome?;
            }
        }
        if self.skip || left.is_empty() {
            return Ok(());
        }
        self.rest.extend_from_slice(left);
        // One byte more for the start; noise may come before it.
        while self.rest.len() > MAX_LINE + 1 {
            let start = memrchr(START, &self.rest).unwrap_or(self.rest.len());
            let cut = if start == 0 { self.rest.len() } else { start };
            let long = start == 0;
            let noise: Vec<u8> = self.rest.drain(..cut).collect();
            for piece in noise.chunks(MAX_LINE) {
                take(Piece::Noise(piece))?;
            }
            if long {
                self.skip = true;
                // It began as a candidate: the packet is missing, and the caller must ask for it
                // again.
                take(Piece::Candidate(&[]))?;
            }
        }
        Ok(())
    }

    /// Returns the beginning of a line that isn't complete.
    #[must_use]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Forgets the incomplete line: what comes next does not continue it.
    pub(crate) fn clear(&mut self) {
        (self.rest, self.skip) = (Vec::new(), false);
    }
}

fn whole<E>(line: &[u8], take: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
    let start = memrchr(START, line);
    let noise = line.get(..start.unwrap_or(line.len())).unwrap_or_default();
    for piece in noise.chunks(MAX_LINE) {
        take(Piece::Noise(piece))?;
    }
    match start {
        Some(start) => {
            let candidate = line.get(start + 1..).unwrap_or_default();
            // A terminal that isn't raw ends lines with CR LF.
            take(Piece::Candidate(candidate.strip_suffix(b"\r").unwrap_or(candidate)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
