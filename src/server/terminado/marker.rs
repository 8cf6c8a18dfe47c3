//! Takes the wrapper's own messages ([`crate::terminado::shell`]) out of a terminal's output. No
//! I/O.
//!
//! A message is `ESC ] 7730 ; NONCE ; KIND ; VALUE… ESC \`: an operating-system command (ECMA-48,
//! 8.3.89), which a terminal ignores should one ever slip through.

use crate::terminado::shell::Nonce;
use std::borrow::Cow;

/// The longest message, in bytes. Anything longer isn't one and is passed on.
const MAX_MESSAGE: usize = 256;
const END: &str = "\x1b\\";

/// A terminal's tty and the process that owns it, as the wrapper sees them in the user's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtyPath {
    number: u32,
    leader: u32,
}

impl TtyPath {
    /// Parses `/dev/pts/N` and the process id of the session's leader.
    #[must_use]
    pub(crate) fn parse(path: &str, leader: &str) -> Option<Self> {
        let number = decimal(path.strip_prefix("/dev/pts/")?)?;
        Some(Self { number, leader: decimal(leader)? })
    }

    /// Returns the path, `/dev/pts/N`.
    #[must_use]
    pub(crate) fn path(&self) -> String {
        format!("/dev/pts/{}", self.number)
    }

    /// Returns the process id of the session's leader, in the user's server.
    #[must_use]
    pub(crate) fn leader(&self) -> u32 {
        self.leader
    }
}

/// A message of the wrapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// The wrapper's first message. `None`: it has no usable tty, so there can be no control
    /// terminal.
    Tty(Option<TtyPath>),
    /// The shell has ended with this status (128 + n for signal n). The terminal disconnects next.
    Exit(u8),
}

/// Takes the messages with one nonce out of a stream of output, even if they are split.
///
/// Holds back at most `MAX_MESSAGE` bytes, which may be the beginning of a message. The caller
/// gets them with [`flush`](Self::flush) when nothing more came for a while, or an ESC at the end
/// of a WebSocket message would wait for the next one. 50 ms are enough: the wrapper writes a
/// message at once.
#[derive(Debug)]
pub struct MarkerFilter {
    /// Everything before the kind.
    prefix: String,
    held: String,
}

impl MarkerFilter {
    /// Returns a filter for the messages with `nonce`.
    #[must_use]
    pub fn new(nonce: &Nonce) -> Self {
        Self { prefix: format!("\x1b]7730;{};", nonce.as_str()), held: String::new() }
    }

    /// Returns `text`, after what was held back, without messages; appends those to `markers`.
    ///
    /// Copies nothing unless there is something to take out or to put in front.
    #[must_use]
    pub fn push<'a>(&mut self, text: &'a str, markers: &mut Vec<Marker>) -> Cow<'a, str> {
        if self.held.is_empty() {
            let Some(start) = self.next_candidate(text) else { return Cow::Borrowed(text) };
            if text.len() - start < self.prefix.len() {
                let (now, held) = text.split_at(start);
                self.held.push_str(held);
                return Cow::Borrowed(now);
            }
            return Cow::Owned(self.take_out(text, start, markers));
        }
        let joined = std::mem::take(&mut self.held) + text;
        Cow::Owned(match self.next_candidate(&joined) {
            Some(start) => self.take_out(&joined, start, markers),
            None => joined,
        })
    }

    /// True while something is held back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns what is held back, to be passed on before anything that comes later.
    #[must_use]
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Returns where the prefix stands, or its beginning at the very end.
    fn next_candidate(&self, text: &str) -> Option<usize> {
        if let Some(found) = text.find(&self.prefix) {
            return Some(found);
        }
        let bytes = text.as_bytes();
        let window = bytes.len().saturating_sub(self.prefix.len() - 1);
        // The prefix holds one ESC only, so the last one decides.
        let escape = bytes[window..].iter().rposition(|&b| b == 0x1b)? + window;
        self.prefix.as_bytes().starts_with(&bytes[escape..]).then_some(escape)
    }

    fn take_out(&mut self, text: &str, mut start: usize, markers: &mut Vec<Marker>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        loop {
            let (before, candidate) = rest.split_at(start);
            out.push_str(before);
            let Some(message) = candidate.strip_prefix(&self.prefix) else {
                self.held.push_str(candidate);
                return out;
            };
            rest = match message.find(END) {
                Some(end) if self.prefix.len() + end + END.len() <= MAX_MESSAGE => {
                    markers.extend(parse(&message[..end]));
                    &message[end + END.len()..]
                }
                None if candidate.len() < MAX_MESSAGE => {
                    self.held.push_str(candidate);
                    return out;
                }
                _ => {
                    out.push_str(&self.prefix);
                    message
                }
            };
            let Some(next) = self.next_candidate(rest) else {
                out.push_str(rest);
                return out;
            };
            start = next;
        }
    }
}

