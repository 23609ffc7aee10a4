//! One round: whom it waits for, which updates it takes, when it closes.
//!
//! ```text
//! Collecting ──all answered, or target reached and grace over, or deadline──> Closed ──> Aggregated ──> Published
//!      └────────────────────fewer than the minimum at that point───────────> Failed
//! ```
//! The list of clients is frozen when the round closes; what comes afterwards is late. An update is accepted, rejected
//! (invalid) or late, and each is counted apart.

use std::collections::{BTreeMap, BTreeSet};

use fedlora_adapter::{ClientId, Digest, RoundId};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How many updates a round needs and how long it waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participation {
    /// Fewest accepted updates that make a new global adapter.
    pub min_results: usize,
    /// Accepted updates after which the round closes once the grace is over.
    pub target_results: usize,
    /// How long to wait for more after the target is reached.
    pub grace_ms: u64,
    /// How long a round may take; `u64::MAX` for as long as it needs.
    pub deadline_ms: u64,
}

/// Where a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Updates are accepted.
    Collecting,
    /// The list of clients is frozen and being aggregated.
    Closed,
    /// The new global adapter exists.
    Aggregated(Digest),
    /// The new global adapter is announced.
    Published(Digest),
    /// No new global adapter came of it.
    Failed(FailureReason),
}

/// Why a round made no new global adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// Fewer updates than the minimum.
    TooFewResults {
        /// Updates accepted.
        accepted: usize,
        /// Updates needed.
        needed: usize,
    },
}

/// What becomes of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It counts.
    Accepted,
    /// It had been accepted before, with the same content.
    Duplicate,
    /// Another update of this client had been accepted before; the first wins.
    Conflict,
    /// The client is not in this round's cohort.
    NotInvited,
    /// It came after the round had closed, or names another round.
    Late,
    /// It is invalid and does not count.
    Rejected,
}

/// Something that happened to a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundEvent {
    /// A valid update arrived.
    Submitted {
        /// Who sent it.
        client: ClientId,
        /// The round that it names.
        round: RoundId,
        /// Digest of its content.
        digest: Digest,
    },
    /// An invalid update arrived.
    Invalid {
        /// Who sent it.
        client: ClientId,
    },
    /// A client will not answer: it disconnected or declined.
    Left {
        /// Who.
        client: ClientId,
    },
    /// Time passed.
    Tick,
    /// The server step is done.
    Aggregated(Digest),
    /// The new adapter is durable and announced.
    Published,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundEffect {
    /// Tell a client what became of its update.
    Reply(ClientId, Verdict),
    /// Run the server step over exactly these clients, in this order.
    Aggregate(Vec<ClientId>),
    /// Make the new adapter durable, announce it, and report [`RoundEvent::Published`].
    Publish(Digest),
    /// Call with [`RoundEvent::Tick`] at this time.
    WakeAt(Timestamp),
    /// The round is over without a new adapter.
    Failed(FailureReason),
}

/// Numbers of updates and clients by fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Updates that count.
    pub accepted: u64,
    /// Invalid updates.
    pub rejected: u64,
    /// Updates after the close.
    pub late: u64,
    /// Invited clients that had not answered at the close.
    pub dropped: u64,
}

/// A round in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    id: RoundId,
    participation: Participation,
    phase: Phase,
    waiting: BTreeSet<ClientId>,
    accepted: BTreeMap<ClientId, Digest>,
    deadline: Timestamp,
    grace_end: Option<Timestamp>,
    tally: Tally,
}

impl Round {
    /// Opens a round for a cohort.
    #[must_use]
    pub fn open(
        id: RoundId,
        cohort: impl IntoIterator<Item = ClientId>,
        participation: Participation,
        now: Timestamp,
    ) -> (Self, Vec<RoundEffect>) {
        let round = Self {
            id,
            participation,
            phase: Phase::Collecting,
            waiting: cohort.into_iter().collect(),
            accepted: BTreeMap::new(),
            deadline: now + participation.deadline_ms,
            grace_end: None,
            tally: Tally::default(),
        };
        let wake = (participation.deadline_ms != u64::MAX).then_some(RoundEffect::WakeAt(round.deadline));
        (round, wake.into_iter().collect())
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

    /// Counts so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes an event and says what to do about it.
    pub fn handle(&mut self, event: RoundEvent, now: Timestamp) -> Vec<RoundEffect> {
        let mut effects = Vec::new();
        match event {
            RoundEvent::Submitted { client, round, digest } => {
                let verdict = self.submit(client, round, digest);
                effects.push(RoundEffect::Reply(client, verdict));
            }
            RoundEvent::Invalid { client } => {
                self.tally.rejected += 1;
                self.waiting.remove(&client);
                effects.push(RoundEffect::Reply(client, Verdict::Rejected));
            }
            RoundEvent::Left { client } => {
                if self.phase == Phase::Collecting && self.waiting.remove(&client) {
                    self.tally.dropped += 1;
                }
            }
            RoundEvent::Tick => {}
            RoundEvent::Aggregated(digest) => {
                if self.phase == Phase::Closed {
                    self.phase = Phase::Aggregated(digest);
                    effects.push(RoundEffect::Publish(digest));
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
        // Asked before lateness: a client that lost the first answer must get the same one again.
        if round == self.id
            && let Some(first) = self.accepted.get(&client)
        {
            return if *first == digest { Verdict::Duplicate } else { Verdict::Conflict };
        }
        if round != self.id || self.phase != Phase::Collecting {
            self.tally.late += 1;
            return Verdict::Late;
        }
        if !self.waiting.remove(&client) {
            return Verdict::NotInvited;
        }
        self.accepted.insert(client, digest);
        self.tally.accepted += 1;
        Verdict::Accepted
    }

    fn close_if_due(&mut self, now: Timestamp, effects: &mut Vec<RoundEffect>) {
        if self.phase != Phase::Collecting {
            return;
        }
        let target = self.accepted.len() >= self.participation.target_results;
        if target && self.grace_end.is_none() {
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
        self.tally.dropped += self.waiting.len() as u64;
        self.waiting.clear();
        let (accepted, needed) = (self.accepted.len(), self.participation.min_results.max(1));
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
