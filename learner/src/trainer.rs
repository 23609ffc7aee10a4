//! What a round asks of whoever trains: some clients' jobs in, their adapters out.
//!
//! Two implementations are in this crate: `LocalTrainer` trains a model, `ToyTrainer` is exact and costs nothing.

use std::sync::Arc;

use fedlora_adapter::{Adapter, ClientId, RoundPlan};
use fedlora_privacy::SampledGaussian;

/// One client's work in one round.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whose data.
    pub client: ClientId,
    /// What the round asks; jobs of one round share one plan.
    pub plan: Arc<RoundPlan>,
    /// Where training starts: the server's factors, completed by those that the client keeps.
    pub start: Adapter,
}

/// What local training came to. It holds no clock, so that equal seeds give equal outcomes.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalOutcome {
    /// The trained adapter; factors that the directive freezes are those of the start, bit for bit.
    pub adapter: Adapter,
    /// Number of the client's examples, its weight in a weighted mean.
    pub examples: u64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Mean over the steps of the loss before each step; 0 if there were none.
    pub train_loss: f64,
    /// Loss before the last step; 0 if there were none.
    pub last_loss: f64,
    /// What private training released; none for plain training.
    pub spent: Option<SampledGaussian>,
}

/// Trains clients. It takes several at a time so that an implementation may train them together.
///
/// The outcome of a job must depend on this job alone, not on those beside it, their order or the number of threads.
pub trait Trainer {
    /// Why a job failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One result for each job, in the order of the jobs. A job that fails leaves the others untouched.
    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, Self::Error>>;
}
