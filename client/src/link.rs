//! How a session gets work and hands in results.

pub mod grpc;

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterUpdate, ClientId, RoundId, RoundPlan};
use fedlora_privacy::SampledGaussian;

/// One client's work in a round.
#[derive(Debug, Clone)]
pub struct Task {
    /// Who is to do it.
    pub client: ClientId,
    /// What is to be done.
    pub plan: Arc<RoundPlan>,
    /// The global adapter.
    pub global: Arc<Adapter>,
}

/// What a client hands in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who.
    pub client: ClientId,
    /// For which round.
    pub round: RoundId,
    /// The client's number of training examples; 1 for private training, which does not tell it.
    pub examples: u64,
    /// Optimiser steps done.
    pub steps: u64,
    /// Mean training loss over those steps; none for private training, whose budget does not cover it.
    pub train_loss: Option<f64>,
    /// What private training released: for the client's own books and for simulations, never sent.
    pub spent: Option<SampledGaussian>,
    /// The tensors that the directive asks for.
    pub update: AdapterUpdate,
}

/// A session's connection to the server.
///
/// Calls block: training does too, and an implementation over a network runs its heartbeats on threads of its own.
pub trait Link {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next work for some of the session's participants; none when the run is over.
    ///
    /// # Errors
    /// The server cannot be reached, or what it sent makes no sense.
    fn next_tasks(&mut self) -> Result<Option<Vec<Task>>, Self::Error>;

    /// Hands in a result. A verdict that comes back later is the link's business: a client acts on none of them.
    ///
    /// # Errors
    /// The server cannot be reached.
    fn submit(&mut self, submission: Submission) -> Result<(), Self::Error>;

    /// Whether the server no longer wants the result of a task; asked when its training failed, because whoever
    /// withdraws a task may also have ended its training.
    fn withdrawn(&self, task: &Task) -> bool {
        let _ = task;
        false
    }

    /// Says that a task will not be done, and why, so that nobody waits for it. Best effort.
    fn decline(&mut self, task: &Task, reason: &str) {
        let _ = (task, reason);
    }
}
