//! One round: whom it waits for, which updates it takes, when it closes.
//!
//! ```text
//! Collecting ──all answered, or target reached and grace over, or deadline──> Closed ──> Aggregated ──> Published
//!      └────────────────────fewer than the minimum at that point───────────> Failed
//! ```
//! The list of clients is frozen when the round closes; what comes afterwards is late. An update is accepted, rejected
//! (invalid) or late, and each is counted apart, by client: an update that is sent again because its answer was lost
//! changes no count. Who was rejected or lost may still send a valid update while the round is open.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{ClientId, Digest, RoundId};
use serde::{Deserialize, Serialize};

pub use words::{FailureReason, Phase, RoundEffect, RoundEvent, Tally, Verdict};

use crate::Timestamp;

/// How many updates a round needs and how long it waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participation {
    /// Fewest accepted updates that make a new global adapter.
    pub min_results: usize,
    /// Accepted updates after which the round closes once the grace is over; never fewer than `min_results`.
    pub target_results: usize,
    /// How long to wait for more after the target is reached.
    pub grace_ms: u64,
    /// How long a round may take; `u64::MAX` for as long as it needs.
    pub deadline_ms: u64,
}

/// A round in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    id: RoundId,
    participation: Participation,
    phase: Phase,
    cohort: BTreeSet<ClientId>,
    /// Who may still answer: neither accepted nor rejected nor gone.
    waiting: BTreeSet<ClientId>,
    accepted: BTreeMap<ClientId, Digest>,
    rejected: BTreeSet<ClientId>,
    late: BTreeSet<ClientId>,
    deadline: Timestamp,
    grace_end: Option<Timestamp>,
}

impl Round {
    /// Opens a round for a cohort. Without anyone to wait for it fails at once.
    #[must_use]
    pub fn open(
        id: RoundId,
        cohort: impl IntoIterator<Item = ClientId>,
        participation: Participation,
        now: Timestamp,
    ) -> (Self, Vec<RoundEffect>) {
        let cohort: BTreeSet<ClientId> = cohort.into_iter().collect();
        let mut round = Self {
            id,
            participation,
            phase: Phase::Collecting,
            waiting: cohort.clone(),
            cohort,
            accepted: BTreeMap::new(),
            rejected: BTreeSet::new(),
            late: BTreeSet::new(),
            deadline: now + participation.deadline_ms,
            grace_end: None,
        };
        let wake = (participation.deadline_ms != u64::MAX).then_some(RoundEffect::WakeAt(round.deadline));
        let mut effects = wake.into_iter().collect();
        round.close_if_due(now, &mut effects);
        (round, effects)
    }

    /// The round's number.
    #[must_use]
    pub fn id(&self) -> RoundId {
        self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whom it invited.
    #[must_use]
    pub fn cohort(&self) -> &BTreeSet<ClientId> {
        &self.cohort
    }

    /// Invited clients whose answer is still awaited; none once the round has closed.
    #[must_use]
    pub fn waiting(&self) -> &BTreeSet<ClientId> {
        &self.waiting
    }

    /// Accepted updates: client and digest of the content.
    #[must_use]
    pub fn accepted(&self) -> &BTreeMap<ClientId, Digest> {
        &self.accepted
    }

    /// Clients whose update was invalid.
    #[must_use]
    pub fn rejected(&self) -> &BTreeSet<ClientId> {
        &self.rejected
    }

    /// Clients whose update came too late or named another round.
    #[must_use]
    pub fn late(&self) -> &BTreeSet<ClientId> {
        &self.late
    }

    /// The first time at which a tick would close the round; `None` if none would.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let first = self.deadline().into_iter().chain(self.grace_end).min();
        first.filter(|_| self.phase == Phase::Collecting)
    }

