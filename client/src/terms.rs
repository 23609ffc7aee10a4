//! What trainer and store of a deployed client must know of the run that the link takes part in.

use std::sync::{Arc, Mutex, PoisonError};

use fedlora_adapter::{AdapterSpec, Digest, RoundId};

/// What stays the same for a whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// The run's number at its coordinator.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The adapter.
    pub spec: Arc<AdapterSpec>,
    /// Digest of the base model.
    pub base_model: Digest,
    /// Class names in the order of the head's rows.
    pub labels: Vec<String>,
}

/// The round that a client is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// Its run.
    pub run: Arc<RunInfo>,
    /// The round.
    pub round: RoundId,
}

/// The round that a client is in, shared by link, trainer and store; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Terms(Arc<Mutex<Option<Current>>>);

impl Terms {
    /// Says which round is under way; the link does, before it hands out the round's task.
    pub fn set(&self, run: Arc<RunInfo>, round: RoundId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Current { run, round });
    }

    /// The round under way, if any has begun.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
