//! The server: its decisions, and what keeps them.
//!
//! [`Round`] collects the updates of one round; [`Run`] strings rounds together: it chooses cohorts, pauses, stops and
//! finishes. Both are plain values without I/O, clock or randomness of their own that take an event and the time and
//! answer with effects, so that the simulator, a server and a test drive the very same code. [`Engine`] puts a run on a
//! [`RoundStore`] and [`Blobs`], so that it survives the end of the process at any point; [`start`] puts an engine on a
//! thread behind a [`Handle`].

mod api;
mod blobs;
mod central;
pub mod check;
pub mod cli;
pub mod config;
mod engine;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod metrics;
mod plain;
mod round;
mod run;
pub mod serve;
mod step;
mod store;
mod time;
pub mod tls;
mod upload;

pub use api::{
    CurrentRound, CurrentRun, ModelDescription, Push, ReasonCode, Receipt, RunId, SessionId, Standing, UpdateMeta,
};
pub use blobs::Blobs;
pub use central::{PrivacyLimit, StepPrivacy, is_released, server_step, step_weight};
pub use engine::{
    Answer, Clock, Command, Control, Engine, EngineError, EngineSettings, EngineThread, Handle, Output, SystemClock,
    View, start,
};
pub use grpc::{
    Authenticator, IdentityLimits, IdentityService, UntilRevoked,
    operator::{self, OperatorService},
    until_revoked,
};
pub use identity::{Fingerprint, IdentityError, Now, Peer, Registry, RegistrySettings, Role};
pub use round::{FailureReason, Participation, Phase, Round, RoundEffect, RoundEvent, Tally, Verdict};
pub use run::{Run, RunEffect, RunError, RunEvent, RunSettings, RunStatus};
pub use step::{StepError, StepOutcome, StepTask};
pub use store::{DiskStore, MemoryStore, Pair, RoundStore, StoreError, Table, Write};
pub use time::Timestamp;
pub use tls::{ConnectionInfo, TlsConnection, TlsError, TlsSettings, tls_incoming};
