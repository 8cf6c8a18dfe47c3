//! Packets and their lines (docs/mux.md, "Lines" and "Packets"). Pure.

use super::protocol::{FIRST_NUMBERED, MAX_PAYLOAD};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memrchr};

/// Bytes before the payload.
const HEAD: usize = 14;
/// The checksum after it.
const TAIL: usize = 4;
/// Longest packet, in bytes.
pub(crate) const MAX_PACKET: usize = HEAD + MAX_PAYLOAD + TAIL;
/// Longest base64 of a packet, in bytes.
pub(crate) const MAX_LINE: usize = MAX_PACKET.div_ceil(3) * 4;
/// What a line's packet begins with.
pub(crate) const START: u8 = b'~';

/// One packet; its payload is borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// See [`kind`].
    pub kind: u8,
    /// Its place in the order, or what its kind says.
    pub number: u64,
    /// Which stream.
    pub stream: u32,
    /// Which part of the stream.
    pub part: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// Without a stream.
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

/// Appends the line of a packet to `out`. `scratch` is overwritten.
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

/// The packet in `text`, a candidate's base64. `scratch` is overwritten. `None` for anything that isn't a packet.
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

/// The salt that a nonce gives: its first 8 hexadecimal digits. 0 for anything else, which fits no agent.
#[must_use]
pub fn salt(nonce: &str) -> u32 {
    nonce.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Is it one of the numbered kinds?
#[must_use]
pub fn is_numbered(kind: u8) -> bool {
    kind >= FIRST_NUMBERED
}

/// What a terminal's output consists of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// What may be a packet: the base64 of a line.
    Candidate(&'a [u8]),
    /// Anything else; at most [`MAX_LINE`] bytes at once.
    Noise(&'a [u8]),
}

/// Splits a terminal's output into pieces, in whatever portions it comes. Holds at most one line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    /// The line was too long: what follows of it is skipped.
    skip: bool,
}

impl Lines {
    /// Takes the next portion, and hands each piece to `take`; its first error ends the work.
    ///
    /// # Errors
    /// What `take` says.
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
        // One byte for the start; noise may stand before it.
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
                // It began as a candidate: what is missing has to be asked for.
                take(Piece::Candidate(&[]))?;
            }
        }
        Ok(())
    }

    /// What has come of a line that isn't complete.
    #[must_use]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Forgets it: what comes next does not continue it.
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
