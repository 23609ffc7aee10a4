//! `RoLoRA`: rounds take turns, one trains `B` alone, the next `A` alone.
//!
//! "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA" (arXiv 2502.01755), algorithm 1. Within a
//! round the other factor is common to all clients, so the mean of the products is the product of the means; over two
//! rounds both factors are learned. Odd rounds train `B`: at `B = 0`, where LoRA begins, the gradient of `A` is zero.

use fedlora_adapter::{AdapterKind, Directive, Factors, HeadPolicy, LoraFactors, RoundId, Side};
use serde::{Deserialize, Serialize};

use super::{Method, fedavg};
use crate::{AggregationError, Contribution, Strategy, parameters};

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: "rolora",
    title: "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA",
    arxiv: "2502.01755",
    summary: "train and average B in odd rounds, A in even ones: exact",
    // Kinds with two trained factors.
    kinds: &[AdapterKind::Lora, AdapterKind::Vera, AdapterKind::Olora, AdapterKind::Dora],
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: false,
    build: |table| Ok(Box::new(parameters::parse::<RoLora>("rolora", table)?)),
};

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RoLora {
    head: HeadPolicy,
}

impl Default for RoLora {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared }
    }
}

/// The factor whose turn it is.
fn turn(round: RoundId) -> Side {
    if round.0.is_multiple_of(2) { Side::A } else { Side::B }
}

impl Strategy for RoLora {
    /// Both factors are downloaded: a client that was away does not know the one that was trained then.
    fn directive(&self, round: RoundId) -> Directive {
        let trained = match turn(round) {
            Side::A => Factors::A,
            Side::B => Factors::B,
        };
        Directive { train: trained, upload: trained, download: Factors::Both, head: self.head }
    }

    fn combine(
        &self,
        round: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        let mut combined = previous.clone();
        combined.set(turn(round), fedavg::mean(previous, contributions, turn(round))?);
        Ok(combined)
    }
}
