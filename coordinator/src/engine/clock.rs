//! Time that an engine can rely on.

#![expect(clippy::disallowed_methods, reason = "this file is where the server looks at a clock")]

use std::{
    fmt::Debug,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, read once; from then on time passes as it does for the process, whatever happens to the
/// clock: a correction must neither close a round nor keep it open.
#[derive(Debug)]
pub struct SystemClock {
    start_ms: u64,
    started: Instant,
}

impl SystemClock {
    /// Reads the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start_ms: since.as_millis() as u64, started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.start_ms) + self.started.elapsed().as_millis() as u64
    }
}

/// Time that never goes back. Where the clock does, time goes on from where it was, at the clock's pace: a deadline is
/// neither reached early nor moved away by the jump. The last event's time outlives the process in the log, so the
/// same holds across a restart.
#[derive(Debug, Default)]
pub(crate) struct SteadyTime {
    last: Timestamp,
    ahead_ms: u64,
}

impl SteadyTime {
    /// The time for a reading of the clock.
    pub(crate) fn observe(&mut self, clock: Timestamp) -> Timestamp {
        let time = clock + self.ahead_ms;
        self.ahead_ms += self.last.0.saturating_sub(time.0);
        self.last = self.last.max(time);
        self.last
    }

    /// Time has been as late as this.
    pub(crate) fn at_least(&mut self, time: Timestamp) {
        self.last = self.last.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_at_the_pace_of_a_clock_that_went_back() {
        let mut time = SteadyTime::default();
        let seen: Vec<u64> = [100, 150, 20, 30, 25, 40].map(|clock| time.observe(Timestamp(clock)).0).to_vec();
        assert_eq!(seen, [100, 150, 150, 160, 160, 175]);
    }

    #[test]
    fn what_the_log_has_seen_has_passed() {
        let mut time = SteadyTime::default();
        time.at_least(Timestamp(1_000));
        assert_eq!(time.observe(Timestamp(10)), Timestamp(1_000));
        assert_eq!(time.observe(Timestamp(15)), Timestamp(1_005));
    }

    #[test]
    fn the_system_clock_is_past_2020_and_never_goes_back() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(first > Timestamp(1_577_836_800_000) && clock.now() >= first);
    }
}
