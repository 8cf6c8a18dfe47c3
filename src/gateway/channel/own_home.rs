//! Replaces `~NAME` in SFTP requests, where NAME is the user who has logged in: it stands for the
//! home, whatever passwd(5) in the user's server says. Pure.
//!
//! OpenSSH's scp sends such requests (`scp HOST:~alice/f`). The SFTP server at the other end may be
//! the image's own, which knows only the users of its container. So the request is changed on its
//! way, and everything else passes unchanged.

/// Kind of a packet: SSH_FXP_EXTENDED.
const EXTENDED: u8 = 200;
/// Bytes before a packet's kind.
const LENGTH: usize = 4;
/// Longest packet that is examined, in bytes: a path has at most 4096.
const MAX_PACKET: usize = 8 * 1024;
/// The extended request that OpenSSH's scp sends.
const EXPAND: &[u8] = b"expand-path@openssh.com";

/// The position in a stream of a client's requests.
pub struct OwnHome {
    user: Vec<u8>,
    /// At the start of a packet, held until it is clear whether it is such a request.
    held: Vec<u8>,
    /// Inside a packet of which this many bytes pass unchanged.
    passes: usize,
    /// In a stream that is not SFTP: everything passes.
    off: bool,
}

impl OwnHome {
    /// Starts a stream for the user with this login name.
    #[must_use]
    pub fn new(user: &str) -> Self {
        Self { user: user.into(), held: Vec::new(), passes: 0, off: false }
    }

    /// How many bytes were taken and not given back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes bytes from the client and returns what may go on, never more than was taken.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len() + bytes.len());
        while !bytes.is_empty() {
            if self.off {
                out.append(&mut self.held);
                out.extend_from_slice(bytes);
                break;
            }
            if self.passes > 0 {
                let (now, later) = bytes.split_at(self.passes.min(bytes.len()));
                out.extend_from_slice(now);
                self.passes -= now.len();
                bytes = later;
                continue;
            }
            let wanted = self.wanted();
            let (now, later) = bytes.split_at((wanted - self.held.len()).min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() < wanted {
                break;
            }
            self.look(&mut out);
        }
        out
    }

    /// Returns what is held, at the end of the stream.
    pub fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// How many bytes to hold before the next look: up to the kind of a packet, then all of it.
    fn wanted(&self) -> usize {
        if self.held.len() <= LENGTH { LENGTH + 1 } else { LENGTH + self.length() }
    }

    fn length(&self) -> usize {
        let bytes = self.held.first_chunk().copied().unwrap_or_default();
        usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
    }

    fn look(&mut self, out: &mut Vec<u8>) {
        let length = self.length();
        if self.held.len() == LENGTH + 1 {
            if length == 0 {
                self.off = true;
                out.append(&mut self.held);
                return;
            }
            if length > 1 && length <= MAX_PACKET && self.held.last() == Some(&EXTENDED) {
                // All of it is needed.
                return;
            }
            self.passes = length - 1;
            out.append(&mut self.held);
            return;
        }
        match self.changed() {
            Some(packet) => {
                out.extend(packet);
                self.held.clear();
            }
            None => out.append(&mut self.held),
        }
    }

    /// The packet that is held, if it asks for the user's own home by name.
    fn changed(&self) -> Option<Vec<u8>> {
        let body = self.held.get(LENGTH + 1..)?;
        let (request, body) = body.split_first_chunk::<4>()?;
        let (extension, body) = string(body)?;
        let (path, rest) = string(body)?;
        let after = path.strip_prefix(b"~")?.strip_prefix(&*self.user)?;
        if extension != EXPAND || !rest.is_empty() || after.first().is_some_and(|byte| *byte != b'/') {
            return None;
        }
        let mut packet = vec![0; LENGTH];
        packet.push(EXTENDED);
        packet.extend_from_slice(request);
        for text in [extension, &[b"~", after].concat()] {
            packet.extend(u32::try_from(text.len()).ok()?.to_be_bytes());
            packet.extend_from_slice(text);
        }
        let length = u32::try_from(packet.len() - LENGTH).ok()?;
        packet.get_mut(..LENGTH)?.copy_from_slice(&length.to_be_bytes());
        Some(packet)
    }
}

/// Splits a string of the protocol from what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
        let mut body = vec![kind, 0, 0, 0, 7];
        for field in fields {
            body.extend((field.len() as u32).to_be_bytes());
            body.extend_from_slice(field);
        }
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    fn through(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut filter = OwnHome::new("alice");
        let mut out: Vec<u8> = bytes.chunks(step).flat_map(|part| filter.push(part)).collect();
        out.extend(filter.end());
        out
    }

    #[test]
    fn ones_own_name_is_the_home() {
        for (asked, expected) in [
            (packet(EXTENDED, &[EXPAND, b"~alice/f"]), packet(EXTENDED, &[EXPAND, b"~/f"])),
            (packet(EXTENDED, &[EXPAND, b"~alice"]), packet(EXTENDED, &[EXPAND, b"~"])),
        ] {
            for step in 1..asked.len() + 1 {
                let around = packet(6, &[b"h", &[0xc8; 300]]);
                let all = [&around[..], &asked, &around].concat();
                assert_eq!(through(&all, step), [&around[..], &expected, &around].concat());
            }
        }
    }

    #[test]
    fn everything_else_passes_as_it_is() {
        let long = vec![b'x'; 2 * MAX_PACKET];
        for bytes in [
            packet(EXTENDED, &[EXPAND, b"~alice2/f"]),
            packet(EXTENDED, &[EXPAND, b"~bob"]),
            packet(EXTENDED, &[EXPAND, b"~"]),
            packet(EXTENDED, &[EXPAND, b"x~alice"]),
            packet(EXTENDED, &[EXPAND, b"~alice", b"more"]),
            packet(EXTENDED, &[b"home-directory", b"~alice"]),
            packet(EXTENDED, &[EXPAND]),
            packet(EXTENDED, &[EXPAND, &long]),
            packet(16, &[b"~alice"]),
            packet(6, &[&long]),
            vec![0, 0, 0, 1, EXTENDED],
            vec![0, 0, 0, 0, 1, 2, 3],
            b"this is no sftp at all, but something else".to_vec(),
        ] {
            for step in [1, 3, 5, 1000, 1 << 20] {
                assert_eq!(through(&bytes, step), bytes, "{}", bytes.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_little_is_held(
            parts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0), Just(EXTENDED), any::<u8>()], 0..40), 0..8),
        ) {
            let mut filter = OwnHome::new("alice");
            let mut out = Vec::new();
            for part in &parts {
                out.extend(filter.push(part));
                prop_assert!(filter.held() < LENGTH + MAX_PACKET);
            }
            out.extend(filter.end());
            prop_assert_eq!(out, parts.concat());
        }
    }
}
