//! The control terminal: a second terminal of the same server that watches the first one's tty.
//!
//! A small Python program runs in it. It tells exactly how much typed input is still unread,
//! suspends and resumes the program's output (for a slow client), and discards unread input before
//! the terminal is deleted. It is opened only when it is needed. [`ControlLink`] does no I/O: it
//! encodes requests as text to type, and reads the answers from the output.
//!
//! **Why an answer is exact.** The server has a single writer thread for all its terminals, first
//! in first out. Input is sent on the terminal's WebSocket, then a ping: the pong proves that the
//! server has queued the input. A request sent *after* that pong is queued behind it, so when the
//! program reads the request, the input has been written to the tty. (terminado ≤ 0.15 writes in
//! its event loop, which gives the same order.)

use crate::terminado::marker::TtyPath;
use crate::terminado::pacing::Unread;
use crate::terminado::shell::Nonce;
use std::collections::VecDeque;

/// The program that runs in the control terminal.
const PROGRAM: &str = include_str!("control.py");
/// The longest line read, in bytes. An answer has less than 64; anything longer is noise.
const MAX_LINE: usize = 256;
/// The most noise before the program's first word (a profile that prints something), in bytes.
const MAX_NOISE: usize = 64 * 1024;
/// The most requests that wait for an answer.
const MAX_PENDING: usize = 32;

/// Returns the `shell_command` of a control terminal for the terminal that has `tty`.
///
/// The server looks for Python on its PATH; without one it answers with status 500.
#[must_use]
pub fn command(nonce: &Nonce, tty: &TtyPath) -> Vec<String> {
    let leader = tty.leader().to_string();
    ["python3", "-ISc", PROGRAM, nonce.as_str(), &tty.path(), &leader].map(str::to_owned).into()
}

/// A message from the control terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The program runs and takes requests.
    Ready,
    /// How much was unread of what had been typed up to `position`; see
    /// [`ControlLink::ask_unread`].
    Unread {
        /// The number that the request came with.
        position: u64,
        /// Evidence for [`crate::terminado::pacing::InputWindow::evidence`].
        unread: Unread,
    },
    /// The program's output is suspended.
    ///
    /// This lapses after 12 s without a request, when the control terminal ends: repeat it every 5
    /// s.
    Stopped,
    /// The program's output is resumed.
    Running,
    /// Unread input was discarded.
    Drained,
    /// The watched terminal has ended. No more answers come.
    Gone,
    /// The program doesn't work here, or breaks the protocol. Close the terminal and do without.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Unread(u64),
    Stop,
    Go,
    Drain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting { noise: usize },
    Ready,
    Over,
}

/// The requests to one control terminal, and its answers.
#[derive(Debug)]
pub struct ControlLink {
    /// The beginning of every line that the program writes.
    prefix: String,
    state: State,
    last_id: u32,
    pending: VecDeque<(u32, Request)>,
    line: String,
}

impl ControlLink {
    /// Returns the link to a terminal that was started with [`command`] and the same nonce.
    #[must_use]
    pub fn new(nonce: &Nonce) -> Self {
        let prefix = format!("{} ", nonce.as_str());
        Self {
            prefix,
            state: State::Starting { noise: 0 },
            last_id: 0,
            pending: VecDeque::new(),
            line: String::new(),
        }
    }

    /// True once the program runs, until it ends or fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Asks how much is unread; returns the text to type into the control terminal.
    ///
    /// `position` comes back with the answer: the number of bytes typed before the ping whose pong
    /// has just arrived. The answer takes up to 20 ms longer while there is unread input. `None` if
    /// the program isn't ready, or too many requests wait.
    #[must_use]
    pub fn ask_unread(&mut self, position: u64) -> Option<String> {
        self.request(Request::Unread(position), "?")
    }

    /// Suspends the program's output (like Ctrl-S, but nothing is typed and Ctrl-Q doesn't undo
    /// it).
    #[must_use]
    pub fn stop(&mut self) -> Option<String> {
        self.request(Request::Stop, "stop")
    }

    /// Resumes the program's output.
    #[must_use]
    pub fn go(&mut self) -> Option<String> {
        self.request(Request::Go, "go")
    }

    /// Discards unread input.
    #[must_use]
    pub fn drain(&mut self) -> Option<String> {
        self.request(Request::Drain, "drain")
    }

    fn request(&mut self, request: Request, text: &str) -> Option<String> {
        if self.state != State::Ready || self.pending.len() >= MAX_PENDING {
            return None;
        }
        self.last_id = self.last_id.wrapping_add(1);
        self.pending.push_back((self.last_id, request));
        Some(format!("{} {text}\n", self.last_id))
    }

