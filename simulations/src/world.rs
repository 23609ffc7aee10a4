//! The virtual world of a run: a clock that jumps from event to event, and a [`Link`] straight into the [`Run`].
//!
//! Cohort choice, lateness, quorum and verdicts are the coordinator's own code; the world only delivers. Because it
//! delivers in the order of virtual time, and aggregation sorts by client, no result depends on how long anything took.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fedlora_adapter::{AdapterUpdate, ClientId, RoundId, Seed};
use fedlora_client::{Link, Submission, Task};
use fedlora_coordinator::{RoundEvent, Run, RunEffect, RunEvent, RunStatus, Timestamp, Verdict};

use crate::{
    faults::{self, Faults},
    server::{Server, ServerError},
};

/// Tasks handed to the session at a time: enough to fill cohorts and threads, few enough to bound memory.
const TASKS_AT_A_TIME: usize = 64;

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The server step, an evaluation or a record failed.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
    /// A round got fewer updates than it needs.
    #[error("round {round} failed: {accepted} updates accepted, {needed} needed; lower min-results or the fault rates")]
    RoundFailed {
        /// The round.
        round: u64,
        /// Updates accepted.
        accepted: usize,
        /// Updates needed.
        needed: usize,
    },
    /// Nothing is under way and the run is not over.
    #[error("the run waits for {needed} clients, but there are {available}")]
    Stalled {
        /// `min-available-clients`.
        needed: usize,
        /// Clients of the partition.
        available: usize,
    },
}

/// A link between one session that plays all clients and a run.
#[derive(Debug)]
pub struct World {
    run: Run,
    server: Server,
    seed: Seed,
    faults: Faults,
    interrupted: Arc<AtomicBool>,
    now: Timestamp,
    sequence: u64,
    tasks: VecDeque<Task>,
    deliveries: BTreeMap<(Timestamp, u64), Delivery>,
    arrived: Option<Submission>,
    accepted: BTreeMap<ClientId, Submission>,
    finished: Option<RunStatus>,
    clients: usize,
    needed: usize,
}

#[derive(Debug)]
enum Delivery {
    Update(Box<Submission>),
    Corrupt(Box<Submission>),
    Left(ClientId),
    Tick,
}

