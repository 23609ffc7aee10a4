//! Why a command failed, and the exit code that says so.

use std::io;

use fedlora_adapter::AdapterError;
use fedlora_learner::{DataError, LearnerError};
use fedlora_privacy::LedgerError;

use crate::{
    DialError, KeptError, LinkError, ServerError, SessionError, SiteError, StateError, Unreachable,
    config::ConfigError,
    files::FileError,
    identity::{EnrolError, IdentityError},
};

/// Everything that can end a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The configuration.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The coordinator's address.
    #[error("server")]
    Server(#[from] ServerError),
    /// The identity.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// Getting an identity.
    #[error("enrolment")]
    Enrol(#[from] EnrolError),
    /// A connection that cannot be prepared.
    #[error("connection")]
    Dial(#[from] DialError),
    /// A coordinator that cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The state directory.
    #[error("state-dir")]
    State(#[from] StateError),
    /// A device that cannot be had.
    #[error("device")]
    Device(#[source] LearnerError),
    /// Model or data.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The link before the first round.
    #[error("federation")]
    Link(#[from] LinkError),
    /// Taking part.
    #[error("federation")]
    Session(#[from] Box<SessionError<LinkError, SiteError, KeptError>>),
    /// A privacy ledger.
    #[error("privacy ledger")]
    Ledger(#[from] LedgerError),
    /// An adapter's files.
    #[error("adapter")]
    Adapter(#[from] AdapterError),
    /// A file that cannot be written.
    #[error("output")]
    File(#[from] FileError),
    /// The machine cannot give what was asked of it.
    #[error("cannot start {threads} threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Why.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// The system gives no threads for the connection.
    #[error("cannot start the connection")]
    Runtime(#[source] io::Error),
    /// An answer that cannot be written.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

impl From<LearnerError> for CliError {
    fn from(error: LearnerError) -> Self {
        Self::Site(error.into())
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        Self::Site(error.into())
    }
}

impl CliError {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Server(_) | Self::Device(_) | Self::Threads { .. } => 2,
            Self::Site(SiteError::Write(_)) => 5,
            Self::Site(_) => 3,
            Self::Enrol(EnrolError::Unreachable(_)) | Self::Unreachable(_) => 4,
            Self::Link(error) => link_code(error),
            Self::Session(error) => match &**error {
                SessionError::Training { source: SiteError::Write(_), .. } | SessionError::Kept { .. } => 5,
                SessionError::Training { .. } => 3,
                SessionError::Link(error) => link_code(error),
                _ => 4,
            },
            _ => 5,
        }
    }
}

fn link_code(error: &LinkError) -> u8 {
    match error {
        LinkError::Outbox(_) | LinkError::Write(_) | LinkError::File { .. } | LinkError::Runtime(_) => 5,
        _ => 4,
    }
}
