//! The life of a terminal at the user's server, as a table of states and events. Pure: times are
//! handed in.

use std::time::{Duration, Instant};

/// How long a dropped WebSocket is reconnected.
pub const RECONNECT: Duration = Duration::from_secs(60);
/// A WebSocket that drops so soon after it was reconnected, and brought nothing, was no success.
const SHORT_LIVED: Duration = Duration::from_secs(10);
/// After so many of those in a row the terminal is given up.
const MAX_DROPS: u32 = 8;

/// Where a terminal is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A job opens it.
    Opening,
    /// A job opens it, but its user needs it no more.
    Unwanted,
    /// Its WebSocket is there.
    Connected,
    /// Its WebSocket has dropped, and a job reconnects it.
    Reconnecting,
    /// It could not be reconnected. It may still be in the server.
    Lost,
    /// A job deletes it.
    Deleting,
    /// It was never opened, has ended by itself, or is deleted.
    Over,
}

/// What happens to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server has opened it, and the WebSocket is there.
    Opened,
    /// The server has not opened it.
    NotOpened,
    /// The WebSocket has dropped.
    Dropped,
    /// The WebSocket is there again.
    Reconnected,
    /// The WebSocket cannot be had back.
    NotReconnected,
    /// The program in it has answered since the WebSocket was reconnected.
    Answered,
    /// Time has passed.
    Waited,
    /// The program in it has ended, and the server with it the terminal.
    Ended,
    /// Its user needs it no more.
    LetGo,
    /// The job that deletes it has done what it could.
    Deleted,
    /// A job could not be started, or has failed by a fault of ours.
    Failed,
}

/// What is to be done after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Use the WebSocket that has come.
    Use,
    /// Tell the job that opens it to stop.
    Cancel,
    /// Start the job that reconnects it.
    Reconnect,
    /// Start the job that deletes it.
    Delete,
    /// Tell its user that it will not be had, or not be had back.
    GiveUp,
}

/// What shows that a terminal can be used again after its WebSocket was reconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regained {
    /// The WebSocket alone: the program in it need not say anything.
    WhenConnected,
    /// [`Event::Answered`]: the program in it has a protocol, and answers.
    WhenAnswered,
}

/// One terminal's life.
#[derive(Debug)]
pub struct Life {
    state: State,
    regained: Regained,
    /// Since when it could not be used, while it cannot.
    lost: Option<Instant>,
    /// When the WebSocket was last reconnected, and whether the program has answered since.
    resumed: Option<Instant>,
    answered: bool,
    /// How many WebSockets in a row were no success.
    drops: u32,
}

impl Life {
    /// A terminal that is being opened.
    #[must_use]
    pub fn new(regained: Regained) -> Self {
        Self { state: State::Opening, regained, lost: None, resumed: None, answered: false, drops: 0 }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when it could not be used, while it cannot.
    #[must_use]
    pub fn lost_since(&self) -> Option<Instant> {
        self.lost
    }

    /// When the WebSocket was last reconnected.
    #[must_use]
    pub fn resumed(&self) -> Option<Instant> {
        self.resumed
    }

    /// When a terminal that is connected but does not answer is given up: [`Event::Waited`] is due
    /// then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.lost.filter(|_| self.state == State::Connected).map(|at| at + RECONNECT)
    }

