//! First factors that are drawn, and need no frozen weight.

use fedlora_adapter::{ModuleSpec, Tensor};
use rand::Rng;

use super::{First, gaussian, refuse_wide};
use crate::{AggregationError, low_rank};

/// Deviation of the entries of both factors in [`orthogonal`], PEFT's number.
const DEVIATION: f64 = 0.1;

/// `A` with entries of deviation `1/r`.
pub(super) fn normal(rank: usize, width: usize, rng: &mut impl Rng) -> Result<Tensor, AggregationError> {
    Ok(low_rank::to_tensor(&(gaussian(width, rank, rng) / rank as f64))?)
}

/// `A` with orthonormal rows, uniformly distributed.
pub(super) fn orthonormal_rows(rank: usize, width: usize, rng: &mut impl Rng) -> Result<Tensor, AggregationError> {
    refuse_wide(rank, width)?;
    // With the signs fixed Q is unique up to rounding, whichever algorithm finds it.
    let (mut q, _) = low_rank::thin_qr(gaussian(width, rank, rng));
    low_rank::fix_signs(&mut q);
    Ok(low_rank::to_tensor(&q)?)
}

/// `A = 0.1·(G_1 Q_1)ᵀ` and `B = 0.1·G_2 Q_2` with `G` normal, `d x r/2`, and `Q_1`, `Q_2` the rows of one orthogonal
/// `r x r` matrix in turn: PEFT's `orthogonal_init`.
pub(super) fn orthogonal(rank: usize, module: &ModuleSpec, rng: &mut impl Rng) -> Result<First, AggregationError> {
    if !rank.is_multiple_of(2) {
        return Err(AggregationError::OddRank { rank });
    }
    let (mut q, _) = low_rank::thin_qr(gaussian(rank, rank, rng));
    low_rank::fix_signs(&mut q);
    let every_second = |start| q.select_rows((start..rank).step_by(2).collect::<Vec<_>>().iter());
    // Column-major d_in x r is A's row-major r x d_in; B is stored d_out x r, so its transpose is what is stored here.
    let a = gaussian(module.d_in, rank / 2, rng) * every_second(0) * DEVIATION;
    let b = gaussian(module.d_out, rank / 2, rng) * every_second(1) * DEVIATION;
    Ok(First { a: low_rank::to_tensor(&a)?, b: Some(low_rank::to_tensor(&b.transpose())?) })
}
