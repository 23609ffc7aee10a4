//! `FedAvg` on LoRA factors, also known as `FedIT`: both factors are trained, sent and averaged, each by itself.
//!
//! "Communication-Efficient Learning of Deep Networks from Decentralized Data" (arXiv 1602.05629), algorithm 1, applied
//! to adapters by "Towards Building the Federated GPT: Federated Instruction Tuning" (arXiv 2305.05644), algorithm 1.
//! The product of the means is not the mean of the products: `dW* - B̄Ā = sum p_k (B_k - B̄)(A_k - Ā)`.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Side, Tensor};
use serde::{Deserialize, Serialize};

use super::{ANY, Method};
use crate::{AggregationError, Contribution, Strategy, mean::weighted_mean, parameters};

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: "fedavg",
    title: "Towards Building the Federated GPT: Federated Instruction Tuning (FedIT)",
    arxiv: "2305.05644",
    summary: "average A and B separately",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: true,
    is_robust: false,
    build: |table| Ok(Box::new(parameters::parse::<FedAvg>("fedavg", table)?)),
};

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FedAvg {
    head: HeadPolicy,
}

impl Default for FedAvg {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared }
    }
}

impl Strategy for FedAvg {
    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: self.head }
    }

    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        Ok(LoraFactors { a: mean(previous, contributions, Side::A)?, b: mean(previous, contributions, Side::B)? })
    }
}

/// The weighted mean of one factor.
pub(super) fn mean(
    previous: &LoraFactors,
    contributions: &[Contribution<'_>],
    side: Side,
) -> Result<Tensor, AggregationError> {
    let sources: Vec<_> = contributions.iter().map(|one| (one.share, one.side(side))).collect();
    Ok(Tensor::new(previous.side(side).shape().to_vec(), weighted_mean(&sources)?)?)
}
