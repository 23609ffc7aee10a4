//! `FlexLoRA`: the server averages the products themselves and gives the best factors of the same rank back.
//!
//! "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources" (arXiv 2402.11505),
//! section 3: `dW = sum p_k B_k A_k`, `U S Vᵀ = SVD(dW)`, `B <- U_r S_r`, `A <- Vᵀ_r`, for clients of one rank. The scale
//! `s` is common to all and stays outside. No rank-`r` adapter is nearer to the mean of the products (Eckart and Young
//! 1936); what is lost is the rest of the spectrum.
//!
//! The dense product is never formed: with the `R = K r` rows of all `A_k` below each other in `A` and their `B_k`, times
//! their shares, beside each other in `B`, a thin QR `Aᵀ = Q T` leaves `dW = (B Tᵀ) Qᵀ`, of which the small side is
//! `min(d_in, R)` wide. A step costs `O(R² (d_in + d_out) + min(d_in, R)³)`.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId};
use serde::{Deserialize, Serialize};

use super::{MATRICES, Method};
use crate::{
    AggregationError, Contribution, Strategy,
    low_rank::{self, Matrix, Rotation},
    parameters,
};

const NAME: &str = "flexlora";

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: NAME,
    title: "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources",
    arxiv: "2402.11505",
    summary: "average the products, keep the best factors of the same rank by an SVD",
    kinds: MATRICES,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: false,
    build: |table| Ok(Box::new(parameters::parse::<FlexLora>(NAME, table)?)),
};

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FlexLora {
    head: HeadPolicy,
}

impl Default for FlexLora {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared }
    }
}

impl Strategy for FlexLora {
    fn needs_only_mean(&self) -> bool {
        false
    }

    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: self.head }
    }

    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        let [rank, width] = [previous.a.shape()[0], previous.a.shape()[1]];
        if rank > width {
            return Err(AggregationError::RankTooLarge { rank, width });
        }
        let (a_t, b_t) = truncate(stacked(contributions)?, rank);
        Ok(LoraFactors { a: low_rank::to_tensor(&a_t)?, b: low_rank::to_tensor(&b_t)? })
    }
}

/// All `A_kᵀ` beside each other, `d_in x R`, and all `p_k B_kᵀ` below each other, `R x d_out`, in client order.
fn stacked(contributions: &[Contribution<'_>]) -> Result<(Matrix, Matrix), AggregationError> {
    let (mut a_t, mut b_t) = (Vec::new(), Vec::new());
    for one in contributions {
        a_t.push(low_rank::transposed(&one.a)?);
        b_t.push(low_rank::transposed(&one.b)? * one.share);
    }
    Ok((low_rank::beside(&a_t), low_rank::below(&b_t)))
}

/// The best factors of this rank of `(A_t B_t)ᵀ`, transposed: `d_in x rank` with orthonormal columns, and `rank x d_out`.
fn truncate((a_t, b_t): (Matrix, Matrix), rank: usize) -> (Matrix, Matrix) {
    let (q, t) = low_rank::thin_qr(a_t);
    let m_t = t * b_t;
    let Rotation { vectors, .. } = low_rank::orthogonalise_columns(low_rank::thin_r(m_t.transpose()));
    // As many columns as `Q` has, which are at least `rank`: there is a client, and `rank` is at most `d_in`.
    let vectors = vectors.columns(0, rank);
    let mut a_t = q * vectors;
    let signs = low_rank::fix_signs(&mut a_t);
    let mut b_t = vectors.tr_mul(&m_t);
    for (index, sign) in signs.into_iter().enumerate() {
        b_t.row_mut(index).scale_mut(sign);
    }
    (a_t, b_t)
}
