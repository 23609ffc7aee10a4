//! The records of the tables.

use std::collections::BTreeSet;

use fedlora_adapter::{ClientId, Digest, RoundId};
use serde::{Deserialize, Serialize};

use crate::{
    ModelDescription, ReasonCode, Run, RunEvent, RunId, RunStatus, Tally, Timestamp, central::Account,
    config::CentralRelease, engine::EventKind,
};

/// A run as it was started, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) name: String,
    /// The configuration as TOML, every default written out.
    pub(crate) config: String,
    pub(crate) model: ModelDescription,
    pub(crate) method: String,
    pub(crate) num_rounds: u64,
    pub(crate) created: Timestamp,
    /// Last published round.
    pub(crate) done: RoundId,
    /// Only brought up to date when the run is over: until then, its snapshot and the events after it say more.
    pub(crate) status: RunStatus,
    pub(crate) finished: Option<Timestamp>,
    /// Why it failed, in words.
    pub(crate) reason: String,
    /// What it has released; none without central privacy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Account>,
}

/// A run's state after all events up to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) event: u64,
    pub(crate) run: Run,
    /// Who declined the open round. The run itself knows only that it need not wait for them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) declined: BTreeSet<ClientId>,
}

/// A round: how it was opened and, once it is over, how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoundRecord {
    pub(crate) cohort: Vec<ClientId>,
    pub(crate) opened: Timestamp,
    pub(crate) deadline: Option<Timestamp>,
    /// File of the adapter that clients started from, and its size.
    pub(crate) blob: Digest,
    pub(crate) blob_bytes: u64,
    pub(crate) closed: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    /// None while it is open.
    pub(crate) outcome: Option<RoundOutcome>,
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoundOutcome {
    pub(crate) tally: Tally,
    pub(crate) late: Vec<ClientId>,
    /// The new adapter; none for a round that failed.
    pub(crate) adapter: Option<Digest>,
    pub(crate) train_loss: Option<f64>,
    pub(crate) update_norm: f64,
    pub(crate) residual: Option<f64>,
    pub(crate) bytes_up: u64,
    pub(crate) aggregation_ms: u64,
    /// What the server released, where it adds noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<CentralRelease>,
}

/// A published adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    /// Its file.
    pub(crate) blob: Digest,
    pub(crate) size_bytes: u64,
    /// Its specification and values.
    pub(crate) adapter: Digest,
    pub(crate) time: Timestamp,
}

/// An update that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejection {
    pub(crate) blob: Digest,
    pub(crate) reason: ReasonCode,
    pub(crate) detail: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) time: Timestamp,
    pub(crate) run: RunId,
    /// 0 where no round is concerned.
    pub(crate) round: RoundId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<ClientId>,
    pub(crate) kind: EventKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
    /// What the run was told; to be told again after a restart. None for what followed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<RunEvent>,
}
