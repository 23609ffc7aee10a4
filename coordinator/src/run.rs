//! The sequence of rounds: whom each one invites, when to pause, when it is over.

use std::collections::BTreeSet;

use fedlora_adapter::{ClientId, Digest, Purpose, RoundId, Seed};
use rand::{RngExt, seq::index};
use serde::{Deserialize, Serialize};

use crate::{FailureReason, Participation, Phase, Round, RoundEffect, RoundEvent, Tally, Timestamp, Verdict};

/// What decides a run's rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Rounds to do.
    pub num_rounds: u64,
    /// Seed of the cohort choice.
    pub seed: u64,
    /// Clients to invite to a round, over-sampling included.
    pub clients_per_round: usize,
    /// Each client is in a round with this probability, independently, instead of a number of clients; such a round may
    /// have no clients at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<f64>,
    /// Clients that must be there before a round begins; never fewer than a round needs results.
    pub min_available_clients: usize,
    /// When rounds close.
    pub participation: Participation,
}

impl RunSettings {
    /// Checks that a round can succeed.
    ///
    /// # Errors
    /// Settings under which none can.
    pub fn validate(&self) -> Result<(), RunError> {
        let (invited, needed) = (self.clients_per_round, self.participation.min_results);
        if invited == 0 {
            return Err(RunError::NobodyInvited);
        }
        if needed > invited {
            return Err(RunError::Unreachable { min_results: needed, clients_per_round: invited });
        }
        Ok(())
    }
}

/// Settings that can never make a round.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// A round would invite nobody.
    #[error("clients-per-round is 0")]
    NobodyInvited,
    /// A round could never reach its minimum.
    #[error("min-results is {min_results}, but only {clients_per_round} clients are invited to a round")]
    Unreachable {
        /// Updates needed.
        min_results: usize,
        /// Clients invited.
        clients_per_round: usize,
    },
}

/// State of a run, in the words that Flower's users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunStatus {
    /// Waiting for the start or for clients.
    Pending,
    /// A round is open.
    Running,
    /// No new round begins until the run is resumed.
    Paused,
    /// All rounds are done.
    Completed,
    /// Stopped before the last round.
    Stopped,
    /// A round failed.
    Failed(FailureReason),
}

/// Something that happened to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEvent {
    /// A client can be invited from now on.
    Joined(ClientId),
    /// A client is gone: it cannot be invited, and the open round no longer waits for it.
    Left(ClientId),
    /// A client is to be invited to no further round. It may still finish the open one.
    Drained(ClientId),
    /// Begin.
    Start,
    /// Begin no new round after this one.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Finish this round and begin no other; at once where no round is open, even before the start or in a pause.
    Stop,
    /// Something for the open round.
    Round(RoundEvent),
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEffect {
    /// Send the round's plan and the global adapter to these clients.
    Invite(RoundId, Vec<ClientId>),
    /// Tell a client what became of its update.
    Reply(ClientId, Verdict),
    /// Run the server step over exactly these clients, in this order.
    Aggregate(RoundId, Vec<ClientId>),
    /// Make the new adapter durable and announce it.
    Publish(RoundId, Digest),
    /// Call with a tick at this time.
    WakeAt(Timestamp),
    /// The run is over.
    Finished(RunStatus),
}

/// A run in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    settings: RunSettings,
    clients: BTreeSet<ClientId>,
    done: RoundId,
    round: Option<Round>,
    status: RunStatus,
    started: bool,
    paused: bool,
    stopping: bool,
}

impl Run {
    /// A run that has done `done` rounds already; `RoundId(0)` for a new one.
    ///
    /// # Errors
    /// Settings under which no round can succeed.
    pub fn new(settings: RunSettings, done: RoundId) -> Result<Self, RunError> {
        settings.validate()?;
        let clients = BTreeSet::new();
        let status = RunStatus::Pending;
        Ok(Self { settings, clients, done, round: None, status, started: false, paused: false, stopping: false })
    }