/// Parses a message. `None` for an unknown kind or a value that makes no sense.
fn parse(message: &str) -> Option<Marker> {
    let mut fields = message.split(';');
    let (kind, value, more) = (fields.next()?, fields.next()?, fields.next());
    match kind {
        "tty" => Some(Marker::Tty(TtyPath::parse(value, more?))),
        "exit" => value.parse().ok().map(Marker::Exit),
        _ => None,
    }
}

/// Parses a number in plain digits, without sign or spaces.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nonce() -> Nonce {
        Nonce::from_bytes([7; 16])
    }

    fn message(body: &str) -> String {
        format!("\x1b]7730;{};{body}\x1b\\", nonce().as_str())
    }

    fn run(chunks: &[&str]) -> (String, Vec<Marker>) {
        let mut filter = MarkerFilter::new(&nonce());
        let (mut out, mut markers) = (String::new(), Vec::new());
        for chunk in chunks {
            out.push_str(&filter.push(chunk, &mut markers));
            assert!(filter.held.len() <= MAX_MESSAGE);
        }
        out.push_str(&filter.flush());
        (out, markers)
    }

    #[test]
    fn messages_are_taken_out() {
        let text = format!("a{}b{}{}c", message("tty;/dev/pts/5;77"), message("exit;137"), message("new;x"));
        let tty = TtyPath { number: 5, leader: 77 };
        assert_eq!(run(&[&text]), ("abc".into(), vec![Marker::Tty(Some(tty)), Marker::Exit(137)]));
        assert_eq!(run(&[&message("tty;not a tty;77")]).1, [Marker::Tty(None)]);
        for nonsense in
            ["tty;;", "tty;/dev/pts/;1", "tty;/dev/pts/../x;1", "tty;/dev/pts/1;-5", "tty;/dev/pts/+1;1"]
        {
            assert_eq!(run(&[&message(nonsense)]).1, [Marker::Tty(None)], "{nonsense}");
        }
        for nonsense in ["", "exit", "exit;", "exit;256", "exit;x"] {
            assert_eq!(run(&[&message(nonsense)]), (String::new(), vec![]), "{nonsense}");
        }
    }

    #[test]
    fn everything_else_passes_untouched() {
        let other = format!("\x1b]7730;{};exit;0\x1b\\", "0".repeat(32));
        let endless = format!("{}{}", &message("")[..41], "x".repeat(1000));
        let late = format!("{}{}\x1b\\", &message("")[..41], "x".repeat(1000));
        for text in [&other, &endless, &late, "\x1b", "\x1b]", "\x1b]7730;", "\x1b[31mred\x1b[0m"] {
            assert_eq!(run(&[text]), (text.to_string(), vec![]), "{text:?}");
        }
        let mut filter = MarkerFilter::new(&nonce());
        assert!(matches!(filter.push("\x1b[31mred\x1b[0m", &mut vec![]), Cow::Borrowed(_)));
    }

    #[test]
    fn a_lone_escape_waits_only_until_flushed() {
        let mut filter = MarkerFilter::new(&nonce());
        assert_eq!(filter.push("a\x1b", &mut vec![]), "a");
        assert!(filter.is_holding());
        assert_eq!(filter.flush(), "\x1b");
        assert!(!filter.is_holding());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            parts in proptest::collection::vec(prop_oneof![
                Just(message("exit;3")), Just(message("tty;/dev/pts/1;2")), Just("\x1b".to_owned()), Just(END.to_owned()),
                Just(message("exit;3")[..20].to_owned()), Just("\x1b]7730;".to_owned()), ".{0,5}",
            ], 0..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let text = parts.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.retain(|&cut| text.is_char_boundary(cut));
            at.extend([0, text.len()]);
            at.sort_unstable();
            let chunks: Vec<&str> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(&chunks), run(&[&text]));
        }

        #[test]
        fn nothing_is_lost(before in "[^\x1b]{0,50}", after in "[^\x1b]{0,50}") {
            let text = format!("{before}{}{after}", message("exit;9"));
            prop_assert_eq!(run(&[&text]), (before + &after, vec![Marker::Exit(9)]));
        }
    }
}
