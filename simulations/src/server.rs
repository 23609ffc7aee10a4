//! The server's half of a simulated run: plans, the server step, evaluations and records.

mod central;
mod closing;

use std::sync::Arc;

use fedlora_adapter::{Adapter, AdapterSpec, ClientId, Digest, Directive, LocalHyperparameters, RoundId, RoundPlan};
use fedlora_aggregation::{AggregationError, Strategy, WeightedUpdate, Weighting};
use fedlora_client::Submission;
use fedlora_coordinator::{
    Tally,
    config::{CentralPlan, CentralRelease},
    server_step, step_weight,
};
use fedlora_privacy::{PrivacyError, SampledGaussian};

use crate::{
    clock::Stopwatch,
    evaluation::{EvaluationError, Evaluator},
    metrics::{ClientMetrics, RoundMetrics},
    observer::Observer,
    privacy::{Accounts, ClientRelease, Protected, SummaryPrivacy},
    record::{RecordError, Recorder},
    states::{StateError, States},
};

/// Why the server's half of a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The updates could not be combined.
    #[error("server step")]
    Aggregation(#[from] AggregationError),
    /// A model could not be evaluated.
    #[error("evaluation")]
    Evaluation(#[from] EvaluationError),
    /// A record or a checkpoint could not be written.
    #[error("records of the run")]
    Record(#[from] RecordError),
    /// What was released could not be accounted for.
    #[error("privacy accounting")]
    Privacy(#[from] PrivacyError),
    /// Kept states could not be written.
    #[error("kept states of the clients")]
    State(#[from] StateError),
}

impl From<ServerError> for crate::world::WorldError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

/// What a server is made of.
#[derive(Debug)]
pub struct ServerParts {
    /// The federated method.
    pub strategy: Box<dyn Strategy>,
    /// Weight of a client's update.
    pub weighting: Weighting,
    /// The adapter that the run starts from or goes on from.
    pub global: Adapter,
    /// Name of the run.
    pub run: String,
    /// Seed of the run.
    pub seed: u64,
    /// Rounds of the whole run.
    pub num_rounds: u64,
    /// How clients train.
    pub local: LocalHyperparameters,
    /// What the server releases in each round, where it adds noise.
    pub central: Option<CentralPlan>,
    /// Whether a person's rows may be at several clients.
    pub people_overlap: bool,
    /// Evaluate after every so many rounds.
    pub evaluate_every: u64,
    /// What to evaluate on; none for runs without a model.
    pub evaluator: Option<Evaluator>,
    /// What clients keep.
    pub states: States,
    /// Where records go; none for runs that leave no trace.
    pub recorder: Option<Recorder>,
    /// Who watches.
    pub observer: Box<dyn Observer>,
    /// Records of the rounds done before.
    pub rounds: Vec<RoundMetrics>,
}

/// The server's half of a run.
#[derive(Debug)]
pub struct Server {
    parts: ServerParts,
    global: Arc<Adapter>,
    open: OpenRound,
    accounts: Accounts,
}

/// What a server step came to.
#[derive(Debug)]
pub struct ServerStep {
    /// The next global adapter.
    pub global: Adapter,
    /// Distance of its product from the mean of the clients' products, where the method measures it.
    pub residual: Option<f64>,
    /// Norm of the change of the global adapter.
    pub update_norm: f64,
    /// Mean training loss by weight.
    pub train_loss: Option<f64>,
    /// Whose updates counted.
    pub clients: Vec<ClientMetrics>,
    /// Time that it took.
    pub seconds: f64,
    /// What it released, where it adds noise.
    pub release: Option<CentralRelease>,
}

/// What is known of the round in progress.
#[derive(Debug, Default)]
struct OpenRound {
    watch: Option<Stopwatch>,
    train_s: f64,
    aggregate_s: f64,
    invited: u64,
    clients: Vec<ClientMetrics>,
    train_loss: Option<f64>,
    residual: Option<f64>,
    update_norm: f64,
    releases: Vec<ClientRelease>,
    central: Option<CentralRelease>,
}

impl Server {
    /// A server from its parts.
    #[must_use]
    pub fn new(mut parts: ServerParts) -> Self {
        let global = Arc::new(parts.global.clone());
        parts.observer.begin(parts.num_rounds, parts.rounds.len() as u64);
        if let Some(warning) = central::drowned(&parts) {
            parts.observer.warn(&warning);
        }
        let unit = parts.local.privacy.map(|terms| terms.unit()).unwrap_or_default();
        let protected = Protected { unit, people_overlap: parts.people_overlap };
        Self {
            accounts: Accounts::of(parts.rounds.iter().filter_map(|metrics| metrics.privacy.as_ref()), protected),
            parts,
            global,
            open: OpenRound::default(),
        }
    }

    /// Evaluates the state before training, once in the life of a run.
    ///
    /// # Errors
    /// An evaluation or a record that fails.
    pub fn before_first_round(&mut self, done: RoundId) -> Result<(), Box<ServerError>> {
        if done.0 > 0 || self.parts.evaluator.is_none() {
            return Ok(());
        }
        self.open.watch = Some(Stopwatch::start());
        self.close(RoundId(0), Tally::default()).map_err(Box::new)
    }

    /// The adapter's specification.
    #[must_use]
    pub fn spec(&self) -> Arc<AdapterSpec> {
        Arc::clone(self.global.spec())
    }

    /// What clients do in a round.
    #[must_use]
    pub fn directive(&self, round: RoundId) -> Directive {
        self.parts.strategy.directive(round)
    }

    /// The global adapter.
    #[must_use]
    pub fn global(&self) -> &Arc<Adapter> {
        &self.global
    }

    /// Records of all rounds so far.
    #[must_use]
    pub fn rounds(&self) -> &[RoundMetrics] {
        &self.parts.rounds
    }

    /// What private training has cost so far; none for plain training, and where accounting failed, which a round reports.
    #[must_use]
    pub fn privacy(&self) -> Option<SummaryPrivacy> {
        self.accounts.summary(self.delta()?).ok().flatten()
    }

    /// What clients keep.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.parts.states
    }

    /// Opens a round for `invited` clients.
    pub fn begin(&mut self, round: RoundId, invited: usize) -> (Arc<RoundPlan>, Arc<Adapter>) {
        self.open = OpenRound { watch: Some(Stopwatch::start()), invited: invited as u64, ..OpenRound::default() };
        self.parts.states.begin(round);
        self.parts.observer.round(round.0, invited as u64);
        let plan = RoundPlan {
            run: self.parts.run.clone(),
            round,
            num_rounds: self.parts.num_rounds,
            directive: self.directive(round),
            spec: self.global.spec().digest(),
            base: self.global.digest(),
            seed: self.parts.seed,
            local: self.parts.local.clone(),
        };
        (Arc::new(plan), Arc::clone(&self.global))
    }

    /// Notes that a client has finished its local training, and what it released if that was private.
    pub fn trained(&mut self, client: ClientId, spent: Option<SampledGaussian>) {
        self.open.releases.extend(spent.map(|event| ClientRelease { client: client.0, event }));
        self.open.train_s = self.open.watch.as_ref().map_or(0.0, Stopwatch::seconds);
        self.parts.observer.client(client.0);
    }

    /// The server step over a round's accepted updates.
    ///
    /// # Errors
    /// Updates that cannot be combined.
    pub fn aggregate(&mut self, round: RoundId, updates: Vec<Submission>) -> Result<Digest, Box<ServerError>> {
        let watch = Stopwatch::start();
        let central = self.central(round);
        let central = central.as_ref();
        let weight = |submission: &Submission| step_weight(central, self.parts.weighting, submission.examples);
        let weighted: Vec<WeightedUpdate<'_>> = updates
            .iter()
            .map(|submission| WeightedUpdate {
                client: submission.client,
                weight: weight(submission),
                update: &submission.update,
            })
            .collect();
        let total: f64 = updates.iter().map(weight).sum();
        let losses = updates.iter().map(|submission| Some(weight(submission) * submission.train_loss?));
        let loss: Option<f64> = losses.sum();
        let (aggregated, release) = server_step(central, &*self.parts.strategy, round, &self.global, &weighted)
            .map_err(|error| Box::new(ServerError::from(error)))?;
        let update_norm = self.global.distance(&aggregated.adapter);
        self.adopt(ServerStep {
            global: aggregated.adapter,
            residual: aggregated.residual,
            update_norm,
            train_loss: loss.map(|loss| loss / total).filter(|loss| loss.is_finite() && release.is_none()),
            release,
            clients: updates.iter().map(client_metrics).collect(),
            seconds: watch.seconds(),
        });
        Ok(self.global.digest())
    }

    /// Takes over a server step, done here or by a coordinator.
    pub fn adopt(&mut self, step: ServerStep) {
        self.global = Arc::new(step.global);
        self.open.residual = step.residual;
        self.open.update_norm = step.update_norm;
        self.open.train_loss = step.train_loss;
        self.open.clients = step.clients;
        self.open.aggregate_s = step.seconds;
        self.open.central = step.release;
    }

    /// Evaluates, records and checkpoints the round that was aggregated.
    ///
    /// # Errors
    /// An evaluation, record or checkpoint that fails.
    pub fn publish(&mut self, round: RoundId, tally: Tally) -> Result<(), Box<ServerError>> {
        self.close(round, tally).map_err(Box::new)
    }

    /// Checkpoints the last round of a run that is stopped early, whether or not its turn has come.
    ///
    /// # Errors
    /// A checkpoint that fails.
    pub fn stopped(&mut self, round: RoundId) -> Result<(), Box<ServerError>> {
        self.checkpoint_last(round).map_err(|error| Box::new(error.into()))
    }
}

fn client_metrics(submission: &Submission) -> ClientMetrics {
    ClientMetrics {
        client: submission.client.0,
        num_examples: submission.examples,
        steps: submission.steps,
        train_loss: submission.train_loss,
    }
}
