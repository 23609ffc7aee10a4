//! A window into training that is under way: how far it is, and a way to end it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Shared between who trains and who waits; clones see the same training.
///
/// It decides no result: a trainer that is not cancelled trains as if nobody watched.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    steps: AtomicU64,
}

impl Watch {
    /// Asks training to end before its next step.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether training was asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Optimiser steps since the last [`Watch::reset`], of all clients in training.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// Makes ready for the next training.
    pub fn reset(&self) {
        self.0.cancelled.store(false, Ordering::Relaxed);
        self.0.steps.store(0, Ordering::Relaxed);
    }

    /// Counts optimiser steps.
    pub fn count(&self, steps: u64) {
        self.0.steps.fetch_add(steps, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_see_the_same_training() {
        let (watch, other) = (Watch::default(), Watch::default());
        let clone = watch.clone();
        watch.count(2);
        clone.cancel();
        assert_eq!((watch.steps(), clone.steps(), other.steps()), (2, 2, 0));
        assert!(watch.is_cancelled() && !other.is_cancelled());
        clone.reset();
        assert!(!watch.is_cancelled() && watch.steps() == 0);
    }
}
