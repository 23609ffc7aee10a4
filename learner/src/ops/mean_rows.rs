//! The mean of each sequence's rows: how a ragged batch of token states becomes one row of features an example.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::buffers::overwritten;
use super::storage::{dense, extents, is_fused, split_mut, tensor};

/// The mean over each sequence's rows of `x` `[T, d]`, `[E, d]`; `lengths` holds the `E` row counts, which sum to `T`.
///
/// # Panics
///
/// If `lengths` does not sum to `T`, or has a zero.
#[must_use]
pub fn mean_rows(x: Tensor<2>, lengths: &[usize]) -> Tensor<2> {
    assert_eq!(lengths.iter().sum::<usize>(), x.dims()[0], "sequence lengths must sum to the number of rows");
    assert!(lengths.iter().all(|&length| length > 0), "a sequence without rows has no mean");
    if !is_fused(&x) {
        return composite(&x, lengths);
    }
    let y = <Dispatch as MeanRowsOperation>::mean_rows(x.into_dispatch(), lengths.to_vec());
    Tensor::from_dispatch(y)
}

/// The same function in plain tensor operations.
fn composite(x: &Tensor<2>, lengths: &[usize]) -> Tensor<2> {
    let width = x.dims()[1];
    let mut start = 0;
    // Sequences as long as their neighbours are one sum.
    let means = lengths.chunk_by(|left, right| left == right).map(|alike| {
        let (count, length) = (alike.len(), alike[0]);
        let rows = x.clone().narrow(0, start, count * length).reshape([count, length, width]);
        start += count * length;
        rows.mean_dim(1).reshape([count, width])
    });
    Tensor::cat(means.collect(), 0)
}

#[backend_extension(Flex, Autodiff)]
trait MeanRowsOperation: Backend {
    fn mean_rows(x: FloatTensor<Self>, lengths: Vec<usize>) -> FloatTensor<Self>;
}

impl MeanRowsOperation for Flex {
    fn mean_rows(x: FlexTensor, lengths: Vec<usize>) -> FlexTensor {
        forward(&dense(x), &lengths)
    }
}

impl<C: CheckpointStrategy> MeanRowsOperation for Autodiff<Flex, C> {
    fn mean_rows(x: FloatTensor<Self>, lengths: Vec<usize>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = forward(&dense(x), &lengths);
        match MeanRowsBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(lengths, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct MeanRowsBackward;

impl Backward<Flex, 1> for MeanRowsBackward {
    /// Row counts of the sequences.
    type State = Vec<usize>;

    fn backward(self, ops: Ops<Vec<usize>, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = dense(grads.consume::<Flex>(&ops.node));
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, backward(&grad, &ops.state));
        }
    }
}

fn forward(x: &FlexTensor, lengths: &[usize]) -> FlexTensor {
    let [_, width] = extents(x);
    let mut means = vec![0.0; lengths.len() * width];
    let sequences = pieces(x.storage(), lengths, width);
    means.par_chunks_mut(width.max(1)).zip(sequences).for_each(|(mean, rows)| {
        for row in rows.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
        }
        let factor = width as f32 / rows.len() as f32;
        for mean in mean {
            *mean *= factor;
        }
    });
    tensor(means, [lengths.len(), width])
}

/// Every row of a sequence gets the sequence's gradient over its length.
fn backward(grad: &FlexTensor, lengths: &[usize]) -> FlexTensor {
    let [_, width] = extents(grad);
    let tokens = lengths.iter().sum();
    let mut grad_x = overwritten(tokens * width);
    let sequences = split_mut(&mut grad_x, lengths.iter().map(|length| length * width));
    let grads = grad.storage::<f32>().par_chunks_exact(width.max(1));
    sequences.into_par_iter().zip(grads).for_each(|(rows, grad)| {
        let factor = width as f32 / rows.len() as f32;
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(grad).for_each(|(value, grad)| *value = grad * factor);
        }
    });
    tensor(grad_x, [tokens, width])
}

/// The sequences' rows.
fn pieces<'a>(values: &'a [f32], lengths: &[usize], width: usize) -> Vec<&'a [f32]> {
    let mut rest = values;
    let piece = |length: &usize| {
        let (piece, later) = rest.split_at(length * width);
        rest = later;
        piece
    };
    lengths.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, bits, constant, leaf, on_threads, weighted_sum};
    use super::*;

    #[test]
    fn means_and_their_gradients_agree_with_the_composite_form() {
        // Sums of at most 60 numbers below one.
        let tolerance = 60.0 * f32::EPSILON;
        for lengths in [&[1][..], &[3, 1, 60, 2], &[4, 4, 1, 4]] {
            let shape = [lengths.iter().sum(), 37];
            let (x, reference) = (leaf(shape, 1), leaf(shape, 1));
            let (y, expected) = (mean_rows(x.clone(), lengths), composite(&reference, lengths));
            assert_close(y.clone(), expected.clone(), tolerance);
            let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
            assert_close(x.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), tolerance);
        }
    }

    #[test]
    fn a_mean_is_the_same_bit_for_bit_beside_others_and_on_any_number_of_threads() {
        let x = constant([30, 8], 2);
        let whole = on_threads(2, || bits(mean_rows(x.clone(), &[11, 19])));
        let alone = on_threads(1, || bits(mean_rows(x.slice([11..30, 0..8]), &[19])));
        assert_eq!(whole[8..], alone);
    }
}
