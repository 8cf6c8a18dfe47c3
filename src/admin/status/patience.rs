//! Runs questions to a file system in a thread, with a time limit, because it may never answer.
//!
//! A thread that waits for a dead file server cannot be ended, so it is left behind. The programs
//! that use this end soon.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How many answers may be late before the rest is skipped, as it would be late, too.
const MAX_LATE: usize = 3;

/// Asks one question; `None` if there is no answer in time.
pub fn await_answer<R: Send + 'static>(
    within: Duration,
    question: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (answer, answers) = channel();
    thread::spawn(move || answer.send(question()));
    answers.recv_timeout(within).ok()
}

/// Asks about each of the `items` in turn; `None` for those without an answer `within` that time.
///
/// After three of these the remaining items are skipped.
pub fn await_each<I, R>(
    items: &Arc<Vec<I>>,
    within: Duration,
    question: impl Fn(&I) -> R + Send + Sync + 'static,
) -> Vec<Option<R>>
where
    I: Send + Sync + 'static,
    R: Send + 'static,
{
    let question = Arc::new(question);
    let mut found: Vec<Option<R>> = Vec::with_capacity(items.len());
    let mut late = 0;
    while found.len() < items.len() && late < MAX_LATE {
        let answers = asker(items, found.len(), &question);
        while found.len() < items.len() {
            match answers.recv_timeout(within) {
                Ok(answer) => found.push(Some(answer)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    found.push(None);
                    late += 1;
                    break;
                }
            }
        }
    }
    found.resize_with(items.len(), || None);
    found
}

/// Starts a thread that asks about the items from number `first` on, until the receiver is gone.
fn asker<I, R, Q>(items: &Arc<Vec<I>>, first: usize, question: &Arc<Q>) -> Receiver<R>
where
    I: Send + Sync + 'static,
    R: Send + 'static,
    Q: Fn(&I) -> R + Send + Sync + 'static,
{
    let (answer, answers) = channel();
    let (items, question) = (Arc::clone(items), Arc::clone(question));
    thread::spawn(move || {
        for item in items.iter().skip(first) {
            if answer.send(question(item)).is_err() {
                return;
            }
        }
    });
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(50);

    fn silent_for(bad: impl Fn(i32) -> bool + Send + Sync + 'static) -> (Vec<Option<i32>>, Duration) {
        let start = Instant::now();
        let found = await_each(&Arc::new((0..100).collect()), SHORT, move |item| {
            if bad(*item) {
                thread::sleep(Duration::from_secs(3600));
            }
            item * 2
        });
        (found, start.elapsed())
    }

    #[test]
    fn one_that_is_silent_does_not_hide_the_others() {
        let (found, _) = silent_for(|item| item == 7);
        assert_eq!(found.len(), 100);
        assert!(found.iter().enumerate().all(|(at, answer)| (at == 7) == answer.is_none()));
        assert_eq!(found[99], Some(198));
    }

    #[test]
    fn many_that_are_silent_are_not_all_waited_for() {
        let (found, taken) = silent_for(|item| item >= 50);
        assert!(found.len() == 100 && found[49].is_some() && found[50..].iter().all(Option::is_none));
        assert!(taken < SHORT * 10, "{taken:?}");
    }

    #[test]
    fn a_question_has_an_answer_or_an_end() {
        assert_eq!(await_answer(Duration::from_secs(60), || 1), Some(1));
        assert_eq!(await_answer(SHORT, || thread::sleep(Duration::from_secs(3600))), None);
    }
}
