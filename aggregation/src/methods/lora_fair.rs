//! LoRA-FAIR: average both factors as `FedAvg` does, then correct `B̄` on the server so that the product comes closer to the
//! mean of the clients' products.
//!
//! "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement" (arXiv 2411.14961), eq. 8:
//! `dB = argmin S(dW*, (B̄ + dB) Ā) + lambda ‖dB‖`. Departures, in both modes: `dB` starts at zero, not at random
//! values, which the paper's step size would leave in place; the norm is squared, so that the problem is smooth; all
//! work is done in `r x r` matrices.

mod cosine;
mod ridge;

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId};
use serde::{Deserialize, Serialize};

use super::{LORA, Method};
use crate::{
    AggregationError, Contribution, Strategy,
    low_rank::{self, Matrix},
    parameters,
    residual::{means, product_norm_squared},
};

const NAME: &str = "lora-fair";

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: NAME,
    title: "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement",
    arxiv: "2411.14961",
    summary: "average A and B, then correct B towards the mean of the products",
    kinds: LORA,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: false,
    build,
};

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
    let method: LoraFair = parameters::parse(NAME, table)?;
    let is_valid = method.lambda.is_finite() && method.lambda >= 0.0;
    parameters::require(NAME, "lambda", method.lambda, is_valid, "a finite number of at least 0")?;
    Ok(Box::new(method))
}

/// What "close" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Squared Frobenius distance, solved in closed form.
    Ridge,
    /// `1 - cos`, as the paper has it; blind to the length of the product.
    Cosine,
}

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct LoraFair {
    head: HeadPolicy,
    mode: Mode,
    /// Weight of `‖dB‖²`, at least 0. In ridge mode relative to `tr(Ā Āᵀ) / r`: the scale of `A` would otherwise
    /// decide what it means.
    lambda: f64,
}

impl Default for LoraFair {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared, mode: Mode::Ridge, lambda: 0.01 }
    }
}

impl Strategy for LoraFair {
    fn needs_only_mean(&self) -> bool {
        false
    }

    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: self.head }
    }

    fn combine(
        &self,
        _: RoundId,
        _: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        let (mean_a_t, mean_b_t) = means(contributions)?;
        let gram = mean_a_t.tr_mul(&mean_a_t);
        let defect_t = defect(contributions, &mean_a_t)?;
        let correction_t = match self.mode {
            Mode::Ridge => ridge::solve(&gram, &defect_t, self.lambda),
            Mode::Cosine => {
                let target = product_norm_squared(contributions)?.sqrt();
                cosine::Problem::new(&gram, &mean_b_t, &defect_t, target, self.lambda).solve()
            }
        };
        Ok(LoraFactors { a: low_rank::to_tensor(&mean_a_t)?, b: low_rank::to_tensor(&(mean_b_t + correction_t))? })
    }
}

/// `Dᵀ` (`r x d_out`) of the defect `D = (dW* - B̄Ā) Āᵀ = sum p_k B_k ((A_k - Ā) Āᵀ)`.
///
/// Written with deviations: the difference of the two large products would lose the digits that matter.
fn defect(contributions: &[Contribution<'_>], mean_a_t: &Matrix) -> Result<Matrix, AggregationError> {
    let mut sum_t: Option<Matrix> = None;
    for one in contributions {
        let deviation_t = low_rank::transposed(&one.a)? - mean_a_t;
        let core_t = mean_a_t.tr_mul(&deviation_t) * one.share;
        let term_t = core_t * low_rank::transposed(&one.b)?;
        sum_t = Some(match sum_t {
            Some(sum_t) => sum_t + term_t,
            None => term_t,
        });
    }
    Ok(sum_t.unwrap_or_default())
}
