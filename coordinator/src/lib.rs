//! The server's decisions, without I/O, clock or randomness of their own.
//!
//! [`Round`] collects the updates of one round; [`Run`] strings rounds together: it chooses cohorts, pauses, stops and
//! finishes. Both are plain values that take an event and the time and answer with effects, so that the simulator, a
//! server and a test drive the very same code.

mod api;
pub mod cli;
pub mod config;
mod grpc;
mod plain;
mod round;
mod run;
mod time;

pub use api::{CurrentRound, CurrentRun, ModelDescription, Push, ReasonCode, Receipt, RunId, SessionId, UpdateMeta};
pub use grpc::operator::{self, OperatorService};
pub use round::{FailureReason, Participation, Phase, Round, RoundEffect, RoundEvent, Tally, Verdict};
pub use run::{Run, RunEffect, RunError, RunEvent, RunSettings, RunStatus};
pub use time::Timestamp;
