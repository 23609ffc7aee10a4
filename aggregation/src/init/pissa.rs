//! Top singular directions of a frozen weight as first rows.

use fedlora_adapter::{LoraFactors, ModuleSpec, Tensor, leading_svd};

use super::refuse_wide;
use crate::AggregationError;

/// `sqrt(S_r) V_rᵀ` of the frozen weight, `r x d_in`; of each row the entry of largest magnitude is positive.
///
/// # Errors
/// A weight of another shape than the module; a rank above its smaller width.
pub(super) fn principal_rows(weight: &Tensor, module: &ModuleSpec, rank: usize) -> Result<Tensor, AggregationError> {
    let expected = vec![module.d_out, module.d_in];
    if weight.shape() != expected {
        return Err(AggregationError::WrongWeightShape { expected, found: weight.shape().to_vec() });
    }
    refuse_wide(rank, module.d_in.min(module.d_out))?;
    let LoraFactors { mut a, b: left } = leading_svd(weight, module, rank)?;
    for (k, row) in a.values_mut().chunks_exact_mut(module.d_in).enumerate() {
        let squares = left.values().iter().skip(k).step_by(rank).map(|&value| f64::from(value).powi(2));
        let root = squares.sum::<f64>().sqrt().sqrt();
        for value in row {
            *value = (f64::from(*value) * root) as f32;
        }
    }
    Ok(a)
}