    /// When the round closes at the latest; `None` for never.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        (self.participation.deadline_ms != u64::MAX).then_some(self.deadline)
    }

    /// Counts so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let answered = self.accepted.len() + self.rejected.len();
        let dropped = if self.phase == Phase::Collecting { 0 } else { self.cohort.len() - answered };
        Tally {
            accepted: self.accepted.len() as u64,
            rejected: self.rejected.len() as u64,
            late: self.late.len() as u64,
            dropped: dropped as u64,
        }
    }

    /// Takes an event and says what to do about it.
    pub fn handle(&mut self, event: RoundEvent, now: Timestamp) -> Vec<RoundEffect> {
        let mut effects = Vec::new();
        match event {
            RoundEvent::Submitted { client, round, digest } => {
                let verdict = self.submit(client, round, digest);
                effects.push(RoundEffect::Reply(client, verdict));
            }
            RoundEvent::Invalid { client } => effects.push(RoundEffect::Reply(client, self.reject(client))),
            RoundEvent::Left { client } => {
                self.waiting.remove(&client);
            }
            RoundEvent::Tick => {}
            RoundEvent::Aggregated(digest) => {
                if self.phase == Phase::Closed {
                    self.phase = Phase::Aggregated(digest);
                    effects.push(RoundEffect::Publish(digest));
                }
            }
            RoundEvent::StepFailed => {
                if self.phase == Phase::Closed {
                    self.phase = Phase::Failed(FailureReason::ServerStep);
                    effects.push(RoundEffect::Failed(FailureReason::ServerStep));
                }
            }
            RoundEvent::Published => {
                if let Phase::Aggregated(digest) = self.phase {
                    self.phase = Phase::Published(digest);
                }
            }
        }
        self.close_if_due(now, &mut effects);
        effects
    }

    fn submit(&mut self, client: ClientId, round: RoundId, digest: Digest) -> Verdict {
        if round != self.id {
            self.late.insert(client);
            return Verdict::Late;
        }
        // Asked before lateness: a client that lost the first answer must get the same one again.
        if let Some(first) = self.accepted.get(&client) {
            return if *first == digest { Verdict::Duplicate } else { Verdict::Conflict };
        }
        if let Some(verdict) = self.turn_away(client) {
            return verdict;
        }
        self.waiting.remove(&client);
        self.rejected.remove(&client);
        self.accepted.insert(client, digest);
        Verdict::Accepted
    }

    fn reject(&mut self, client: ClientId) -> Verdict {
        if let Some(verdict) = self.turn_away(client) {
            return verdict;
        }
        // What was accepted stays so: an invalid update afterwards is only refused.
        if !self.accepted.contains_key(&client) {
            self.waiting.remove(&client);
            self.rejected.insert(client);
        }
        Verdict::Rejected
    }

    /// Why no update of this client is looked at, if so.
    fn turn_away(&mut self, client: ClientId) -> Option<Verdict> {
        if !self.cohort.contains(&client) {
            return Some(Verdict::NotInvited);
        }
        if self.phase == Phase::Collecting {
            return None;
        }
        self.late.insert(client);
        Some(Verdict::Late)
    }

    fn close_if_due(&mut self, now: Timestamp, effects: &mut Vec<RoundEffect>) {
        if self.phase != Phase::Collecting {
            return;
        }
        let needed = self.participation.min_results;
        let target = self.participation.target_results.max(needed);
        if self.accepted.len() >= target && self.grace_end.is_none() {
            let end = now + self.participation.grace_ms;
            self.grace_end = Some(end);
            if self.participation.grace_ms > 0 {
                effects.push(RoundEffect::WakeAt(end));
            }
        }
        let grace_over = self.grace_end.is_some_and(|end| now >= end);
        if !(self.waiting.is_empty() || grace_over || now >= self.deadline) {
            return;
        }
        self.waiting.clear();
        let accepted = self.accepted.len();
        if accepted < needed {
            let reason = FailureReason::TooFewResults { accepted, needed };
            self.phase = Phase::Failed(reason);
            effects.push(RoundEffect::Failed(reason));
        } else {
            self.phase = Phase::Closed;
            effects.push(RoundEffect::Aggregate(self.accepted.keys().copied().collect()));
        }
    }
}

#[cfg(test)]
mod tests;
