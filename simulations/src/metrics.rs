//! What a run measures, as data: one record a round, one summary at the end.
//!
//! The summary holds no clock readings, so that equal seeds give equal bytes; seconds are in the round records.

use fedlora_learner::Evaluation;
use serde::{Deserialize, Serialize};

use crate::privacy::{RoundPrivacy, SummaryPrivacy};

/// The three evaluations that must not be mixed up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluations {
    /// The global model on the global test set; absent for methods that have no global model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub global: Option<Evaluation>,
    /// Each client's personal model on its own test split: unweighted mean over clients.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub personal_own: Option<Evaluation>,
    /// Each client's personal model on the global test set: unweighted mean over clients.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub personal_global: Option<Evaluation>,
}

/// One client's part in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientMetrics {
    /// Client number.
    pub client: u64,
    /// Examples that it trains on.
    #[serde(rename = "num-examples")]
    pub num_examples: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean training loss over its steps; none for private training.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub train_loss: Option<f64>,
}

/// Wall-clock seconds of a round by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseSeconds {
    /// Local training of all clients.
    pub train: f64,
    /// Server step.
    pub aggregate: f64,
    /// All evaluations.
    pub evaluate: f64,
    /// Writing checkpoints and records.
    pub save: f64,
}

/// One round; a line of `round_metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundMetrics {
    /// Round number, from 1; 0 is the state before training.
    pub round: u64,
    /// Mean training loss over the accepted clients, weighted as their updates were.
    pub train_loss: Option<f64>,
    /// The evaluations of this round; empty in rounds without one.
    pub evaluations: Evaluations,
    /// `‖B·A − Σ p_k B_k A_k‖ / ‖Σ p_k B_k A_k‖` over all modules, where both factors were averaged.
    pub aggregation_residual: Option<f64>,
    /// Frobenius norm of the change of the global adapter.
    pub update_norm: f64,
    /// Bytes of adapter values that clients sent.
    pub bytes_up: u64,
    /// Bytes of adapter values that clients took.
    pub bytes_down: u64,
    /// Updates that were aggregated.
    pub accepted: u64,
    /// Updates refused as invalid.
    pub rejected: u64,
    /// Updates that came after the round had closed.
    pub late: u64,
    /// Selected clients that never answered.
    pub dropped: u64,
    /// What private training has cost; absent for plain training.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub privacy: Option<RoundPrivacy>,
    /// The accepted clients, in order.
    pub clients: Vec<ClientMetrics>,
    /// Wall-clock seconds of the whole round.
    pub duration_s: f64,
    /// And by phase.
    pub seconds: PhaseSeconds,
}

/// Last value and mean of the last `n` of one measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The last evaluated round.
    pub last: f64,
    /// Mean of the last `n` evaluated rounds.
    pub mean_of_last_n: f64,
    /// How many were averaged.
    pub n: u64,
    /// Best evaluated round: the largest accuracy or share of answers, the smallest perplexity. Chosen on the test set, so a bound rather than a
    /// result.
    pub best: f64,
    /// The round of `best`.
    pub best_round: u64,
}

/// One figure of the three evaluations over a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SummaryTails {
    /// The global model on the global test set.
    pub global: Option<Tail>,
    /// Personal models on their own test splits.
    pub personal_own: Option<Tail>,
    /// Personal models on the global test set.
    pub personal_global: Option<Tail>,
}

/// A whole run; `metrics_summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this layout.
    pub schema_version: u32,
    /// The run's name.
    pub name: String,
    /// Aggregation method.
    pub method: String,
    /// Run seed.
    pub seed: u64,
    /// `finished:completed`, or `finished:stopped` after an interrupt.
    pub status: String,
    /// Rounds done.
    pub rounds: u64,
    /// Accuracies; for language models the shares of tokens predicted rightly.
    pub accuracy: SummaryTails,
    /// Perplexities of a language model; absent for classifiers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub perplexity: Option<SummaryTails>,
    /// Shares of questions that a language model answers rightly by what it writes; absent unless it was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exact_match: Option<SummaryTails>,
    /// The last evaluations in full.
    pub evaluations: Evaluations,
    /// Last training loss.
    pub train_loss: Option<f64>,
    /// Last aggregation residual.
    pub aggregation_residual: Option<f64>,
    /// Bytes of adapter values that clients sent in the whole run.
    pub bytes_up: u64,
    /// Bytes of adapter values that clients took in the whole run.
    pub bytes_down: u64,
    /// Updates aggregated, refused, late, and clients that never answered.
    pub accepted: u64,
    /// Updates refused as invalid.
    pub rejected: u64,
    /// Updates that came after the round had closed.
    pub late: u64,
    /// Selected clients that never answered.
    pub dropped: u64,
    /// What private training has cost; absent for plain training.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub privacy: Option<SummaryPrivacy>,
    /// Digest of the final global adapter.
    pub adapter_digest: String,
}