    /// Reads output of the control terminal, and appends its answers to `answers`.
    pub fn output(&mut self, text: &str, answers: &mut Vec<Answer>) {
        for piece in text.split_inclusive('\n') {
            if self.state == State::Over {
                return;
            }
            if let State::Starting { noise } = &mut self.state {
                *noise += piece.len();
                if *noise > MAX_NOISE {
                    return self.fail(answers);
                }
            }
            // Noise without a line end must not grow. Its beginning is no answer, so its end isn't
            // either.
            if self.line.len() + piece.len() <= MAX_LINE {
                self.line.push_str(piece);
            } else {
                self.line.clear();
                self.line.push(' ');
            }
            if piece.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                self.line(&line, answers);
            }
        }
    }

    fn fail(&mut self, answers: &mut Vec<Answer>) {
        self.state = State::Over;
        self.pending.clear();
        self.line = String::new();
        answers.push(Answer::Failed);
    }

    fn line(&mut self, line: &str, answers: &mut Vec<Answer>) {
        let Some(words) = line.strip_prefix(&self.prefix) else { return };
        let mut words = words.trim_end().split(' ');
        let (id, word) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if self.state != State::Ready {
            if (id, word) == ("0", "hello") {
                self.state = State::Ready;
                answers.push(Answer::Ready);
            }
            return;
        }
        // Answers come in the order of the requests; anything else means that something is badly
        // wrong.
        let Some((_, request)) = self.pending.pop_front().filter(|(expected, _)| id == expected.to_string())
        else {
            return self.fail(answers);
        };
        let bytes = || words.next().and_then(|n| n.parse().ok());
        let answer = match (request, word) {
            (_, "gone") => {
                self.state = State::Over;
                self.pending.clear();
                Answer::Gone
            }
            (Request::Unread(position), mode @ ("r" | "c")) => match { bytes }() {
                Some(n) if mode == "r" => Answer::Unread { position, unread: Unread::Raw(n) },
                Some(n) => Answer::Unread { position, unread: Unread::Lines(n) },
                None => return self.fail(answers),
            },
            (Request::Stop, "ok") => Answer::Stopped,
            (Request::Go, "ok") => Answer::Running,
            (Request::Drain, "ok") => Answer::Drained,
            _ => return self.fail(answers),
        };
        answers.push(answer);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link() -> ControlLink {
        ControlLink::new(&Nonce::from_bytes([2; 16]))
    }

    fn say(link: &mut ControlLink, text: &str) -> Vec<Answer> {
        let mut answers = Vec::new();
        link.output(&text.replace('N', &"02".repeat(16)), &mut answers);
        answers
    }

    #[test]
    fn noise_then_hello_then_answers() {
        let mut link = link();
        assert_eq!(link.stop(), None);
        assert_eq!(say(&mut link, "Welcome!\r\n\x1b[0m$ N 0 hello\nN 1 ok\nN 0 he"), []);
        assert_eq!(say(&mut link, "llo\n"), [Answer::Ready]);
        assert_eq!(link.ask_unread(500).unwrap(), "1 ?\n");
        assert_eq!(link.stop().unwrap(), "2 stop\n");
        assert_eq!(link.go().unwrap(), "3 go\n");
        assert_eq!(link.drain().unwrap(), "4 drain\n");
        assert_eq!(link.ask_unread(600).unwrap(), "5 ?\n");
        let answers = say(&mut link, "N 1 r 77\nN 2 ok\nwarning: x\nN 3 ok\nN 4 ok\nN 5 c 0\n");
        let unread = |position, unread| Answer::Unread { position, unread };
        assert_eq!(
            answers,
            [
                unread(500, Unread::Raw(77)),
                Answer::Stopped,
                Answer::Running,
                Answer::Drained,
                unread(600, Unread::Lines(0))
            ]
        );
        assert_eq!(link.pending.len(), 0);
        assert_eq!(link.stop().unwrap(), "6 stop\n");
        assert_eq!(say(&mut link, "N 6 gone\n"), [Answer::Gone]);
        assert_eq!(link.stop(), None);
    }

    #[test]
    fn what_breaks_the_protocol_fails() {
        for bad in
            ["N 2 ok\n", "N 1 ok\n", "N 1 r\n", "N 1 r -1\n", "N 1 r x\n", "N 1 error\n", "N\n", "N \n"]
        {
            let mut link = link();
            say(&mut link, "N 0 hello\n");
            link.ask_unread(1).unwrap();
            let expected: &[Answer] = if bad == "N\n" { &[] } else { &[Answer::Failed] };
            assert_eq!(say(&mut link, bad), expected, "{bad:?}");
        }
        let mut link = link();
        assert_eq!(say(&mut link, &"noise\n".repeat(20_000)), [Answer::Failed]);
    }

    #[test]
    fn requests_are_bounded() {
        let mut link = link();
        say(&mut link, "N 0 hello\n");
        assert_eq!((0..100).filter(|&n| link.ask_unread(n).is_some()).count(), MAX_PENDING);
    }

    proptest! {
        #[test]
        fn hostile_output_is_harmless(chunks in proptest::collection::vec("(N )?[0-9]{0,3}[ a-z?\n]{0,300}", 0..20)) {
            let mut link = link();
            say(&mut link, "N 0 hello\n");
            for chunk in &chunks {
                let _ = link.ask_unread(1);
                say(&mut link, chunk);
                prop_assert!(link.line.len() <= MAX_LINE && link.pending.len() <= MAX_PENDING);
            }
        }
    }
}
