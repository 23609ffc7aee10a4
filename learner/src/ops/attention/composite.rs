//! Attention in plain tensor operations, sequence by sequence.

use burn::tensor::{Bool, Tensor, TensorData, activation};

use super::pattern::{Mask, Pattern, Sequence};

/// What the fused operation computes, on any device.
pub(super) fn composite(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    pattern: Pattern,
    sequences: &[Sequence],
) -> Tensor<2> {
    let (mut first_query, mut first_key) = (0, 0);
    let mut outputs = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        first_key += sequence.gap;
        if sequence.queries == 0 {
            continue;
        }
        let keys = |x: &Tensor<2>| x.clone().narrow(0, first_key, sequence.keys);
        let queries = q.clone().narrow(0, first_query, sequence.queries);
        outputs.push(one(queries, keys(&k), keys(&v), pattern, *sequence));
        first_query += sequence.queries;
        first_key += sequence.keys;
    }
    Tensor::cat(outputs, 0)
}

/// One sequence; the query heads that share a key head are rows of one product.
fn one(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, pattern: Pattern, sequence: Sequence) -> Tensor<2> {
    let Sequence { queries, keys, .. } = sequence;
    let (shared, group) = (pattern.key_value_heads, pattern.group());
    let width = q.dims()[1];
    let head_width = width / pattern.heads;
    let scale = 1.0 / (head_width as f64).sqrt();
    let q = q.reshape([queries, shared, group, head_width]).permute([1, 2, 0, 3]);
    let q = q.reshape([shared, group * queries, head_width]);
    let split = |x: Tensor<2>| x.reshape([keys, shared, head_width]).swap_dims(0, 1);
    let scores = q.matmul(split(k).swap_dims(1, 2)).mul_scalar(scale);
    let scores = match hidden(pattern, sequence, &scores) {
        Some(hidden) => scores.mask_fill(hidden, f32::NEG_INFINITY),
        None => scores,
    };
    let mixed = activation::softmax(scores, 2).matmul(split(v));
    mixed.reshape([shared, group, queries, head_width]).permute([2, 0, 1, 3]).reshape([queries, width])
}

/// Which scores `[key heads, group · queries, keys]` are of keys that the query does not see.
fn hidden(pattern: Pattern, sequence: Sequence, scores: &Tensor<3>) -> Option<Tensor<3, Bool>> {
    if pattern.mask == Mask::Nothing {
        return None;
    }
    let rows = pattern.group() * sequence.queries;
    let row = |row: usize| {
        let visible = pattern.mask.visible(row % sequence.queries, sequence);
        (0..sequence.keys).map(move |key| !visible.contains(&key))
    };
    let values: Vec<bool> = (0..rows).flat_map(row).collect();
    let mask = TensorData::new(values, [1, rows, sequence.keys]);
    let mask = Tensor::<3, Bool>::from_data(mask, &scores.device().inner());
    Some(mask.expand(scores.dims()))
}
