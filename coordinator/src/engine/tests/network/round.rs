//! What is promised of one round.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{ClientId, RoundId};
use fedlora_aggregation::Weighting;

use crate::UpdateMeta;

/// What the run's configuration promises.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) rounds: u64,
    /// Clients that must be there before a round opens.
    pub(super) available: usize,
    /// The most that a round invites.
    pub(super) invited: usize,
    pub(super) minimum: usize,
    pub(super) target: usize,
    pub(super) grace_ms: u64,
    pub(super) deadline_ms: Option<u64>,
    pub(super) reconnect_ms: u64,
    pub(super) weighting: Weighting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Collecting,
    Closed,
    Published,
    Failed,
}

#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) number: RoundId,
    pub(super) stage: Stage,
    pub(super) opened: u64,
    /// None until it was looked up.
    pub(super) cohort: Option<BTreeSet<ClientId>>,
    pub(super) accepted: BTreeMap<ClientId, UpdateMeta>,
    pub(super) rejected: BTreeSet<ClientId>,
    pub(super) late: BTreeSet<ClientId>,
    pub(super) gone: BTreeSet<ClientId>,
    pub(super) declined: BTreeSet<ClientId>,
    pub(super) target_since: Option<u64>,
}

impl Round {
    pub(super) fn open(number: RoundId, opened: u64) -> Self {
        Self {
            number,
            stage: Stage::Collecting,
            opened,
            cohort: None,
            accepted: BTreeMap::new(),
            rejected: BTreeSet::new(),
            late: BTreeSet::new(),
            gone: BTreeSet::new(),
            declined: BTreeSet::new(),
            target_since: None,
        }
    }

    pub(super) fn invites(&self, client: ClientId) -> bool {
        self.cohort.as_ref().is_some_and(|cohort| cohort.contains(&client))
    }

    pub(super) fn awaits(&self, client: ClientId) -> bool {
        let has_answered = self.accepted.contains_key(&client) || self.rejected.contains(&client);
        self.stage == Stage::Collecting && self.invites(client) && !has_answered && !self.gone.contains(&client)
    }

    pub(super) fn is_due(&self, rules: &Rules, now: u64) -> bool {
        let Some(cohort) = &self.cohort else { return false };
        let grace_is_over = self.target_since.is_some_and(|since| now >= since + rules.grace_ms);
        let is_past_deadline = rules.deadline_ms.is_some_and(|deadline_ms| now >= self.opened + deadline_ms);
        !cohort.iter().any(|client| self.awaits(*client)) || grace_is_over || is_past_deadline
    }
}
