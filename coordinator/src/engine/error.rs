//! Why an engine did not do what it was asked.

use std::sync::Arc;

use fedlora_adapter::{AdapterError, ClientId, Digest, RoundId};
use fedlora_aggregation::AggregationError;

use crate::{RunError, RunId, StoreError, config::ConfigError};

/// Why a command was refused, or could not be made durable.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The state directory fails or is full. Nothing has changed; the same command may succeed later.
    #[error("cannot keep this: {0}")]
    Storage(#[source] Arc<StoreError>),
    /// A run is live already.
    #[error("{0} is live; stop it first, or wait until it is over")]
    RunIsLive(RunId),
    /// No run is live.
    #[error("no run is live")]
    NoLiveRun,
    /// There was never such a run.
    #[error("there is no {0}")]
    UnknownRun(RunId),
    /// The run is over.
    #[error("{0} is over")]
    RunIsOver(RunId),
    /// There is no run at all.
    #[error("there has been no run yet")]
    NoRun,
    /// The run has no such round.
    #[error("{run} has no {round}")]
    UnknownRound {
        /// The run.
        run: RunId,
        /// The round asked for.
        round: RoundId,
    },
    /// No adapter was published in this round.
    #[error("{run} has no checkpoint of {round}")]
    NoCheckpoint {
        /// The run.
        run: RunId,
        /// The round asked for.
        round: RoundId,
    },
    /// A configuration that cannot make a run.
    #[error("configuration: {0}")]
    Config(#[source] Arc<ConfigError>),
    /// The first adapter cannot be made here.
    #[error(
        "the first adapter comes from the base model, which a coordinator never loads: for init_lora_weights = \"olora\" or \
         \"eva\", use_dora and LORA_XS describe the model with the run's own file (fedlora-client describe), for \"pissa\" \
         use \"default\" or \"orthonormal\", or begin from a checkpoint"
    )]
    NeedsWeights,
    /// The first adapter cannot be made.
    #[error("first adapter: {0}")]
    Initial(#[source] Arc<AggregationError>),
    /// An adapter cannot be written as a file.
    #[error("adapter: {0}")]
    Adapter(#[source] Arc<AdapterError>),
    /// What a run would release is more than the coordinator may.
    #[error(
        "BUDGET_EXHAUSTED: with this run each client's privacy loss would be epsilon {wanted:.4} at delta {delta:e} over all \
         runs of this coordinator, whose limit is {limit}; fewer rounds or more noise may fit, or raise \
         privacy.epsilon-limit in the coordinator's configuration"
    )]
    OverPrivacyLimit {
        /// With the run.
        wanted: f64,
        /// The limit.
        limit: f64,
        /// The `delta` of both.
        delta: f64,
    },
    /// A run whose adapters carry no noise, at a coordinator with a limit.
    #[error(
        "NOT_PRIVATE: this coordinator has a privacy limit, and the run has no [central-privacy]: its adapters would tell \
         about clients without any limit"
    )]
    NotPrivate,
    /// An update was handed in whose file is not there.
    #[error("the update of {client} names content {blob}, which is not there")]
    MissingUpdate {
        /// Who sent it.
        client: ClientId,
        /// The content.
        blob: Digest,
    },
    /// The engine is shutting down.
    #[error("the coordinator is shutting down")]
    Stopped,
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<ConfigError> for EngineError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Arc::new(error))
    }
}

impl From<RunError> for EngineError {
    fn from(error: RunError) -> Self {
        Self::from(ConfigError::from(error))
    }
}

impl From<AggregationError> for EngineError {
    fn from(error: AggregationError) -> Self {
        Self::Initial(Arc::new(error))
    }
}

impl From<AdapterError> for EngineError {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(Arc::new(error))
    }
}
