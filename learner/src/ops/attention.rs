//! Softmax attention inside each sequence of a ragged batch.

mod head;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use self::head::{Gradient, Head, Wanted};
use super::buffers::{overwritten, recycle};
use super::gemm::View;
use super::storage::{dense, extents, is_fused, split_mut, tensor};

/// Bidirectional attention, `softmax(q kᵀ / √d_head) v`, for every sequence and head (Vaswani et al. 2017,
/// equation 1).
///
/// `q`, `k` and `v` are `[T, d]`: the tokens of all sequences, one after the other, with the heads side by side in the
/// columns. `lengths` holds the token count of each sequence.
///
/// # Panics
///
/// If `lengths` does not sum to `T`, or `heads` does not divide `d`.
#[must_use]
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: usize, lengths: &[usize]) -> Tensor<2> {
    let [tokens, width] = q.dims();
    assert_eq!(lengths.iter().sum::<usize>(), tokens, "sequence lengths must sum to the number of tokens");
    assert!(width.is_multiple_of(heads), "{heads} heads do not divide the width {width}");
    if !is_fused(&q) {
        return composite(q, k, v, heads, lengths);
    }
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    Tensor::from_dispatch(<Dispatch as AttentionOperation>::attention(q, k, v, heads, lengths.to_vec()))
}

/// The same function in plain tensor operations.
fn composite(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: usize, lengths: &[usize]) -> Tensor<2> {
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

#[backend_extension(Flex, Autodiff)]
trait AttentionOperation: Backend {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
        lengths: Vec<usize>,
    ) -> FloatTensor<Self>;
}

impl AttentionOperation for Flex {
    fn attention(q: FlexTensor, k: FlexTensor, v: FlexTensor, heads: usize, lengths: Vec<usize>) -> FlexTensor {
        forward(Inputs { q: dense(q), k: dense(k), v: dense(v), heads, lengths }).0
    }
}

impl<C: CheckpointStrategy> AttentionOperation for Autodiff<Flex, C> {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
        lengths: Vec<usize>,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) = (q.into_parts(), k.into_parts(), v.into_parts());
        let (y, saved) = forward(Inputs { q: dense(q), k: dense(k), v: dense(v), heads, lengths });
        match AttentionBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(saved, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug, Clone)]
struct Inputs {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    heads: usize,
    lengths: Vec<usize>,
}

/// What the backward pass needs of the forward one: not the attention weights, which it recomputes.
#[derive(Debug, Clone)]
struct Saved {
    inputs: Inputs,
    /// The logarithm of each softmax's denominator: sequence by sequence, head by head, token by token.
    denominators: Vec<f32>,
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 3> for AttentionBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let wanted = Wanted { q: ops.parents[0].is_some(), k: ops.parents[1].is_some(), v: ops.parents[2].is_some() };
        let gradients = backward(&ops.state, &grad, wanted);
        let Inputs { q, k, v, .. } = ops.state.inputs;
        [grad, q, k, v].into_iter().for_each(recycle);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

impl Inputs {
    fn extents(&self) -> [usize; 2] {
        extents(&self.q)
    }

    /// Each sequence's first token and length.
    fn sequences(&self) -> Vec<(usize, usize)> {
        let starts = self.lengths.iter().scan(0, |next, length| {
            let start = *next;
            *next += length;
            Some(start)
        });
        starts.zip(self.lengths.iter().copied()).collect()
    }

    /// One head of the `length` tokens from `first` on.
    fn head(&self, first: usize, length: usize, head: usize) -> Head<'_> {
        let part = |x| part(x, first, length, head, self.heads);
        Head::new(part(&self.q), part(&self.k), part(&self.v))
    }
}

/// The columns of one head in the `length` rows from `first` on.
fn part(x: &FlexTensor, first: usize, length: usize, head: usize, heads: usize) -> View<'_> {
    let [tokens, width] = extents(x);
    View::dense(x.storage(), tokens, width).row_range(first, length).column_range(head * (width / heads), width / heads)
}

fn forward(inputs: Inputs) -> (FlexTensor, Saved) {
    let [tokens, width] = inputs.extents();
    let heads = inputs.heads;
    let mut y = overwritten(tokens * width);
    let mut denominators = vec![0.0; tokens * heads];
    let rows = split_mut(&mut y, inputs.lengths.iter().map(|length| length * width));
    let logs = split_mut(&mut denominators, inputs.lengths.iter().map(|length| length * heads));
    let sequences = inputs.sequences().into_par_iter().zip(rows).zip(logs);
    sequences.filter(|((sequence, _), _)| sequence.1 > 0).for_each(|(((first, length), y), logs)| {
        let outputs: Vec<_> = logs
            .par_chunks_mut(length)
            .enumerate()
            .map(|(head, logs)| inputs.head(first, length, head).forward(logs))
            .collect();
        interleave(&outputs, width, y);
    });
    (tensor(y, [tokens, width]), Saved { inputs, denominators })
}

/// The gradients with respect to the wanted ones of q, k and v.
fn backward(saved: &Saved, grad: &FlexTensor, wanted: Wanted) -> [Option<FlexTensor>; 3] {
    let inputs = &saved.inputs;
    let [tokens, width] = inputs.extents();
    let heads = inputs.heads;
    let buffer = |wanted: bool| overwritten(if wanted { tokens * width } else { 0 });
    let mut outputs = [buffer(wanted.q), buffer(wanted.k), buffer(wanted.v)];
    let [q, k, v] = outputs.each_mut().map(|output| {
        let rows = if output.is_empty() { 0 } else { width };
        split_mut(output, inputs.lengths.iter().map(|length| length * rows))
    });
    let sequences = inputs.sequences().into_par_iter().zip(q).zip(k).zip(v);
    sequences.filter(|(((sequence, _), _), _)| sequence.1 > 0).for_each(|((((first, length), q), k), v)| {
        let logs = &saved.denominators[first * heads..][..length * heads];
        let gradients: Vec<Gradient> = logs
            .par_chunks(length)
            .enumerate()
            .map(|(head, logs)| {
                let grad = part(grad, first, length, head, heads);
                inputs.head(first, length, head).backward(grad, logs, wanted)
            })
            .collect();
        for (out, pick) in [(q, 0), (k, 1), (v, 2)] {
            let heads: Vec<_> = gradients.iter().map(|gradient| gradient[pick].as_slice()).collect();
            interleave(&heads, width, out);
        }
    });
    let [q, k, v] = outputs.map(|output| (!output.is_empty()).then(|| tensor(output, [tokens, width])));
    [q, k, v]
}

/// Puts the heads' dense matrices side by side into the columns of `out`.
fn interleave<H: AsRef<[f32]>>(heads: &[H], width: usize, out: &mut [f32]) {
    let head_width = width / heads.len();
    for (head, values) in heads.iter().enumerate() {
        let rows = out.chunks_exact_mut(width).zip(values.as_ref().chunks_exact(head_width));
        for (out, values) in rows {
            out[head * head_width..][..head_width].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests;
