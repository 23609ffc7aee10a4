//! `FedSVD`: only `B` is trained; the server re-factors the averaged product by its SVD, so that `A` gets orthonormal
//! rows adapted to what was learned, and `B` orthogonal columns.
//!
//! "FedSVD: Adaptive Orthogonalization for Private Federated Learning with LoRA" (arXiv 2505.12805), algorithm 1:
//! `U S Vᵀ = SVD(B̄ A)`, `B <- U S`, `A <- Vᵀ`. Built through a thin QR of `Aᵀ` and a QR and an `r x r` Jacobi SVD of
//! `B̄ Rᵀ`, which gives the same product; a dense SVD would return arbitrary directions where `B̄` is rank-deficient, this
//! one stays in the row space of `A`. The scale `s` is not part of the SVD. Both factors are broadcast: clients that
//! redid the SVD themselves could differ in signs, and averaging `B` over different bases is meaningless.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Side, TensorSource};
use serde::{Deserialize, Serialize};

use super::{MATRICES, Method, fedavg};
use crate::{
    AggregationError, Contribution, Strategy,
    low_rank::{self, Matrix, Rotation},
    parameters,
    residual::mean_t,
};

const NAME: &str = "fedsvd";

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: NAME,
    title: "FedSVD: Adaptive Orthogonalization for Private Federated Learning with LoRA",
    arxiv: "2505.12805",
    summary: "train B only, re-factor the averaged product by its SVD: exact, orthonormal A",
    kinds: MATRICES,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: false,
    build,
};

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
    let method: FedSvd = parameters::parse(NAME, table)?;
    parameters::require(NAME, "period", method.period as f64, method.period > 0, "at least 1")?;
    Ok(Box::new(method))
}

/// Where the singular values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Split {
    /// All into `B`: the rows of `A` are orthonormal.
    Left,
    /// Half into each, the paper's ablation "without orthonormality". A direction whose singular value is zero is
    /// lost for good: both of its factors become zero.
    Sqrt,
}

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FedSvd {
    head: HeadPolicy,
    /// Re-factor after every round whose number is a multiple of this; average `B` only in the others.
    period: u64,
    split: Split,
}

impl Default for FedSvd {
    fn default() -> Self {
        Self { head: HeadPolicy::Frozen, period: 1, split: Split::Left }
    }
}

impl Strategy for FedSvd {
    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::B, upload: Factors::B, download: Factors::Both, head: self.head }
    }

    fn combine(
        &self,
        round: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        if !round.0.is_multiple_of(self.period) {
            return Ok(LoraFactors { a: previous.a.clone(), b: fedavg::mean(previous, contributions, Side::B)? });
        }
        let a_t = low_rank::transposed(&TensorSource::Memory(previous.a.as_ref()))?;
        let (width, rank) = a_t.shape();
        if rank > width {
            return Err(AggregationError::RankTooLarge { rank, width });
        }
        let (a_t, b_t) = refactor(a_t, &mean_t(contributions, Side::B)?, self.split);
        Ok(LoraFactors { a: low_rank::to_tensor(&a_t)?, b: low_rank::to_tensor(&b_t)? })
    }
}

/// `Âᵀ` (`d_in x r`) and `B̂ᵀ` (`r x d_out`) with `B̂ Â = B A`, from `Aᵀ` and `Bᵀ` of the same shapes.
///
/// With `Aᵀ = Q R` the product is `(B Rᵀ) Qᵀ`. If `W` holds the right singular vectors of `M = B Rᵀ`, then `M W` has
/// orthogonal columns `U S` and `Wᵀ Qᵀ` orthonormal rows, and nothing was divided by a singular value.
fn refactor(a_t: Matrix, b_t: &Matrix, split: Split) -> (Matrix, Matrix) {
    let (q, r) = low_rank::thin_qr(a_t);
    let m_t = r * b_t;
    let Rotation { vectors, singular_values } = low_rank::orthogonalise_columns(low_rank::thin_r(m_t.transpose()));
    let mut a_t = q * &vectors;
    let signs = low_rank::fix_signs(&mut a_t);
    let mut b_t = vectors.tr_mul(&m_t);
    for (index, (sign, value)) in signs.into_iter().zip(singular_values).enumerate() {
        b_t.row_mut(index).scale_mut(sign);
        if split == Split::Sqrt {
            let root = value.sqrt();
            a_t.column_mut(index).scale_mut(root);
            b_t.row_mut(index).scale_mut(if root > 0.0 { root.recip() } else { 0.0 });
        }
    }
    (a_t, b_t)
}
