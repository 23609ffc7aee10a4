//! What the parts of a running coordinator say to each other: identities of runs and updates, verdicts with their
//! reasons, and what is pushed to clients.

use std::{fmt, sync::Arc};

pub use fedlora_adapter::ModelDescription;
use fedlora_adapter::{AdapterSpec, ClientId, Digest, PeftOptions, RoundId, RoundPlan};
use serde::{Deserialize, Serialize};

use crate::{RunStatus, Timestamp, Verdict};

/// Number of a run; never used twice by one coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.0)
    }
}

/// Number of a client's session: a younger session of the same client has a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What clients and checks need to know of the live run.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentRun {
    /// Its number.
    pub id: RunId,
    /// Its name.
    pub name: String,
    /// The adapter.
    pub spec: Arc<AdapterSpec>,
    /// Digest of the base model's files.
    pub base_model: Digest,
    /// Class names.
    pub labels: Vec<String>,
    /// What exported adapters say about the base model.
    pub peft: PeftOptions,
}

/// An open round: what tasks carry and what updates are checked against.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentRound {
    /// The run.
    pub run: RunId,
    /// Instructions to clients.
    pub plan: Arc<RoundPlan>,
    /// The global adapter's file.
    pub blob: Digest,
    /// Its size.
    pub blob_bytes: u64,
    /// When the round closes at the latest; `None` for never.
    pub deadline: Option<Timestamp>,
}

/// A client's claim about an update whose bytes lie in the blob store.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UpdateMeta {
    /// Who sent it; from the certificate, not from the message.
    pub client: ClientId,
    /// The run that it names.
    pub run: RunId,
    /// The round that it names.
    pub round: RoundId,
    /// The adapter specification that it names.
    pub spec: Digest,
    /// The global adapter that training started from.
    pub base: Digest,
    /// Digest of the file.
    pub blob: Digest,
    /// Size of the file.
    pub size_bytes: u64,
    /// Training examples.
    pub examples: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean training loss over those steps, unless it is private.
    #[serde(default)]
    pub train_loss: Option<f64>,
}

/// Why an update does not count. The codes are stable: scripts may match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ReasonCode {
    /// No run of this number is live.
    UnknownRun,
    /// The round is over.
    StaleRound,
    /// The round has not begun.
    FutureRound,
    /// The client is not in the round's cohort.
    NotInvited,
    /// Another update of this client was accepted before.
    AlreadySubmitted,
    /// Made for another adapter specification.
    WrongSpec,
    /// Training started from another global adapter.
    WrongBase,
    /// Larger than an update of this adapter can be.
    TooLarge,
    /// A number of examples, steps or a loss that makes no sense.
    BadMeta,
    /// The file is no safetensors file, or its parts overlap or leave gaps.
    MalformedFile,
    /// A tensor is missing.
    MissingTensor,
    /// A tensor that nobody asked for.
    UnexpectedTensor,
    /// A tensor occurs twice.
    DuplicateTensor,
    /// A tensor of another shape.
    WrongShape,
    /// A tensor of another element type.
    WrongDtype,
    /// NaN or infinity.
    NotFinite,
    /// Farther from the broadcast adapter than the run allows.
    TooFar,
    /// The file's digest is not the announced one.
    DigestMismatch,
    /// Chunks out of order, with gaps, too large or damaged.
    BadChunk,
}

impl ReasonCode {
    /// The code as text, such as `NOT_FINITE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownRun => "UNKNOWN_RUN",
            Self::StaleRound => "STALE_ROUND",
            Self::FutureRound => "FUTURE_ROUND",
            Self::NotInvited => "NOT_INVITED",
            Self::AlreadySubmitted => "ALREADY_SUBMITTED",
            Self::WrongSpec => "WRONG_SPEC",
            Self::WrongBase => "WRONG_BASE",
            Self::TooLarge => "TOO_LARGE",
            Self::BadMeta => "BAD_META",
            Self::MalformedFile => "MALFORMED_FILE",
            Self::MissingTensor => "MISSING_TENSOR",
            Self::UnexpectedTensor => "UNEXPECTED_TENSOR",
            Self::DuplicateTensor => "DUPLICATE_TENSOR",
            Self::WrongShape => "WRONG_SHAPE",
            Self::WrongDtype => "WRONG_DTYPE",
            Self::NotFinite => "NOT_FINITE",
            Self::TooFar => "TOO_FAR",
            Self::DigestMismatch => "DIGEST_MISMATCH",
            Self::BadChunk => "BAD_CHUNK",
        }
    }
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it does not count; none for one that does.
    pub reason: Option<ReasonCode>,
    /// The reason in words; empty for an update that counts.
    pub detail: String,
}

/// What is pushed to a connected client.
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// The live run, whenever it changes; sent before any task of it.
    Run(Arc<CurrentRun>),
    /// Work.
    Task(Arc<CurrentRound>),
    /// A round that the client was invited to is closed.
    RoundClosed(RunId, RoundId),
    /// The run is over.
    RunFinished(RunId, RunStatus),
    /// The stream has to end, for this reason: `superseded`, `revoked`, `draining`.
    End(&'static str),
}

/// A client as the engine knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it has an open session.
    pub connected: bool,
    /// Rounds in which an update of it counted.
    pub rounds_accepted: u64,
}
