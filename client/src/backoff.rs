//! How long to wait before the next try: exponential with full jitter ("Exponential Backoff And Jitter", AWS 2015).
//!
//! Full jitter, so that clients that a restarting coordinator lost at one moment do not come back at one moment.

use std::time::Duration;

use fedlora_adapter::Digest;

/// Waits between tries that failed.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    seed: u64,
    draws: u64,
    failures: u32,
}

impl Backoff {
    /// From half a second on average up to 30 seconds. Different seeds wait differently.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { first: Duration::from_secs(1), cap: Duration::from_secs(30), seed, draws: 0, failures: 0 }
    }

    /// No waits at all, for tests.
    #[must_use]
    pub fn none() -> Self {
        Self { first: Duration::ZERO, cap: Duration::ZERO, ..Self::new(0) }
    }

    /// The wait after one more failure: between zero and twice the last limit, but at least what the server asked for.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let limit = self.first.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(self.share()).max(retry_after.unwrap_or_default().min(self.cap))
    }

    /// Something worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A number in [0, 1).
    fn share(&mut self) -> f64 {
        self.draws += 1;
        let digest = Digest::of(&[self.seed.to_le_bytes(), self.draws.to_le_bytes()].concat());
        let [a, b, c, d, ..] = *digest.as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap_and_start_anew_after_a_success() {
        let mut backoff = Backoff::new(7);
        for failure in 0..200 {
            let limit = Duration::from_secs(1 << failure.min(5)).min(Duration::from_secs(30));
            let wait = backoff.next(None);
            assert!(wait < limit, "failure {failure}: {wait:?}");
        }
        let late: Duration = (0..100).map(|_| backoff.next(None)).sum();
        // The mean of 100 uniform draws from [0, 30) is within 15 ± 5 but for one seed in ten million (5.8 sigma).
        assert!((1000..2000).contains(&late.as_secs()), "{late:?}");
        backoff.reset();
        assert!(backoff.next(None) < Duration::from_secs(1));
    }

    #[test]
    fn two_clients_wait_differently() {
        let waits = |seed| (0..3).map(|_| Backoff::new(seed).next(None)).collect::<Vec<_>>();
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn the_servers_word_counts_up_to_the_cap() {
        let asked = Duration::from_secs(9);
        assert!(Backoff::new(1).next(Some(asked)) >= asked);
        assert!(Backoff::new(1).next(Some(Duration::from_mins(15))) <= Duration::from_secs(30));
        assert_eq!(Backoff::none().next(Some(asked)), Duration::ZERO);
    }
}
