//! The round loop of a client process: take work, train, keep, send.

use fedlora_adapter::{AdapterError, ClientId};
use fedlora_learner::{Job, Trainer};

use crate::{KeptStore, Link, Participant, Submission, Task};

/// Plays rounds until the server says that the run is over.
#[derive(Debug)]
pub struct Session<L, T, S> {
    link: L,
    trainer: T,
    store: S,
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError<L, T, S>
where
    L: std::error::Error + 'static,
    T: std::error::Error + 'static,
    S: std::error::Error + 'static,
{
    /// The server could not be reached or sent nonsense.
    #[error("link to the server")]
    Link(#[source] L),
    /// A client's local training failed.
    #[error("{client}: local training")]
    Training {
        /// Whose training.
        client: ClientId,
        /// Why.
        #[source]
        source: T,
    },
    /// A client's kept tensors could not be read or written.
    #[error("{client}: kept state")]
    Kept {
        /// Whose state.
        client: ClientId,
        /// Why.
        #[source]
        source: S,
    },
    /// A client's kept tensors do not fit the run's adapter.
    #[error("{client}: kept state does not fit this run's adapter")]
    Mismatch {
        /// Whose state.
        client: ClientId,
        /// Why.
        #[source]
        source: AdapterError,
    },
    /// A trainer that answered with another number of outcomes than it had jobs.
    #[error("the trainer returned {found} outcomes for {expected} jobs")]
    Outcomes {
        /// Jobs.
        expected: usize,
        /// Outcomes.
        found: usize,
    },
}

/// All that a server hears of a private client that cannot train.
const PRIVATE_FAILURE: &str = "cannot train privately; the client's own log says why";

type Failure<L, T, S> = SessionError<<L as Link>::Error, <T as Trainer>::Error, <S as KeptStore>::Error>;

impl<L: Link, T: Trainer, S: KeptStore> Session<L, T, S> {
    /// A session over a link, with a trainer and a place for what clients keep.
    #[must_use]
    pub fn new(link: L, trainer: T, store: S) -> Self {
        Self { link, trainer, store }
    }

    /// Plays rounds to the end of the run.
    ///
    /// # Errors
    /// The first failure of link, trainer or store; nothing of the failed task has been sent.
    pub fn run(&mut self) -> Result<(), Failure<L, T, S>> {
        while let Some(tasks) = self.link.next_tasks().map_err(SessionError::Link)? {
            self.play(&tasks)?;
        }
        Ok(())
    }

    /// The parts, for the caller to read results from.
    #[must_use]
    pub fn into_parts(self) -> (L, T, S) {
        (self.link, self.trainer, self.store)
    }

    fn play(&mut self, tasks: &[Task]) -> Result<(), Failure<L, T, S>> {
        let (mut participants, mut jobs) = (Vec::new(), Vec::new());
        for task in tasks {
            let client = task.client;
            let kept = self.store.load(client).map_err(|source| SessionError::Kept { client, source })?;
            let participant = Participant::new(client, kept);
            let start = participant
                .adapter(task.plan.directive, &task.global)
                .map_err(|source| SessionError::Mismatch { client, source })?;
            jobs.push(Job { client, plan: task.plan.clone(), start });
            participants.push(participant);
        }
        let outcomes = self.trainer.train(&jobs);
        if outcomes.len() != jobs.len() {
            return Err(SessionError::Outcomes { expected: jobs.len(), found: outcomes.len() });
        }
        drop(jobs);
        for ((task, mut participant), outcome) in tasks.iter().zip(participants).zip(outcomes) {
            let client = task.client;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(_) if self.link.withdrawn(task) => continue,
                Err(source) => {
                    // An error may speak of the data; under differential privacy that stays here.
                    let is_private = task.plan.local.privacy.is_some();
                    let reason = if is_private { PRIVATE_FAILURE.to_owned() } else { source.to_string() };
                    self.link.decline(task, &reason);
                    return Err(SessionError::Training { client, source });
                }
            };
            let update = participant.finish(task.plan.directive, &outcome.adapter);
            // Kept before sent: a crash in between repeats the round for this client and loses nothing.
            self.store.save(client, participant.into_kept()).map_err(|source| SessionError::Kept { client, source })?;
            let is_private = task.plan.local.privacy.is_some();
            let submission = Submission {
                client,
                round: task.plan.round,
                examples: if is_private { 1 } else { outcome.examples },
                steps: outcome.steps,
                train_loss: (!is_private).then_some(outcome.train_loss),
                spent: outcome.spent,
                update,
            };
            self.link.submit(submission).map_err(SessionError::Link)?;
        }
        Ok(())
    }
}
