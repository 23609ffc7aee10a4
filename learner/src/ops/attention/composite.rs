//! Attention in plain tensor operations.

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
    let mut outputs = Vec::new();
    // Sequences as long as their neighbours, and right behind them, go into one product.
    let alike = |left: &Sequence, right: &Sequence| *right == Sequence { gap: 0, ..*left };
    for alike in sequences.chunk_by(alike) {
        let (count, sequence) = (alike.len(), alike[0]);
        first_key += sequence.gap;
        if sequence.queries > 0 {
            let part = |x: &Tensor<2>| x.clone().narrow(0, first_key, count * sequence.keys);
            let q = q.clone().narrow(0, first_query, count * sequence.queries);
            outputs.push(attend(q, part(&k), part(&v), pattern, count, sequence));
        }
        first_query += count * sequence.queries;
        first_key += count * sequence.keys;
    }
    Tensor::cat(outputs, 0)
}

/// Some sequences of the same lengths; the query heads that share a key head are rows of one product.
fn attend(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, pattern: Pattern, count: usize, sequence: Sequence) -> Tensor<2> {
    let Sequence { queries, keys, .. } = sequence;
    let (shared, group) = (pattern.key_value_heads, pattern.group());
    let width = q.dims()[1];
    let head_width = width / pattern.heads;
    let scale = 1.0 / (head_width as f64).sqrt();
    let q = q.reshape([count, queries, shared, group, head_width]).permute([0, 2, 3, 1, 4]);
    let q = q.reshape([count * shared, group * queries, head_width]);
    let split = |x: Tensor<2>| {
        let x = x.reshape([count, keys, shared, head_width]).swap_dims(1, 2);
        x.reshape([count * shared, keys, head_width])
    };
    let scores = q.matmul(split(k).swap_dims(1, 2)).mul_scalar(scale);
    let scores = match hidden(pattern, sequence, &scores) {
        Some(hidden) => scores.mask_fill(hidden, f32::NEG_INFINITY),
        None => scores,
    };
    let mixed = activation::softmax(scores, 2).matmul(split(v));
    let mixed = mixed.reshape([count, shared, group, queries, head_width]).permute([0, 3, 1, 2, 4]);
    mixed.reshape([count * queries, width])
}

/// Which scores `[sequences · key heads, group · queries, keys]` are of keys that the query does not see.
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
