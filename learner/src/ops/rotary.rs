//! Rotary position embedding of queries and keys.

use burn::tensor::Tensor;

/// Turns each head's pairs of values by the angles of their row (arXiv 2104.09864, equation 34), where a pair is a value of
/// the first half of the head's columns and its counterpart of the second half, as `transformers` has them.
///
/// `x` is `[T, heads · d_head]`; `cosines` and `sines` are `[T, d_head / 2]`, constants.
///
/// # Panics
///
/// If the angles' columns are not half of a whole number of heads.
#[must_use]
pub fn rotary(x: Tensor<2>, cosines: Tensor<2>, sines: Tensor<2>) -> Tensor<2> {
    composite(x, cosines, sines)
}

/// The same function in plain tensor operations.
fn composite(x: Tensor<2>, cosines: Tensor<2>, sines: Tensor<2>) -> Tensor<2> {
    let ([rows, width], half) = (x.dims(), cosines.dims()[1]);
    let x = x.reshape([rows, width / (2 * half), 2 * half]);
    let (left, right) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    let (cosines, sines) = (cosines.unsqueeze_dim::<3>(1), sines.unsqueeze_dim::<3>(1));
    let turned_left = left.clone() * cosines.clone() - right.clone() * sines.clone();
    let turned_right = right * cosines + left * sines;
    Tensor::cat(vec![turned_left, turned_right], 2).reshape([rows, width])
}
