//! The clients of a deployed run, each on a thread of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use fedlora_adapter::{ClientId, Digest};
use fedlora_client::{GrpcLink, Session, grpc::Stop};
use fedlora_learner::{Job, LearnerError, LocalOutcome, LocalTrainer, Randomness, Trainer};
use fedlora_privacy::SampledGaussian;
use rayon::ThreadPool;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{DeployedError, error::ClientFailure, gate::Gate, hub::Hub};
use crate::{
    config::Config,
    experiment::{Clients, Material},
    states::States,
};

/// A client has trained, and what it released if that was private.
pub(super) type Note = (ClientId, Option<SampledGaussian>);

/// All clients at work.
#[derive(Debug)]
pub(super) struct Players {
    threads: Vec<JoinHandle<()>>,
    stops: Vec<Stop>,
    failure: Failure,
}

/// The first client that failed, and why.
type Failure = Arc<Mutex<Option<(ClientId, ClientFailure)>>>;

impl Players {
    /// Connects every client and lets it play until the run is over.
    pub(super) fn start(
        hub: &Hub,
        material: &Material,
        clients: &Clients,
        config: &Config,
        base_model: Digest,
        states: &States,
        gate: &Arc<Gate>,
    ) -> Result<(Self, UnboundedReceiver<Note>), DeployedError> {
        // The caller waits on one of the current pool's threads, so the clients need a pool of their own.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build();
        let pool = Arc::new(pool.map_err(DeployedError::Threads)?);
        let shards = Arc::new(clients.train.clone());
        let (notes, heard) = unbounded_channel();
        let mut players = Self { threads: Vec::new(), stops: Vec::new(), failure: Failure::default() };
        for (&client, rows) in &clients.train {
            let link = hub.link(client, base_model, rows.len() as u64)?;
            let model = Arc::clone(material.model_of(client));
            let trainer = LocalTrainer::new(model, Arc::clone(&material.train), Arc::clone(&shards))?
                .with_micro_batch_size(config.micro_batch_size)
                .with_gradient_checkpointing(config.gradient_checkpointing)
                .with_randomness(Randomness::Seed);
            let (gate, pool, notes) = (Arc::clone(gate), Arc::clone(&pool), notes.clone());
            let trainer = Gated { trainer, pool, gate, notes };
            players.spawn(client, link, trainer, states.clone());
        }
        Ok((players, heard))
    }

    fn spawn(&mut self, client: ClientId, link: GrpcLink, trainer: Gated, states: States) {
        self.stops.push(link.stopper());
        let failure = Arc::clone(&self.failure);
        self.threads.push(std::thread::spawn(move || {
            if let Err(error) = Session::new(link, trainer, states).run() {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert((client, Box::new(error)));
            }
        }));
    }

    /// Whether a client has failed, so that the run may wait for it in vain.
    pub(super) fn failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits for all clients, after telling them to stop unless the run is over anyway.
    pub(super) fn end(self, run_is_over: bool) -> Result<(), DeployedError> {
        if !run_is_over {
            self.stops.iter().for_each(Stop::stop);
        }
        for thread in self.threads {
            thread.join().map_err(|_| DeployedError::Panicked)?;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), |(client, source)| Err(DeployedError::Client { client, source }))
    }
}

/// A trainer that waits at the gate and tells when it is done.
#[derive(Debug)]
struct Gated {
    trainer: LocalTrainer,
    pool: Arc<ThreadPool>,
    gate: Arc<Gate>,
    notes: UnboundedSender<Note>,
}

impl Trainer for Gated {
    type Error = LearnerError;

    fn train(&mut self, jobs: &[Job]) -> Vec<Result<LocalOutcome, LearnerError>> {
        if let Some(job) = jobs.first() {
            self.gate.wait(job.plan.round);
        }
        let outcomes = self.pool.install(|| self.trainer.train(jobs));
        for (job, outcome) in jobs.iter().zip(&outcomes) {
            if let Ok(outcome) = outcome {
                // Nobody listens any more when the run has failed elsewhere.
                let _ = self.notes.send((job.client, outcome.spent));
            }
        }
        outcomes
    }
}
