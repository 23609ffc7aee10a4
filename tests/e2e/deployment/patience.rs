//! Waiting for other processes: they tell nobody when they are done, so they are asked again, but never for ever.

#![expect(clippy::disallowed_methods, reason = "the one place of these tests that looks at a clock")]

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest time that anything in these tests may take before it counts as hung.
const LIMIT: Duration = Duration::from_mins(2);
/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(3);

/// Asks until there is an answer; the answer, and how long it took.
pub(super) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return (answer, begin.elapsed());
        }
        assert!(begin.elapsed() < LIMIT, "{what}");
        thread::sleep(PAUSE);
    }
}

/// Lets some time pass in which anything may happen.
pub(super) fn pass(time: Duration) {
    thread::sleep(time);
}
