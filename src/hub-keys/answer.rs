//! Decides whether to use a cached answer or to ask a source for a user's keys. Touches nothing but
//! the cache.

use super::cache::{Cache, Entry, Time};
use super::lines::Found;
use common::UserName;
use std::time::Duration;

/// How long an answer is used without asking again, in seconds. sshd asks about each key that a
/// client offers; one question to the source serves all of them.
const FRESH: u64 = 60;
/// How long a source is not asked again after it failed, in seconds, so that not every offered key
/// waits for it.
const PAUSE: u64 = 15;

/// Whose keys are wanted, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The source's name in the configuration.
    pub source: &'a str,
    /// The user whose keys are wanted.
    pub user: &'a UserName,
    /// Where the answer comes from: a cached answer with another origin is not used.
    pub origin: &'a str,
    /// How long an answer may be used while no newer one can be had.
    pub max_age: Duration,
}

/// What to print and what to log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The keys, as `type base64`.
    pub keys: Vec<String>,
    /// A line for the log; only if this run has asked the source.
    pub note: Option<String>,
    /// Why the answer could not be cached.
    pub unkept: Option<String>,
}

/// Returns the keys. `ask` asks the source, `clock` tells the time. Without a `cache` the source is
/// asked each time.
#[must_use]
pub fn find(
    question: &Question<'_>,
    cache: Option<&Cache>,
    clock: &dyn Fn() -> Time,
    ask: impl FnOnce() -> Result<Found, String>,
) -> Answer {
    let Question { source, user, origin, max_age } = *question;
    let known = cache
        .and_then(|cache| cache.load(source, user))
        .filter(|entry| entry.origin == origin)
        .unwrap_or_else(|| Entry { origin: origin.to_owned(), ..Entry::default() });
    let now = clock();
    if let Some((_, keys)) = known.good.as_ref().filter(|(time, _)| is_younger(*time, now, FRESH)) {
        return Answer { keys: keys.clone(), ..Answer::default() };
    }
    if known.failed.is_some_and(|time| is_younger(time, now, PAUSE)) {
        return Answer { keys: usable(&known, now, max_age).0, ..Answer::default() };
    }
    // An answer is as old as its question, however late this process handles it.
    let asked = now;
    let outcome = ask();
    let now = clock();
    let (entry, keys, note) = match outcome {
        Ok(Found { keys, left_out }) => {
            let entry = Entry { good: Some((asked, keys.clone())), failed: None, ..known };
            (entry, keys, left_out.map(|why| format!("{source}: {why}")))
        }
        Err(why) => {
            let (keys, age) = usable(&known, now, max_age);
            let instead = match age {
                Some(age) => format!("its answer of {} ago is used", words(age)),
                None => "its keys are left out".to_owned(),
            };
            (Entry { failed: Some(now), ..known }, keys, Some(format!("{source}: {why}; {instead}")))
        }
    };
    let stored = cache.map(|cache| cache.store(source, user, &entry, useless(&entry, max_age)));
    let unkept = stored.and_then(Result::err).map(|why| why.to_string());
    Answer { keys, note, unkept }
}

/// True if `time` lies in the last `age` seconds. False for a time ahead of the clock: the clock
/// was set back, and the age is unknown.
fn is_younger(time: Time, now: Time, age: u64) -> bool {
    now.checked_sub(time).is_some_and(|passed| passed < age)
}

/// Returns the keys of the last answer, with its age in seconds, if it may still be used.
fn usable(entry: &Entry, now: Time, max_age: Duration) -> (Vec<String>, Option<u64>) {
    match &entry.good {
        Some((time, keys)) if is_younger(*time, now, max_age.as_secs()) => {
            (keys.clone(), Some(now.saturating_sub(*time)))
        }
        _ => (Vec::new(), None),
    }
}

/// When an entry expires. An expired answer without keys is no better than none.
fn useless(entry: &Entry, max_age: Duration) -> Time {
    let good = entry.good.as_ref().map_or(0, |(time, keys)| {
        let age = if keys.is_empty() { FRESH } else { max_age.as_secs().max(FRESH) };
        time.saturating_add(age)
    });
    good.max(entry.failed.map_or(0, |time| time.saturating_add(PAUSE)))
}