impl World {
    /// A world of `clients` clients that joins them to the run and starts it.
    ///
    /// # Errors
    /// What the server reports before the first round.
    pub fn start(
        run: Run,
        server: Server,
        settings: WorldSettings,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, WorldError> {
        let mut world = Self {
            run,
            server,
            seed: settings.seed,
            faults: settings.faults,
            interrupted,
            now: Timestamp::default(),
            sequence: 0,
            tasks: VecDeque::new(),
            deliveries: BTreeMap::new(),
            arrived: None,
            accepted: BTreeMap::new(),
            finished: None,
            clients: settings.clients.len(),
            needed: settings.needed,
        };
        world.server.before_first_round(world.run.done())?;
        for client in settings.clients {
            world.tell(RunEvent::Joined(client))?;
        }
        world.tell(RunEvent::Start)?;
        Ok(world)
    }

    /// The server's half of the run.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How the run ended and the server with its results.
    #[must_use]
    pub fn into_server(self) -> (Server, RunStatus) {
        let status = self.finished.unwrap_or(self.run.status());
        (self.server, status)
    }

    fn tell(&mut self, event: RunEvent) -> Result<(), WorldError> {
        let mut effects: VecDeque<RunEffect> = self.run.handle(event, self.now).into();
        while let Some(effect) = effects.pop_front() {
            let answer = self.carry_out(effect)?;
            if let Some(event) = answer {
                effects.extend(self.run.handle(event, self.now));
            }
        }
        Ok(())
    }

    /// Does what the run asks for; some requests have an answer.
    fn carry_out(&mut self, effect: RunEffect) -> Result<Option<RunEvent>, WorldError> {
        match effect {
            RunEffect::Invite(round, clients) => {
                self.invite(round, &clients);
                Ok(None)
            }
            RunEffect::Reply(client, verdict) => {
                // Only an accepted update is aggregated: the others need not be held.
                let arrived = self.arrived.take();
                if verdict == Verdict::Accepted {
                    self.accepted.extend(arrived.map(|submission| (client, submission)));
                }
                Ok(None)
            }
            RunEffect::Aggregate(round, clients) => {
                let mut accepted = std::mem::take(&mut self.accepted);
                let updates: Vec<Submission> = clients.iter().filter_map(|client| accepted.remove(client)).collect();
                let digest = self.server.aggregate(round, updates)?;
                Ok(Some(RunEvent::Round(RoundEvent::Aggregated(digest))))
            }
            RunEffect::Publish(round, _) => {
                self.deliver_late()?;
                self.server.publish(round, self.run.tally())?;
                Ok(Some(RunEvent::Round(RoundEvent::Published)))
            }
            RunEffect::WakeAt(time) => {
                self.deliver(time, Delivery::Tick);
                Ok(None)
            }
            RunEffect::Finished(RunStatus::Failed(fedlora_coordinator::FailureReason::TooFewResults {
                accepted,
                needed,
            })) => Err(WorldError::RoundFailed { round: self.run.done().next().0, accepted, needed }),
            RunEffect::Finished(status) => {
                if status == RunStatus::Stopped {
                    self.server.stopped(self.run.done())?;
                }
                self.finished = Some(status);
                Ok(None)
            }
        }
    }

    fn invite(&mut self, round: RoundId, clients: &[ClientId]) {
        self.accepted.clear();
        let (plan, global) = self.server.begin(round, clients.len());
        for &client in clients {
            if self.faults.fate(self.seed, round, client).drops {
                self.deliver(self.now, Delivery::Left(client));
            } else {
                self.tasks.push_back(Task { client, plan: Arc::clone(&plan), global: Arc::clone(&global) });
            }
        }
    }

    fn deliver(&mut self, time: Timestamp, delivery: Delivery) {
        self.sequence += 1;
        self.deliveries.insert((time, self.sequence), delivery);
    }

    /// Delivers what is still under way when a round has closed.
    ///
    /// It is late whenever it comes. Coming now, it counts in the round that it belongs to, never as an answer in the
    /// next one, and nothing is under way between rounds, so that a run can go on from any of them.
    fn deliver_late(&mut self) -> Result<(), WorldError> {
        while let Some((_, delivery)) = self.deliveries.pop_first() {
            self.arrive(delivery)?;
        }
        Ok(())
    }

    fn arrive(&mut self, delivery: Delivery) -> Result<(), WorldError> {
        let event = match delivery {
            Delivery::Tick => RoundEvent::Tick,
            Delivery::Left(client) => RoundEvent::Left { client },
            Delivery::Corrupt(submission) => {
                // What a server does with a file that fails its checks: refuse it by the same constructor.
                let directive = self.server.directive(submission.round);
                let tensors = faults::corrupted(&submission.update);
                let checked = AdapterUpdate::new(self.server.spec(), directive, tensors);
                match checked {
                    Ok(update) => return self.arrive(Delivery::Update(Box::new(Submission { update, ..*submission }))),
                    Err(_) => RoundEvent::Invalid { client: submission.client },
                }
            }
            Delivery::Update(submission) => {
                let (client, round) = (submission.client, submission.round);
                let digest = submission.update.digest();
                self.arrived = Some(*submission);
                RoundEvent::Submitted { client, round, digest }
            }
        };
        self.tell(RunEvent::Round(event))
    }
}

/// What a world needs to know beyond the run and the server.
#[derive(Debug, Clone)]
pub struct WorldSettings {
    /// Seed of the run.
    pub seed: Seed,
    /// Injected trouble.
    pub faults: Faults,
    /// All clients.
    pub clients: Vec<ClientId>,
    /// `min-available-clients`, for the error that says why nothing happens.
    pub needed: usize,
}

impl Link for World {
    type Error = WorldError;

    fn next_tasks(&mut self) -> Result<Option<Vec<Task>>, WorldError> {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                self.tell(RunEvent::Stop)?;
            }
            if !self.tasks.is_empty() {
                let count = self.tasks.len().min(TASKS_AT_A_TIME);
                return Ok(Some(self.tasks.drain(..count).collect()));
            }
            if self.finished.is_some() {
                return Ok(None);
            }
            let Some(((time, _), delivery)) = self.deliveries.pop_first() else {
                return Err(WorldError::Stalled { needed: self.needed, available: self.clients });
            };
            self.now = self.now.max(time);
            self.arrive(delivery)?;
        }
    }

    fn submit(&mut self, submission: Submission) -> Result<(), WorldError> {
        let fate = self.faults.fate(self.seed, submission.round, submission.client);
        let work_ms = (submission.steps * self.faults.step_ms) as f64 * fate.slowness;
        let time = self.now + work_ms as u64;
        self.server.trained(submission.client, submission.spent);
        if fate.repeats {
            self.deliver(time + 1, Delivery::Update(Box::new(submission.clone())));
        }
        let submission = Box::new(submission);
        self.deliver(time, if fate.corrupts { Delivery::Corrupt(submission) } else { Delivery::Update(submission) });
        Ok(())
    }
}
