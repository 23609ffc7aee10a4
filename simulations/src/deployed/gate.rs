//! Rounds that may be trained.

use std::sync::{Condvar, Mutex, PoisonError};

use fedlora_adapter::RoundId;

/// Lets clients train a round when the one before has been evaluated: the evaluation reads what they keep, and they
/// change it.
#[derive(Debug)]
pub(super) struct Gate {
    open: Mutex<RoundId>,
    changed: Condvar,
}

impl Gate {
    /// A gate that lets no round pass.
    pub(super) fn closed() -> Self {
        Self { open: Mutex::new(RoundId(0)), changed: Condvar::new() }
    }

    /// Lets everybody train up to this round.
    pub(super) fn open(&self, round: RoundId) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = round;
        self.changed.notify_all();
    }

    /// Waits until this round may be trained.
    pub(super) fn wait(&self, round: RoundId) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Poisoned or not, what it returns is a number that is written in one go.
        drop(self.changed.wait_while(open, |open| *open < round));
    }
}
