//! Recognises typed text in the output.
//!
//! It is the evidence for [`crate::terminado::pacing::InputWindow::echoed`] where there is no
//! control terminal. No I/O.
//!
//! The watch remembers short samples of what is typed that could hardly be in the output by chance:
//! plain visible text with some variety in it. When a sample is found in the output, it and
//! everything typed before it was at least taken up by the line discipline. A program that prints
//! by itself what is being pasted at it could fool this, so a sample that was in the output shortly
//! before it was typed is not used.

use std::collections::VecDeque;

/// The length of a sample, in bytes.
const SAMPLE: usize = 16;
/// How many different characters a sample has at least.
const VARIETY: usize = 7;
/// How many typed bytes are between two samples.
const SPACING: usize = 512;
/// The most samples that wait to be found; twice what the window can hold.
const MAX_SAMPLES: usize = 48;
/// How much output is kept to look for samples in, in bytes.
const TAIL: usize = 4096;

/// Looks for typed text in the output of one terminal.
#[derive(Debug, Default)]
pub struct EchoWatch {
    /// Each sample with the position of its last byte.
    samples: VecDeque<([u8; SAMPLE], u64)>,
    /// The position of the last sample taken.
    sampled: u64,
    tail: Vec<u8>,
}

impl EchoWatch {
    /// Takes samples of `text`, which is typed after `position` bytes (`InputWindow::position`
    /// before `sent`).
    pub fn sent(&mut self, text: &str, position: u64) {
        let mut from = 0;
        for (at, window) in text.as_bytes().windows(SAMPLE).enumerate() {
            if at < from || self.samples.len() >= MAX_SAMPLES {
                continue;
            }
            let Ok(sample) = <[u8; SAMPLE]>::try_from(window) else { continue };
            let end = position + (at + SAMPLE) as u64;
            if end < self.sampled.saturating_add(SPACING as u64) && self.sampled > 0 || !telling(&sample) {
                continue;
            }
            if find(&self.tail, &sample).is_none() {
                self.samples.push_back((sample, end));
                self.sampled = end;
                from = at + SPACING;
            }
        }
    }

    /// Takes output, and returns the position of the last typed byte whose echo it shows, if any.
    ///
    /// Costs nothing while no sample waits, and otherwise a few searches of `text`.
    pub fn output(&mut self, text: &str) -> Option<u64> {
        let bytes = text.as_bytes();
        let recent = &bytes[bytes.len().saturating_sub(TAIL)..];
        let overlap = self.tail.len().saturating_sub(SAMPLE - 1);
        let mut found = None;
        if !self.samples.is_empty() {
            let mut joined = self.tail[overlap..].to_vec();
            joined.extend_from_slice(bytes);
            let mut rest = joined.as_slice();
            // Echoes come in order, but one may be missing (a line cut by the program's own
            // output).
            let mut index = 0;
            while index < self.samples.len().min(4) {
                let (sample, end) = self.samples[index];
                match find(rest, &sample) {
                    Some(at) => {
                        rest = &rest[at + SAMPLE..];
                        found = Some(end);
                        self.samples.drain(..=index);
                        index = 0;
                    }
                    None => index += 1,
                }
            }
        }
        let keep = self.tail.len().min(TAIL - recent.len());
        self.tail.drain(..self.tail.len() - keep);
        self.tail.extend_from_slice(recent);
        found
    }
}

fn telling(sample: &[u8; SAMPLE]) -> bool {
    if !sample.iter().all(|b| (0x20..0x7f).contains(b)) {
        return false;
    }
    let mut seen = 0_u128;
    sample.iter().for_each(|b| seen |= 1 << b);
    seen.count_ones() as usize >= VARIETY
}

fn find(text: &[u8], sample: &[u8; SAMPLE]) -> Option<usize> {
    let first = sample[0];
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|&b| b == first) {
        let at = from + at;
        if text.get(at..at + SAMPLE)? == sample {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(n: usize) -> String {
        (0..n).map(|i| format!("let value_{i} = compute({});\n", i * 7919)).collect()
    }

    #[test]
    fn a_paste_is_seen_in_its_echo() {
        let (mut watch, text) = (EchoWatch::default(), lines(200));
        watch.sent(&text, 1000);
        let echo = text.replace('\n', "\r\n");
        let (mut last, mut at) = (0, 0);
        while at < echo.len() {
            let end = (at + 777).min(echo.len());
            if let Some(position) = watch.output(&echo[at..end]) {
                assert!(position > last && position <= 1000 + end as u64);
                last = position;
            }
            at = end;
        }
        assert!(last + 2 * SPACING as u64 > 1000 + text.len() as u64, "{last}");
    }

    #[test]
    fn a_flood_is_no_echo() {
        let mut watch = EchoWatch::default();
        assert_eq!(watch.output(&lines(20)), None);
        watch.sent(&lines(20), 0); // it was in the output before
        assert_eq!(watch.output(&lines(20)), None);
        watch.sent(&"y\n".repeat(4000), 1000);
        watch.sent(&"xxxxxxxxxxxxxxxx".repeat(400), 9000);
        assert_eq!(watch.output(&"y\r\n".repeat(4000)), None);
        assert_eq!(watch.output(&"x".repeat(4000)), None);
    }

    proptest! {
        #[test]
        fn bounded_and_never_ahead(chunks in proptest::collection::vec((any::<bool>(), "[ -~\n]{0,2000}"), 0..30)) {
            let (mut watch, mut position) = (EchoWatch::default(), 0);
            for (typed, text) in &chunks {
                if *typed {
                    watch.sent(text, position);
                    position += text.len() as u64;
                } else if let Some(echoed) = watch.output(text) {
                    prop_assert!(echoed <= position);
                }
                prop_assert!(watch.samples.len() <= MAX_SAMPLES && watch.tail.len() <= TAIL);
            }
        }
    }
}
