//! Why the simulator could not do what it was asked, and the exit code that says so.

use std::{io, path::PathBuf};

use fedlora_adapter::AdapterError;
use fedlora_aggregation::AggregationError;
use fedlora_client::SessionError;
use fedlora_coordinator::{RunError, config::ConfigError};
use fedlora_learner::{DataError, EvaError, LearnerError};
use fedlora_privacy::PrivacyError;

use crate::{
    deployed::DeployedError, files::FileError, partition::PartitionError, record::RecordError, report::ReportError,
    server::ServerError, states::StateError, world::WorldError,
};

/// Everything that can end a simulation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The configuration.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The method, its parameters or its first adapter.
    #[error("method")]
    Method(#[from] AggregationError),
    /// Settings under which no round can succeed.
    #[error("configuration")]
    Rounds(#[from] RunError),
    /// A question about privacy that has no answer.
    #[error("privacy")]
    Privacy(#[from] PrivacyError),
    /// The examples.
    #[error("data")]
    Data(#[from] DataError),
    /// The division of the examples.
    #[error("data.partition")]
    Partition(#[from] PartitionError),
    /// A device that cannot be had.
    #[error("device")]
    Device(#[source] LearnerError),
    /// The base model.
    #[error("model")]
    Model(#[from] LearnerError),
    /// The public rows that first factors come from.
    #[error("public rows")]
    Public(#[from] EvaError),
    /// The run itself.
    #[error("the run failed")]
    Session(#[from] Box<SessionError<WorldError, LearnerError, StateError>>),
    /// The world before the first round.
    #[error("the run failed")]
    World(#[from] WorldError),
    /// The run through a coordinator and its clients.
    #[error("the run failed")]
    Deployed(#[from] DeployedError),
    /// Records and checkpoints.
    #[error("run directory")]
    Record(#[from] RecordError),
    /// Reports and plots.
    #[error("report")]
    Report(#[from] ReportError),
    /// A file that cannot be written.
    #[error("output")]
    File(#[from] FileError),
    /// An adapter that cannot be written.
    #[error("adapter")]
    Adapter(#[from] AdapterError),
    /// The machine cannot give what was asked of it.
    #[error("cannot start {threads} threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Why.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// An answer that cannot be printed.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
    /// A directory that something would be written over in.
    #[error("{} is not empty: choose another --out", path.display())]
    OutputExists {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that holds no run.
    #[error("{path} holds no run (no metrics_summary.json)")]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
}

impl SimulationError {
    /// The process's exit code, as the README lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Method(_)
            | Self::Rounds(_)
            | Self::Device(_)
            | Self::Threads { .. }
            | Self::Privacy(_) => 2,
            Self::Data(_) | Self::Partition(_) | Self::Model(_) | Self::Public(_) => 3,
            Self::Session(error) => match &**error {
                SessionError::Link(error) => world_code(error),
                SessionError::Kept { source: StateError::Write(_), .. } => 5,
                _ => 4,
            },
            Self::World(error) => world_code(error),
            Self::Deployed(DeployedError::Server(error)) => server_code(error),
            Self::Deployed(DeployedError::Directory(_)) => 5,
            Self::Deployed(_) => 4,
            _ => 5,
        }
    }
}

/// 5 where a file could not be written, else 4.
fn world_code(error: &WorldError) -> u8 {
    if let WorldError::Server(error) = error { server_code(error) } else { 4 }
}

fn server_code(error: &ServerError) -> u8 {
    if matches!(error, ServerError::Record(_) | ServerError::State(StateError::Write(_))) { 5 } else { 4 }
}
