//! FFA-LoRA: `A` is frozen at its common random values for ever, only `B` is trained, sent and averaged.
//!
//! "Improving LoRA in Privacy-preserving Federated Learning" (arXiv 2403.12313), section 4. With one `A` the mean of
//! the products is the product of the means, so averaging is exact. The variant with orthonormal rows of `A` is the one
//! that `FedSVD` must be compared with: under plain or noisy SGD the two are the same algorithm.

use fedlora_adapter::{AdapterKind, Directive, Factors, HeadPolicy, LoraFactors, RoundId, Side};
use serde::{Deserialize, Serialize};

use super::{ANY, Method, fedavg};
use crate::{AggregationError, Contribution, Init, Strategy, parameters};

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: "ffa-lora",
    title: "Improving LoRA in Privacy-preserving Federated Learning",
    arxiv: "2403.12313",
    summary: "freeze A at its random values, average B: exact",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: false,
    build: |table| Ok(Box::new(parameters::parse::<FfaLora>("ffa-lora", table)?)),
};

/// The same with orthonormal rows of `A`.
pub(super) const ORTHONORMAL: Method = Method {
    name: "ffa-orthonormal",
    summary: "FFA-LoRA with orthonormal rows of A: what FedSVD is under SGD",
    // OLoRA's first A belongs to the base that is left.
    kinds: &[AdapterKind::Lora, AdapterKind::Dora],
    init: Some(Init::Orthonormal),
    build: |table| Ok(Box::new(parameters::parse::<FfaLora>("ffa-orthonormal", table)?)),
    ..METHOD
};

/// Parameters. The paper's setting keeps the head at its initial values.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FfaLora {
    head: HeadPolicy,
}

impl Default for FfaLora {
    fn default() -> Self {
        Self { head: HeadPolicy::Frozen }
    }
}

impl Strategy for FfaLora {
    /// `A` is downloaded although it never changes: a client that joins late has no other way to know it.
    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::B, upload: Factors::B, download: Factors::Both, head: self.head }
    }

    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        Ok(LoraFactors { a: previous.a.clone(), b: fedavg::mean(previous, contributions, Side::B)? })
    }
}
