//! Softmax attention inside each sequence of a ragged batch.

mod composite;
mod head;
mod kernel;
mod pattern;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use self::composite::composite;
use self::head::Wanted;
use self::kernel::{Inputs, Saved, backward, forward};
use self::pattern::{Mask, Pattern, Sequence};
use super::buffers::recycle;
use super::storage::{dense, is_fused};

pub use pattern::{CachedKeys, CausalHeads};

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
    let pattern = Pattern { heads, key_value_heads: heads, mask: Mask::Nothing };
    attend(q, k, v, pattern, lengths.iter().map(|&length| Sequence::whole(length)).collect())
}

/// Attention in which a token sees itself and what precedes it, with groups of query heads that share a key and value head
/// (arXiv 2305.13245, section 2.2).
///
/// `q` is `[T, heads · d_head]`, `k` and `v` are `[T, key_value_heads · d_head]`. With a window a token sees that many of
/// the last tokens, itself included (arXiv 2310.06825, section 2).
///
/// # Panics
///
/// If `lengths` does not sum to `T`, or the numbers of heads and the widths do not go together.
#[must_use]
pub fn causal_attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: CausalHeads, lengths: &[usize]) -> Tensor<2> {
    attend(q, k, v, heads.into(), lengths.iter().map(|&length| Sequence::whole(length)).collect())
}

/// The same for the last tokens of some sequences, whose rows are in `q`, one sequence after the other; `k` and `v` hold the
/// whole sequences where `places` says, which ascend, and rows of nobody between them. Nothing can be differentiated
/// through it.
///
/// # Panics
///
/// If a sequence has more queries than keys or none, if places overlap, or if the numbers of heads and the widths do not go
/// together.
#[must_use]
pub fn causal_attention_of_cached(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: CausalHeads,
    places: &[CachedKeys],
) -> Tensor<2> {
    let sequences = Sequence::cached(places, k.dims()[0]);
    attend(q, k, v, heads.into(), sequences)
}

fn attend(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, pattern: Pattern, sequences: Vec<Sequence>) -> Tensor<2> {
    pattern.check(q.dims(), k.dims(), v.dims(), &sequences);
    if !is_fused(&q) {
        return composite(q, k, v, pattern, &sequences);
    }
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    Tensor::from_dispatch(<Dispatch as AttentionOperation>::attention(q, k, v, pattern, sequences))
}

#[backend_extension(Flex, Autodiff)]
trait AttentionOperation: Backend {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        pattern: Pattern,
        sequences: Vec<Sequence>,
    ) -> FloatTensor<Self>;
}

impl AttentionOperation for Flex {
    fn attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        pattern: Pattern,
        sequences: Vec<Sequence>,
    ) -> FlexTensor {
        forward(Inputs { q: dense(q), k: dense(k), v: dense(v), pattern, sequences }).0
    }
}

impl<C: CheckpointStrategy> AttentionOperation for Autodiff<Flex, C> {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        pattern: Pattern,
        sequences: Vec<Sequence>,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) = (q.into_parts(), k.into_parts(), v.into_parts());
        let (y, saved) = forward(Inputs { q: dense(q), k: dense(k), v: dense(v), pattern, sequences });
        match AttentionBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(saved, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
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

#[cfg(test)]
mod tests;