    /// Takes an event, and says what is to be done.
    pub fn on(&mut self, event: Event, now: Instant) -> Step {
        self.count(event, now);
        let (state, step) = match (self.state, event) {
            (State::Opening, Event::Opened) => (State::Connected, Step::Use),
            (State::Opening, Event::LetGo) => (State::Unwanted, Step::Cancel),
            (State::Unwanted, Event::Opened) => (State::Deleting, Step::Delete),
            (State::Opening | State::Unwanted, Event::NotOpened | Event::Failed) => {
                (State::Over, Step::GiveUp)
            }
            (State::Connected, Event::Dropped) if self.drops < MAX_DROPS && !self.is_overdue(now) => {
                (State::Reconnecting, Step::Reconnect)
            }
            (State::Connected, Event::Dropped) => (State::Lost, Step::GiveUp),
            (State::Connected, Event::Waited) if self.is_overdue(now) => (State::Lost, Step::GiveUp),
            (State::Connected, Event::Ended) => (State::Over, Step::Nothing),
            (State::Reconnecting, Event::Reconnected) => (State::Connected, Step::Use),
            (State::Reconnecting, Event::NotReconnected | Event::Failed) => (State::Lost, Step::GiveUp),
            (State::Connected | State::Reconnecting | State::Lost, Event::LetGo) => {
                (State::Deleting, Step::Delete)
            }
            (State::Deleting, Event::Deleted | Event::Failed) => (State::Over, Step::Nothing),
            // Too late, or too early to matter: a job that was cancelled reports all the same.
            (state, _) => (state, Step::Nothing),
        };
        self.state = state;
        step
    }

