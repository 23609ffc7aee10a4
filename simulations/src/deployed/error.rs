//! Why a run through the real stack failed.

use std::io;

use fedlora_adapter::ClientId;
use fedlora_client::{DialError, LinkError, SessionError, identity::IdentityError as ClientIdentityError};
use fedlora_coordinator::{EngineError, IdentityError, identity::pki::PkiError, serve::ServeError};
use fedlora_learner::LearnerError;

use crate::{server::ServerError, states::StateError};

/// What ends a client's session.
pub(crate) type ClientFailure = Box<SessionError<LinkError, LearnerError, StateError>>;

/// Why a run through a coordinator and its clients failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployedError {
    /// No place for the coordinator's and the clients' files.
    #[error("cannot make a temporary directory")]
    Directory(#[source] io::Error),
    /// The system gives no threads or sockets.
    #[error("cannot start the coordinator")]
    Runtime(#[source] io::Error),
    /// The system gives no threads for training.
    #[error("cannot start threads for training")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// The certificate authority.
    #[error("certificate authority")]
    Pki(#[from] PkiError),
    /// A client's enrolment.
    #[error("enrolment")]
    Identity(#[from] IdentityError),
    /// A client got another number than it has in the simulation.
    #[error("{expected} was enrolled as {found}")]
    Numbers {
        /// In the simulation.
        expected: ClientId,
        /// At the coordinator.
        found: ClientId,
    },
    /// A client's identity.
    #[error("identity of a client")]
    ClientIdentity(#[from] ClientIdentityError),
    /// A client's state directory.
    #[error("state directory of a client")]
    State(#[from] fedlora_client::StateError),
    /// The coordinator's address.
    #[error("address of the coordinator")]
    Address(#[from] fedlora_client::ServerError),
    /// A client's connection.
    #[error("connection of a client")]
    Dial(#[from] DialError),
    /// A client's link.
    #[error("link of a client")]
    Link(#[from] LinkError),
    /// The coordinator.
    #[error("coordinator")]
    Serve(#[from] ServeError),
    /// Its engine.
    #[error("coordinator")]
    Engine(#[from] EngineError),
    /// The base model, or training on it.
    #[error("model")]
    Model(#[from] LearnerError),
    /// A client's session.
    #[error("{client}")]
    Client {
        /// Whose.
        client: ClientId,
        /// Why.
        #[source]
        source: ClientFailure,
    },
    /// A client's thread.
    #[error("a client's thread panicked")]
    Panicked,
    /// The run.
    #[error("the run failed at the coordinator: {reason}")]
    RunFailed {
        /// The coordinator's words.
        reason: String,
    },
    /// Evaluations and records.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
}
