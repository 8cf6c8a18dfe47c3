//! How long a connection may be idle, and how long it may last (`[session]`). Pure.

use host::config::Session;
use std::fmt;
use std::time::{Duration, Instant};

/// Longest time between the warning and the end.
const LONGEST_WARNING: Duration = Duration::from_secs(300);

/// One of the two limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `session.idle_limit`
    Idle,
    /// `session.max_length`
    Length,
}

impl Limit {
    /// Its key in config.toml.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle_limit",
            Self::Length => "max_length",
        }
    }
}

/// What is due now.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Show this line to everybody at a terminal.
    Warning(Limit, String),
    /// End the connection, with these two lines for the user.
    End(Limit, String),
}

/// The limits of one connection.
pub struct Limits {
    session: Session,
    since: Instant,
    /// For each limit, the end that has been announced.
    warned: [Option<Instant>; 2],
}

impl Limits {
    /// The limits of a connection that begins now.
    #[must_use]
    pub fn new(session: Session, now: Instant) -> Self {
        Self { session, since: now, warned: [None; 2] }
    }

    /// The limits in force: which one, how long it is, and when it is reached. `active` is when the
    /// user was last active; `None` if that is unknown.
    fn ends(&self, active: Option<Instant>) -> impl Iterator<Item = (Limit, Duration, Instant)> + use<> {
        let idle = self.session.idle_limit.zip(active).map(|(limit, at)| (Limit::Idle, limit, at));
        let length = self.session.max_length.map(|limit| (Limit::Length, limit, self.since));
        // Ignore an end that no clock will ever reach.
        [idle, length]
            .into_iter()
            .flatten()
            .filter_map(|(which, limit, from)| from.checked_add(limit).map(|end| (which, limit, end)))
    }

    /// What is due now. Ask again until it returns nothing.
    pub fn due(&mut self, active: Option<Instant>, now: Instant) -> Option<Due> {
        for (which, limit, end) in self.ends(active) {
            if now >= end {
                return Some(Due::End(which, farewell(which, limit)));
            }
            let warned = &mut self.warned[which as usize];
            if now + warning(limit) >= end && *warned != Some(end) {
                *warned = Some(end);
                return Some(Due::Warning(which, notice(which, end.saturating_duration_since(now))));
            }
        }
        None
    }

    /// When to ask again.
    #[must_use]
    pub fn deadline(&self, active: Option<Instant>) -> Option<Instant> {
        let next = |(which, limit, end): (Limit, Duration, Instant)| {
            let warned = self.warned[which as usize] == Some(end);
            if warned { Some(end) } else { end.checked_sub(warning(limit)) }
        };
        self.ends(active).filter_map(next).min()
    }
}

/// How long before its end a limit is announced: a tenth of it, and at most five minutes.
fn warning(limit: Duration) -> Duration {
    (limit / 10).min(LONGEST_WARNING)
}

fn notice(which: Limit, left: Duration) -> String {
    // Rounded up: what is announced is never longer than what was said.
    let left = Words(Duration::from_secs(left.as_secs_f64().ceil() as u64));
    match which {
        Limit::Idle => {
            format!("nothing was typed for long: this session ends in {left} unless you type something")
        }
        Limit::Length => format!("this session has reached its longest time: it ends in {left}"),
    }
}

fn farewell(which: Limit, limit: Duration) -> String {
    let limit = Words(limit);
    match which {
        Limit::Idle => format!(
            "This session was idle for {limit} and has been ended.\nLog in again; what ran in tmux or in a notebook goes on."
        ),
        Limit::Length => format!(
            "This session has lasted {limit}, the longest that this host allows, and has been ended.\n\
             Log in again; what ran in tmux or in a notebook goes on."
        ),
    }
}

/// A duration in words, in its largest whole unit.
struct Words(Duration);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (number, unit) = [(86_400, "day"), (3600, "hour"), (60, "minute")]
            .into_iter()
            .find(|(size, _)| seconds >= *size && seconds % size == 0)
            .map_or((seconds, "second"), |(size, unit)| (seconds / size, unit));
        write!(f, "{number} {unit}{}", if number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(idle: u64, length: u64, now: Instant) -> Limits {
        let some = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        Limits::new(Session { idle_limit: some(idle), max_length: some(length), max_connections: None }, now)
    }

    #[test]
    fn without_limits_nothing_is_ever_due() {
        let now = Instant::now();
        let mut limits = limits(0, 0, now);
        assert_eq!(limits.due(Some(now), now + SECOND * 86_400 * 365), None);
        assert_eq!(limits.deadline(Some(now)), None);
    }

    #[test]
    fn an_idle_session_is_warned_and_then_ended() {
        let now = Instant::now();
        let mut limits = limits(600, 0, now);
        assert_eq!(limits.deadline(Some(now)), Some(now + SECOND * 540));
        assert_eq!(limits.due(Some(now), now + SECOND * 539), None);
        let text = "nothing was typed for long: this session ends in 1 minute unless you type something";
        let at = now + SECOND * 540;
        assert_eq!(limits.due(Some(now), at), Some(Due::Warning(Limit::Idle, text.to_owned())));
        assert_eq!(limits.due(Some(now), at), None, "once");
        assert_eq!(limits.deadline(Some(now)), Some(now + SECOND * 600));
        // Something was typed: the time begins again, with a warning of its own.
        let active = Some(at + SECOND);
        assert_eq!(limits.due(active, now + SECOND * 600), None);
        assert!(matches!(limits.due(active, at + SECOND * 541), Some(Due::Warning(..))));
        let Some(Due::End(Limit::Idle, text)) = limits.due(active, at + SECOND * 601) else { unreachable!() };
        assert!(text.starts_with("This session was idle for 10 minutes and has been ended.\n"));
        assert_eq!(limits.due(None, now + SECOND * 86_400), None, "who is not known to be idle");
    }

    #[test]
    fn no_session_is_longer_than_it_may_be() {
        let now = Instant::now();
        let mut limits = limits(0, 86_400, now);
        assert_eq!(limits.deadline(None), Some(now + SECOND * 86_100));
        let warning = limits.due(None, now + SECOND * 86_100);
        let text = "this session has reached its longest time: it ends in 5 minutes";
        assert_eq!(warning, Some(Due::Warning(Limit::Length, text.to_owned())));
        let active = Some(now + SECOND * 86_399);
        let Some(Due::End(Limit::Length, text)) = limits.due(active, now + SECOND * 86_400) else {
            unreachable!()
        };
        assert!(text.starts_with("This session has lasted 1 day, ") && text.lines().count() == 2);
    }
}