/// Formats a duration for people.
fn words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lines::tests::keys;
    use super::*;
    use std::cell::Cell;

    /// A cache, a clock, and a source that counts how often it is asked.
    struct Place {
        dir: tempfile::TempDir,
        now: Cell<Time>,
        asked: Cell<usize>,
        max_age: Duration,
        origin: &'static str,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let max_age = Duration::from_secs(7200);
            Self { dir, now: Cell::new(1_000_000), asked: Cell::new(0), max_age, origin: "https://x/alice" }
        }

        fn find(&self, outcome: Result<&[String], &str>) -> Answer {
            let cache = Cache::open(&self.dir.path().join("keys")).unwrap();
            let user = UserName::parse("alice").unwrap();
            let question =
                Question { source: "url", user: &user, origin: self.origin, max_age: self.max_age };
            find(&question, Some(&cache), &|| self.now.get(), || {
                self.asked.set(self.asked.get() + 1);
                outcome.map(|keys| Found { keys: keys.to_vec(), left_out: None }).map_err(str::to_owned)
            })
        }

        fn pass(&self, seconds: u64) {
            self.now.set(self.now.get() + seconds);
        }
    }

    #[test]
    fn a_source_is_asked_once_for_all_the_keys_of_a_login() {
        let place = Place::new();
        let keys = keys();
        for _ in 0..100 {
            assert_eq!(place.find(Ok(&keys)).keys, keys);
        }
        assert_eq!(place.asked.get(), 1);
        place.pass(FRESH - 1);
        assert_eq!(place.find(Ok(&[])).keys, keys);
        place.pass(1);
        assert_eq!(place.find(Ok(&[])), Answer::default());
        assert_eq!(place.asked.get(), 2);
        assert_eq!(place.find(Ok(&keys)), Answer::default(), "that there are none is an answer too");
        assert_eq!(place.asked.get(), 2);
    }

    #[test]
    fn an_old_answer_helps_out_for_a_while() {
        let place = Place::new();
        let keys = keys();
        let _ = place.find(Ok(&keys));
        place.pass(FRESH);
        let answer = place.find(Err("no answer"));
        assert_eq!(answer.keys, keys);
        assert_eq!(answer.note.unwrap(), "url: no answer; its answer of 60 s ago is used");
        // Not asked again for each key, and nothing logged.
        for _ in 0..100 {
            assert_eq!(place.find(Ok(&[])), Answer { keys: keys.to_vec(), ..Answer::default() });
        }
        assert_eq!(place.asked.get(), 2);
        place.pass(PAUSE);
        assert_eq!(place.find(Err("no answer")).keys, keys);
        assert_eq!(place.asked.get(), 3);
        place.pass(7000);
        assert!(place.find(Err("x")).note.unwrap().ends_with("its answer of 117 min ago is used"));
        place.pass(7200);
        let answer = place.find(Err("x"));
        assert_eq!((answer.keys, answer.note.unwrap().as_str()), (vec![], "url: x; its keys are left out"));
    }

    #[test]
    fn a_failure_is_forgotten_when_the_source_answers() {
        let place = Place::new();
        assert_eq!(place.find(Err("x")).note.unwrap(), "url: x; its keys are left out");
        assert_eq!(place.find(Ok(&keys())), Answer::default());
        place.pass(PAUSE);
        assert_eq!(place.find(Ok(&keys())).keys, keys());
        place.pass(FRESH);
        assert_eq!(place.find(Ok(&[])).keys, Vec::<String>::new());
    }

    #[test]
    fn an_age_of_0_means_never() {
        let place = Place { max_age: Duration::ZERO, ..Place::new() };
        assert_eq!(place.find(Ok(&keys())).keys, keys());
        place.pass(FRESH);
        assert_eq!(place.find(Err("x")).keys, Vec::<String>::new());
    }

    #[test]
    fn another_address_has_not_answered_yet() {
        let mut place = Place::new();
        let _ = place.find(Ok(&keys()));
        place.origin = "https://y/alice";
        assert_eq!(place.find(Err("x")).keys, Vec::<String>::new());
        assert_eq!(place.asked.get(), 2);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_immortal() {
        let place = Place::new();
        let _ = place.find(Ok(&keys()));
        place.now.set(500);
        assert_eq!(place.find(Err("x")).keys, Vec::<String>::new());
        assert_eq!(place.asked.get(), 2);
    }

    #[test]
    fn without_a_cache_the_source_is_asked() {
        let user = UserName::parse("alice").unwrap();
        let question = Question { source: "hub", user: &user, origin: "x", max_age: Duration::ZERO };
        let found =
            || Found { keys: keys().to_vec(), left_out: Some("a line was left out: line 1: x".into()) };
        let answer = find(&question, None, &|| 5, || Ok(found()));
        assert_eq!(answer.keys, keys());
        assert_eq!(
            (answer.note.unwrap().as_str(), answer.unkept),
            ("hub: a line was left out: line 1: x", None)
        );
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_told() {
        let place = Place::new();
        let cache = Cache::open(&place.dir.path().join("keys")).unwrap();
        std::fs::remove_dir(place.dir.path().join("keys")).unwrap();
        let user = UserName::parse("alice").unwrap();
        let question = Question { source: "hub", user: &user, origin: "x", max_age: Duration::ZERO };
        let answer =
            find(&question, Some(&cache), &|| 5, || Ok(Found { keys: keys().to_vec(), left_out: None }));
        assert_eq!(answer.keys, keys());
        assert!(answer.unkept.is_some());
    }

    #[test]
    fn files_last_as_long_as_they_are_of_use() {
        let day = Duration::from_secs(86_400);
        let entry = |good: Option<(Time, Vec<String>)>, failed| Entry { origin: String::new(), good, failed };
        assert_eq!(useless(&entry(Some((1000, keys().to_vec())), Some(2000)), day), 87_400);
        assert_eq!(useless(&entry(Some((1000, vec![])), None), day), 1060);
        assert_eq!(useless(&entry(Some((1000, keys().to_vec())), None), Duration::ZERO), 1060);
        assert_eq!(useless(&entry(None, Some(2000)), day), 2015);
        assert_eq!(useless(&entry(Some((u64::MAX, keys().to_vec())), None), day), u64::MAX);
    }
}
