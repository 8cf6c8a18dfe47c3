//! The agent's start in its terminal, from the first output to the source being sent (docs/mux.md,
//! "Start"). Pure: times are handed in, and what is to be typed comes out.

use server::agent::{self, Marker, Markers};
use server::terminado::shell::Nonce;
use std::time::{Duration, Instant};

/// Time from the terminal's start to the agent's greeting, when a shell with its start-up files
/// comes first.
pub const TIME: Duration = Duration::from_secs(60);
/// Silence after output that is not ours: a shell waits at its prompt.
const QUIET: Duration = Duration::from_millis(200);
/// Silence from the start: perhaps a shell without a prompt, but a slow image is silent, too.
const MUTE: Duration = Duration::from_secs(10);

/// What is to be done for the start to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Type this.
    Say(String),
    /// The loader waits for the source: type it. What was printed behind the loader's word is the
    /// agent's already.
    Load {
        /// The source.
        source: String,
        /// What was printed already.
        rest: String,
    },
    /// There is no Python: nothing will come.
    NoPython,
    /// The source did not arrive: nothing will come.
    BadSource,
}

/// What is due because time has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// The server did not take our command for its terminal: type this into the shell that runs
    /// there instead.
    Type(String),
    /// Nothing will come any more.
    TooLate,
}

/// An agent that is being started.
pub struct Boot {
    nonce: Nonce,
    markers: Markers,
    since: Instant,
    printed: Option<Instant>,
    /// Our command runs, or has been typed.
    typed: bool,
}

impl Boot {
    /// In a terminal that has just been opened.
    #[must_use]
    pub fn new(nonce: Nonce, now: Instant) -> Self {
        Self { markers: Markers::new(&nonce), nonce, since: now, printed: None, typed: false }
    }

    /// When the terminal was opened.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The terminal has printed something. To be followed by [`step`](Self::step).
    pub fn print(&mut self, text: &str, now: Instant) {
        self.printed = Some(now);
        self.markers.push(text);
    }

    /// What is to be done next; after all but [`Step::Say`] the start is over.
    pub fn step(&mut self) -> Option<Step> {
        loop {
            match self.markers.take()? {
                // It is ours that runs: nothing has to be typed.
                Marker::Shell => self.typed = true,
                Marker::Typed => return Some(Step::Say(agent::boot(&self.nonce))),
                Marker::Loader => {
                    let rest = self.markers.take_rest();
                    return Some(Step::Load { source: agent::source(), rest });
                }
                Marker::NoPython => return Some(Step::NoPython),
                Marker::BadSource => return Some(Step::BadSource),
            }
        }
    }

    /// When [`due`](Self::due) is to be asked.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if self.typed { self.since + TIME } else { self.printed.map_or(self.since + MUTE, |at| at + QUIET) }
    }

    /// What is due by now.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if now >= self.since + TIME {
            return Some(Due::TooLate);
        }
        if self.typed || now < self.deadline() {
            return None;
        }
        self.typed = true;
        Some(Due::Type(agent::typed(&self.nonce)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn nonce() -> Nonce {
        Nonce::from_bytes([0xab; 16])
    }

    fn mark(word: &str) -> String {
        format!("\x1b]7730;{};{word}\x1b\\", nonce().as_str())
    }

    fn steps(boot: &mut Boot, text: &str, now: Instant) -> Vec<Step> {
        boot.print(text, now);
        std::iter::from_fn(|| boot.step()).collect()
    }

    #[test]
    fn where_our_command_runs_nothing_is_typed_but_the_source() {
        let start = Instant::now();
        let mut boot = Boot::new(nonce(), start);
        assert_eq!(boot.deadline(), start + MUTE);
        assert_eq!(steps(&mut boot, &mark("sh"), start + SECOND), []);
        assert_eq!((boot.deadline(), boot.due(start + SECOND * 59)), (start + TIME, None));
        let load = Step::Load { source: agent::source(), rest: "~hello".to_owned() };
        assert_eq!(steps(&mut boot, &(mark("loader") + "~hello"), start + SECOND), [load]);
    }

    #[test]
    fn behind_a_prompt_it_is_typed_once() {
        let start = Instant::now();
        let mut boot = Boot::new(nonce(), start);
        assert_eq!(steps(&mut boot, "alice@hub$ ", start + SECOND), []);
        assert_eq!(boot.due(start + SECOND), None);
        let due = start + SECOND + QUIET;
        assert_eq!((boot.deadline(), boot.due(due)), (due, Some(Due::Type(agent::typed(&nonce())))));
        assert_eq!((boot.deadline(), boot.due(due)), (start + TIME, None));
        assert_eq!(steps(&mut boot, &mark("typed"), due), [Step::Say(agent::boot(&nonce()))]);
        assert_eq!(boot.due(start + TIME), Some(Due::TooLate));
    }

    #[test]
    fn a_shell_without_a_prompt_gets_more_time() {
        let start = Instant::now();
        let mut boot = Boot::new(nonce(), start);
        assert_eq!(boot.due(start + SECOND * 9), None);
        assert!(matches!(boot.due(start + MUTE), Some(Due::Type(_))));
    }

    #[test]
    fn what_cannot_start_says_so() {
        for (word, step) in [("no-python", Step::NoPython), ("bad-source", Step::BadSource)] {
            let mut boot = Boot::new(nonce(), Instant::now());
            assert_eq!(steps(&mut boot, &mark(word), Instant::now()), [step]);
        }
    }
}
