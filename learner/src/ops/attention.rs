//! Softmax attention inside each sequence of a ragged batch.

use burn::tensor::{Tensor, activation};

/// Bidirectional attention, `softmax(q kᵀ / √d_head) v`, for every sequence and head.
///
/// `q`, `k` and `v` are `[T, d]`: the tokens of all sequences, one after the other, with the heads
/// side by side in the columns. `lengths` holds the token count of each sequence.
///
/// # Panics
///
/// If `lengths` does not sum to `T`, or `heads` does not divide `d`.
#[must_use]
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: usize, lengths: &[usize]) -> Tensor<2> {
    composite(q, k, v, heads, lengths)
}

/// The same function in plain tensor operations.
pub(super) fn composite(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: usize, lengths: &[usize]) -> Tensor<2> {
    let width = q.dims()[1];
    let head_width = width / heads;
    let scale = 1.0 / (head_width as f64).sqrt();
    let mut start = 0;
    let mut outputs = Vec::with_capacity(lengths.len());
    for &length in lengths.iter().filter(|&&length| length > 0) {
        let rows = start..start + length;
        start += length;
        let split = |x: &Tensor<2>| {
            x.clone().slice([rows.clone(), 0..width]).reshape([length, heads, head_width]).swap_dims(0, 1)
        };
        let scores = split(&q).matmul(split(&k).swap_dims(1, 2)).mul_scalar(scale);
        let mixed = activation::softmax(scores, 2).matmul(split(&v));
        outputs.push(mixed.swap_dims(0, 1).reshape([length, width]));
    }
    Tensor::cat(outputs, 0)
}
