//! Top singular directions of a large frozen weight, by randomised block power iteration.
//!
//! "Finding Structure with Randomness" (arXiv 0909.4061), algorithm 4.4, run on the right side: the block is somewhat
//! wider than the rank and is re-orthonormalised after every multiplication. `W0` is only ever multiplied with blocks.

use fedlora_adapter::{ModuleSpec, Tensor, TensorSource};
use rand::Rng;

use super::{gaussian, refuse_wide};
use crate::{
    AggregationError,
    low_rank::{self, Matrix, Rotation},
};

/// Columns of the block beyond the rank.
const OVERSAMPLING: usize = 8;
/// Multiplications by `W0ᵀ W0`; each multiplies the weight of direction `i` by the square of its singular value.
const ITERATIONS: usize = 12;

/// `sqrt(S_r) V_rᵀ` of the frozen weight, `r x d_in`; of each row the entry of largest magnitude is positive.
///
/// # Errors
/// A weight of another shape than the module; a rank above its smaller width.
pub(super) fn principal_rows(
    weight: &Tensor,
    module: &ModuleSpec,
    rank: usize,
    rng: &mut impl Rng,
) -> Result<Tensor, AggregationError> {
    let expected = vec![module.d_out, module.d_in];
    if weight.shape() != expected {
        return Err(AggregationError::WrongWeightShape { expected, found: weight.shape().to_vec() });
    }
    let narrow = module.d_in.min(module.d_out);
    refuse_wide(rank, narrow)?;
    let weight_t = low_rank::transposed(&TensorSource::Memory(weight.as_ref()))?;
    let mut block = orthonormal(gaussian(module.d_in, (rank + OVERSAMPLING).min(narrow), rng));
    for _ in 0..ITERATIONS {
        block = orthonormal(&weight_t * orthonormal(weight_t.tr_mul(&block)));
    }
    // W0 restricted to the block: its right singular vectors, rotated back, are those of W0.
    let Rotation { vectors, singular_values } =
        low_rank::orthogonalise_columns(low_rank::thin_r(weight_t.tr_mul(&block)));
    let mut rows_t = block * vectors.columns(0, rank);
    low_rank::fix_signs(&mut rows_t);
    rows_t.column_iter_mut().zip(singular_values).for_each(|(mut column, value)| column *= value.sqrt());
    Ok(low_rank::to_tensor(&rows_t)?)
}

fn orthonormal(matrix: Matrix) -> Matrix {
    low_rank::thin_qr(matrix).0
}