    /// State of the run.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        if self.paused && self.is_live() { RunStatus::Paused } else { self.status }
    }

    /// The last published round.
    #[must_use]
    pub fn done(&self) -> RoundId {
        self.done
    }

    /// The open round, or the last one.
    #[must_use]
    pub fn round(&self) -> Option<&Round> {
        self.round.as_ref()
    }

    /// Clients that can be invited.
    #[must_use]
    pub fn clients(&self) -> &BTreeSet<ClientId> {
        &self.clients
    }

    /// Counts of the open or the last round.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.round.as_ref().map(Round::tally).unwrap_or_default()
    }

    /// Takes an event and says what to do about it.
    pub fn handle(&mut self, event: RunEvent, now: Timestamp) -> Vec<RunEffect> {
        let mut effects = Vec::new();
        match event {
            RunEvent::Joined(client) => {
                self.clients.insert(client);
            }
            RunEvent::Left(client) => {
                self.clients.remove(&client);
                self.forward(RoundEvent::Left { client }, now, &mut effects);
            }
            RunEvent::Drained(client) => {
                self.clients.remove(&client);
            }
            RunEvent::Start => self.started = true,
            RunEvent::Pause => self.paused = true,
            RunEvent::Resume => self.paused = false,
            RunEvent::Stop => self.stopping = true,
            RunEvent::Round(event) => self.forward(event, now, &mut effects),
        }
        self.advance(now, &mut effects);
        effects
    }

    fn is_live(&self) -> bool {
        matches!(self.status, RunStatus::Pending | RunStatus::Running)
    }

    fn forward(&mut self, event: RoundEvent, now: Timestamp, effects: &mut Vec<RunEffect>) {
        let Some(round) = &mut self.round else {
            // An update from before a restart: whoever sent it waits for an answer.
            if let RoundEvent::Submitted { client, .. } | RoundEvent::Invalid { client } = event {
                effects.push(RunEffect::Reply(client, Verdict::Late));
            }
            return;
        };
        let id = round.id();
        let answers = round.handle(event, now);
        if matches!(round.phase(), Phase::Published(_)) {
            self.done = id;
            self.status = if self.is_live() { RunStatus::Pending } else { self.status };
        }
        self.translate(id, answers, effects);
    }

    /// A round's effects as the run's.
    fn translate(&mut self, id: RoundId, answers: Vec<RoundEffect>, effects: &mut Vec<RunEffect>) {
        for answer in answers {
            effects.push(match answer {
                RoundEffect::Reply(client, verdict) => RunEffect::Reply(client, verdict),
                RoundEffect::Aggregate(clients) => RunEffect::Aggregate(id, clients),
                RoundEffect::Publish(digest) => RunEffect::Publish(id, digest),
                RoundEffect::WakeAt(time) => RunEffect::WakeAt(time),
                RoundEffect::Failed(reason) => {
                    self.status = RunStatus::Failed(reason);
                    RunEffect::Finished(self.status)
                }
            });
        }
    }

    /// Ends the run or opens the next round, where nothing stands in the way.
    fn advance(&mut self, now: Timestamp, effects: &mut Vec<RunEffect>) {
        let open = self.round.as_ref().is_some_and(|round| !matches!(round.phase(), Phase::Published(_)));
        if open || !self.is_live() {
            return;
        }
        let end = if self.started && self.done.0 >= self.settings.num_rounds {
            Some(RunStatus::Completed)
        } else {
            self.stopping.then_some(RunStatus::Stopped)
        };
        if let Some(status) = end {
            self.status = status;
            effects.push(RunEffect::Finished(status));
        } else if self.started && !self.paused && self.clients.len() >= self.needed_clients() {
            self.open_next(now, effects);
        }
    }

    /// Fewer could never make a round succeed.
    fn needed_clients(&self) -> usize {
        self.settings.min_available_clients.max(self.settings.participation.min_results).max(1)
    }

    fn open_next(&mut self, now: Timestamp, effects: &mut Vec<RunEffect>) {
        let id = self.done.next();
        let cohort = self.cohort(id);
        let (round, answers) = Round::open(id, cohort.iter().copied(), self.settings.participation, now);
        self.round = Some(round);
        self.status = RunStatus::Running;
        effects.push(RunEffect::Invite(id, cohort));
        self.translate(id, answers, effects);
    }

    /// Uniform without replacement, or each client by itself, from the run's seed and the round alone.
    fn cohort(&self, id: RoundId) -> Vec<ClientId> {
        let mut rng = Seed(self.settings.seed).round(Purpose::Cohort, id);
        if let Some(rate) = self.settings.sample_rate {
            return self.clients.iter().copied().filter(|_| rng.random::<f64>() < rate).collect();
        }
        let clients: Vec<ClientId> = self.clients.iter().copied().collect();
        let amount = self.settings.clients_per_round.min(clients.len());
        let mut chosen: Vec<ClientId> =
            index::sample(&mut rng, clients.len(), amount).into_iter().map(|place| clients[place]).collect();
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests;