    /// Keeps the times and counts that decide whether to go on reconnecting.
    fn count(&mut self, event: Event, now: Instant) {
        match (self.state, event) {
            (State::Connected, Event::Dropped) => {
                let short = self.resumed.is_some_and(|at| now < at + SHORT_LIVED) && !self.answered;
                self.drops = if short { self.drops + 1 } else { 0 };
                self.lost.get_or_insert(now);
            }
            (State::Connected, Event::Answered) if self.resumed.is_some() => {
                self.answered = true;
                self.lost = None;
            }
            (State::Reconnecting, Event::Reconnected) => {
                self.resumed = Some(now);
                self.answered = false;
                if self.regained == Regained::WhenConnected {
                    self.lost = None;
                }
            }
            _ => {}
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.lost.is_some_and(|at| now >= at + RECONNECT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STATES: [State; 7] = [
        State::Opening,
        State::Unwanted,
        State::Connected,
        State::Reconnecting,
        State::Lost,
        State::Deleting,
        State::Over,
    ];
    const EVENTS: [Event; 11] = [
        Event::Opened,
        Event::NotOpened,
        Event::Dropped,
        Event::Reconnected,
        Event::NotReconnected,
        Event::Answered,
        Event::Waited,
        Event::Ended,
        Event::LetGo,
        Event::Deleted,
        Event::Failed,
    ];
    /// All that changes anything for a terminal that has not dropped before.
    const TABLE: [(State, Event, State, Step); 18] = [
        (State::Opening, Event::Opened, State::Connected, Step::Use),
        (State::Opening, Event::NotOpened, State::Over, Step::GiveUp),
        (State::Opening, Event::LetGo, State::Unwanted, Step::Cancel),
        (State::Opening, Event::Failed, State::Over, Step::GiveUp),
        (State::Unwanted, Event::Opened, State::Deleting, Step::Delete),
        (State::Unwanted, Event::NotOpened, State::Over, Step::GiveUp),
        (State::Unwanted, Event::Failed, State::Over, Step::GiveUp),
        (State::Connected, Event::Dropped, State::Reconnecting, Step::Reconnect),
        (State::Connected, Event::Ended, State::Over, Step::Nothing),
        (State::Connected, Event::LetGo, State::Deleting, Step::Delete),
        (State::Reconnecting, Event::Reconnected, State::Connected, Step::Use),
        (State::Reconnecting, Event::NotReconnected, State::Lost, Step::GiveUp),
        (State::Reconnecting, Event::LetGo, State::Deleting, Step::Delete),
        (State::Reconnecting, Event::Failed, State::Lost, Step::GiveUp),
        (State::Lost, Event::LetGo, State::Deleting, Step::Delete),
        (State::Deleting, Event::Deleted, State::Over, Step::Nothing),
        (State::Deleting, Event::Failed, State::Over, Step::Nothing),
        (State::Over, Event::LetGo, State::Over, Step::Nothing),
    ];

    fn life(state: State, regained: Regained) -> Life {
        Life { state, ..Life::new(regained) }
    }

    #[test]
    fn every_event_in_every_state() {
        for regained in [Regained::WhenConnected, Regained::WhenAnswered] {
            for state in STATES {
                for event in EVENTS {
                    let row = TABLE.iter().find(|row| (row.0, row.1) == (state, event));
                    let expected = row.map_or((state, Step::Nothing), |row| (row.2, row.3));
                    let mut life = life(state, regained);
                    let step = life.on(event, Instant::now());
                    assert_eq!((life.state(), step), expected, "{state:?}, {event:?}");
                }
            }
        }
    }

    /// Drops after each of these times, reconnected a second later; how many were reconnected
    /// before it was given up.
    fn reconnected(life: &mut Life, lasts: impl IntoIterator<Item = u64>) -> usize {
        let mut now = Instant::now();
        for (count, last) in lasts.into_iter().enumerate() {
            now += SECOND * u32::try_from(last).unwrap_or(u32::MAX);
            if life.on(Event::Dropped, now) == Step::GiveUp {
                assert_eq!(life.state(), State::Lost);
                return count;
            }
            now += SECOND;
            assert_eq!(life.on(Event::Reconnected, now), Step::Use);
        }
        usize::MAX
    }

    #[test]
    fn a_websocket_that_drops_again_and_again_is_given_up() {
        let connected = || life(State::Connected, Regained::WhenConnected);
        // The first was no reconnected one.
        assert_eq!(reconnected(&mut connected(), [0; 20]), 8);
        assert_eq!(reconnected(&mut connected(), [9; 20]), 8);
        assert_eq!(reconnected(&mut connected(), [10; 20]), usize::MAX);
        assert_eq!(reconnected(&mut connected(), [0, 1, 1, 1, 1, 1, 1, 1, 10, 1, 1, 1, 1]), usize::MAX);
        assert_eq!(connected().lost_since(), None);
    }

    #[test]
    fn where_an_answer_is_due_a_websocket_alone_is_none() {
        let mut life = life(State::Connected, Regained::WhenAnswered);
        let start = Instant::now();
        assert_eq!(life.on(Event::Answered, start), Step::Nothing);
        assert_eq!(life.on(Event::Dropped, start), Step::Reconnect);
        assert_eq!(life.deadline(), None, "the job has a deadline of its own");
        assert_eq!(life.on(Event::Reconnected, start + SECOND), Step::Use);
        assert_eq!(life.lost_since(), Some(start));
        assert_eq!(life.deadline(), Some(start + RECONNECT));
        // It drops again after a while, and the time still runs from the first drop.
        assert_eq!(life.on(Event::Dropped, start + SECOND * 30), Step::Reconnect);
        assert_eq!(life.on(Event::Reconnected, start + SECOND * 31), Step::Use);
        assert_eq!(life.on(Event::Waited, start + SECOND * 59), Step::Nothing);
        assert_eq!(life.on(Event::Waited, start + RECONNECT), Step::GiveUp);
        assert_eq!(life.state(), State::Lost);
    }

    #[test]
    fn a_drop_after_the_time_is_the_last() {
        let mut life = life(State::Connected, Regained::WhenAnswered);
        let start = Instant::now();
        assert_eq!(life.on(Event::Dropped, start), Step::Reconnect);
        assert_eq!(life.on(Event::Reconnected, start + SECOND), Step::Use);
        assert_eq!(life.on(Event::Dropped, start + RECONNECT), Step::GiveUp);
    }

    #[test]
    fn an_answer_makes_the_shortest_websocket_a_success() {
        let mut life = life(State::Connected, Regained::WhenAnswered);
        let start = Instant::now();
        for second in 0..100 {
            let now = start + SECOND * second;
            assert_eq!(life.on(Event::Dropped, now), Step::Reconnect, "{second}");
            assert_eq!(life.on(Event::Reconnected, now), Step::Use);
            assert_eq!(life.on(Event::Answered, now), Step::Nothing);
            assert_eq!((life.lost_since(), life.resumed(), life.deadline()), (None, Some(now), None));
        }
    }
}
