//! Finds what is new after a reconnect. No I/O.
//!
//! A terminal that is attached again sends its last 1000 reads as one message (terminado
//! `management.py`, `read_buffer`), without saying where they begin.

/// How many received bytes are kept, to recognise them.
const TAIL: usize = 64 * 1024;
/// The shortest overlap, in bytes, that counts where a longer one is possible.
///
/// A shorter one is chance (a prompt, a line end).
const LEAST_OVERLAP: usize = 32;

/// What a replay adds to what was received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay<'a> {
    /// Exactly this text, which may be empty.
    New(&'a str),
    /// The output repeats itself (`yes`) and fits in more than one place.
    ///
    /// This is the shortest part that can be new; more of the same may be missing.
    Ambiguous(&'a str),
    /// The replay begins after what was received: something in between is lost. This is the rest.
    Gap(&'a str),
}

/// Remembers the end of a terminal's output, as the server sent it (before anything is taken out).
#[derive(Debug, Default)]
pub struct ReceivedTail {
    total: u64,
    tail: Vec<u8>,
}

impl ReceivedTail {
    /// Returns the tail of a terminal that is attached for the first time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers output that was received.
    pub fn push(&mut self, text: &str) {
        self.total += text.len() as u64;
        let bytes = text.as_bytes();
        if bytes.len() >= TAIL {
            self.tail.clear();
        } else if self.tail.len() + bytes.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() + bytes.len() - TAIL);
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
    }

    /// Returns what `replay`, the first output after a reconnect, adds.
    ///
    /// The caller passes the part that it shows, and no other, to [`push`](Self::push).
    #[must_use]
    pub fn resume<'a>(&self, replay: &'a str) -> Replay<'a> {
        let tail = &self.tail[self.tail.len().saturating_sub(TAIL)..];
        let bytes = replay.as_bytes();
        if tail.is_empty() {
            return Replay::New(replay);
        }
        if self.total == tail.len() as u64 {
            // All of the output is remembered, so the replay begins with it, or nothing of it can
            // be found.
            if let Some(new) = bytes.starts_with(tail).then(|| replay.get(tail.len()..)).flatten() {
                return Replay::New(new);
            }
        } else if let Some((last, only)) = find_last(bytes, tail) {
            return match replay.get(last + tail.len()..) {
                Some(new) if only => Replay::New(new),
                Some(new) => Replay::Ambiguous(new),
                None => Replay::Gap(replay),
            };
        }
        let (overlap, second) = overlaps(tail, bytes);
        match replay.get(overlap..) {
            Some(new) if overlap >= LEAST_OVERLAP && second <= overlap / 2 => Replay::New(new),
            Some(new) if overlap >= LEAST_OVERLAP => Replay::Ambiguous(new),
            _ => Replay::Gap(replay),
        }
    }
}

/// Returns the longest end of `tail` that `bytes` begins with, and the second longest.
///
/// The algorithm is Knuth, Morris and Pratt's.
fn overlaps(tail: &[u8], bytes: &[u8]) -> (usize, usize) {
    let pattern = &bytes[..bytes.len().min(tail.len())];
    let table = borders(pattern);
    let mut matched = 0;
    for &byte in tail {
        if matched == pattern.len() {
            matched = table.last().copied().unwrap_or(0);
        }
        while matched > 0 && pattern.get(matched) != Some(&byte) {
            matched = table[matched - 1];
        }
        if pattern.get(matched) == Some(&byte) {
            matched += 1;
        }
    }
    (matched, matched.checked_sub(1).map_or(0, |last| table[last]))
}

/// Returns the length of the longest proper border of each prefix of `pattern`.
fn borders(pattern: &[u8]) -> Vec<usize> {
    let mut table = vec![0; pattern.len()];
    let mut length = 0;
    for at in 1..pattern.len() {
        while length > 0 && pattern[length] != pattern[at] {
            length = table[length - 1];
        }
        if pattern[length] == pattern[at] {
            length += 1;
        }
        table[at] = length;
    }
    table
}

