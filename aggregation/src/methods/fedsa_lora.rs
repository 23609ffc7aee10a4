//! FedSA-LoRA: both factors are trained, `A` is shared and averaged, `B` and the head stay with each client.
//!
//! "Selective Aggregation for Low-Rank Adaptation in Federated Learning" (arXiv 2410.01463), section 3.2, and its
//! variants for rsLoRA (only the scale differs) and VeRA (`lambda_d` takes the place of `A`, `lambda_b` of `B`).
//! There is no global model: the server's `B` stays at its initial value. Built as the paper describes it, with a `B`
//! per client.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Side};
use serde::{Deserialize, Serialize};

use super::{MATRICES, Method, VERA as VERA_ONLY, fedavg};
use crate::{AggregationError, Contribution, Strategy, parameters};

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: "fedsa-lora",
    title: "Selective Aggregation for Low-Rank Adaptation in Federated Learning",
    arxiv: "2410.01463",
    summary: "average A, every client keeps its own B and head",
    kinds: MATRICES,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: false,
    build: |table| Ok(Box::new(parameters::parse::<FedSaLora>("fedsa-lora", table)?)),
};

/// The same with the scale `alpha / sqrt(r)`.
pub(super) const RSLORA: Method = Method {
    name: "fedsa-rslora",
    summary: "FedSA-LoRA with rank-stabilised scaling",
    use_rslora: Some(true),
    build: |table| Ok(Box::new(parameters::parse::<FedSaLora>("fedsa-rslora", table)?)),
    ..METHOD
};

/// The same for VeRA's vectors.
pub(super) const VERA: Method = Method {
    name: "fedsa-vera",
    summary: "average VeRA's lambda_d, every client keeps its own lambda_b and head",
    kinds: VERA_ONLY,
    build: |table| Ok(Box::new(parameters::parse::<FedSaLora>("fedsa-vera", table)?)),
    ..METHOD
};

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FedSaLora {
    head: HeadPolicy,
}

impl Default for FedSaLora {
    fn default() -> Self {
        Self { head: HeadPolicy::Personal }
    }
}

impl Strategy for FedSaLora {
    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::A, download: Factors::A, head: self.head }
    }

    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        Ok(LoraFactors { a: fedavg::mean(previous, contributions, Side::A)?, b: previous.b.clone() })
    }
}