/// Returns the last place of `needle` in `text`, and whether it is the only one, in linear time.
fn find_last(text: &[u8], needle: &[u8]) -> Option<(usize, bool)> {
    let table = borders(needle);
    let (mut matched, mut found) = (0, None);
    for (at, byte) in text.iter().enumerate() {
        while matched > 0 && needle.get(matched) != Some(byte) {
            matched = table[matched - 1];
        }
        if needle.get(matched) == Some(byte) {
            matched += 1;
        }
        if matched == needle.len() {
            found = Some((at + 1 - matched, found.is_none()));
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(text: &str) -> ReceivedTail {
        let mut tail = ReceivedTail::new();
        text.as_bytes().chunks(1000).for_each(|c| tail.push(std::str::from_utf8(c).unwrap()));
        assert!(tail.tail.len() <= 2 * TAIL);
        tail
    }

    fn log(lines: std::ops::Range<u32>) -> String {
        lines.map(|n| format!("{n} some line of output\r\n")).collect()
    }

    #[test]
    fn the_whole_output_is_there() {
        assert_eq!(received("$ ").resume("$ "), Replay::New(""));
        assert_eq!(received("$ ").resume("$ ls\r\nx\r\n$ "), Replay::New("ls\r\nx\r\n$ "));
        assert_eq!(received("").resume("abc"), Replay::New("abc"));
        assert_eq!(received("y\r\ny\r\n").resume("y\r\ny\r\ny\r\n"), Replay::New("y\r\n"));
        let all = log(0..20_000);
        assert_eq!(received(&all[..300_000]).resume(&all), Replay::New(&all[300_000..]));
    }

    #[test]
    fn the_replay_begins_later() {
        let all = log(0..20_000);
        let (seen, total) = (300_000, all.len());
        for from in [1, 100_000, seen - TAIL, seen - TAIL + 1, seen - 1000, seen - 100] {
            assert_eq!(received(&all[..seen]).resume(&all[from..]), Replay::New(&all[seen..]), "{from}");
            assert_eq!(received(&all[..seen]).resume(&all[from..seen]), Replay::New(""), "{from}");
        }
        for from in [seen + 1, seen - 3, total - 1000] {
            assert!(matches!(received(&all[..seen]).resume(&all[from..]), Replay::Gap(_)), "{from}");
        }
    }

    #[test]
    fn what_repeats_itself_is_not_guessed() {
        let all = "y\r\n".repeat(100_000);
        for from in [3, 60_000, 149_997 - TAIL, 140_001] {
            let replay = received(&all[..149_997]).resume(&all[from..]);
            assert!(matches!(replay, Replay::Ambiguous(_)), "{from}");
        }
    }

    #[test]
    fn linear_time() {
        let all = "a".repeat(4_000_000);
        let start = std::time::Instant::now();
        let mut tail = received(&all[..500_000]);
        tail.push("b");
        assert!(matches!(tail.resume(&all), Replay::Gap(_)));
        assert!(start.elapsed().as_secs() < 3);
    }

    proptest! {
        #[test]
        fn never_wrong_about_distinct_output(seen in 40..3000_usize, from in 0..3000_usize, more in 0..500_usize) {
            let all = log(0..2000);
            match received(&all[..seen]).resume(&all[from..(seen + more).max(from)]) {
                Replay::New(new) => prop_assert_eq!(new, &all[seen..(seen + more).max(from)]),
                Replay::Gap(_) => prop_assert!(from + LEAST_OVERLAP > seen),
                Replay::Ambiguous(_) => prop_assert!(false, "nothing repeats here"),
            }
        }

        #[test]
        fn nothing_panics(seen in ".{0,80}|[ab]{0,80}", replay in ".{0,80}|[ab]{0,80}") {
            let mut tail = ReceivedTail::new();
            tail.push(&seen);
            match tail.resume(&replay) {
                Replay::New(new) | Replay::Ambiguous(new) | Replay::Gap(new) => prop_assert!(replay.ends_with(new)),
            }
        }
    }
}
