//! Rotary position embedding of queries and keys.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::storage::{dense, extents, is_fused};

/// Rows of one task.
const ROWS: usize = 32;

/// Turns each head's pairs of values by the angles of their row (arXiv 2104.09864, equation 34), where a pair is a value of
/// the first half of the head's columns and its counterpart of the second half, as `transformers` has them.
///
/// `x` is `[T, heads · d_head]`; `cosines` and `sines` are `[T, d_head / 2]`, constants.
///
/// # Panics
///
/// If there are not as many rows of angles as of `x`, or their columns are not half of a whole number of heads.
#[must_use]
pub fn rotary(x: Tensor<2>, cosines: Tensor<2>, sines: Tensor<2>) -> Tensor<2> {
    let ([rows, width], [angles, half]) = (x.dims(), cosines.dims());
    assert_eq!(cosines.dims(), sines.dims(), "every angle has a cosine and a sine");
    assert_eq!(rows, angles, "every row has its angles");
    assert!(half > 0 && width.is_multiple_of(2 * half), "heads of {} columns do not divide {width}", 2 * half);
    if !is_fused(&x) {
        return composite(x, cosines, sines);
    }
    let (x, cosines, sines) = (x.into_dispatch(), cosines.into_dispatch(), sines.into_dispatch());
    Tensor::from_dispatch(<Dispatch as RotaryOperation>::rotary(x, cosines, sines))
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

#[backend_extension(Flex, Autodiff)]
trait RotaryOperation: Backend {
    fn rotary(x: FloatTensor<Self>, cosines: FloatTensor<Self>, sines: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl RotaryOperation for Flex {
    fn rotary(x: FlexTensor, cosines: FlexTensor, sines: FlexTensor) -> FlexTensor {
        turn(dense(x), &[dense(cosines), dense(sines)], 1.0)
    }
}

impl<C: CheckpointStrategy> RotaryOperation for Autodiff<Flex, C> {
    fn rotary(x: FloatTensor<Self>, cosines: FloatTensor<Self>, sines: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let angles = [cosines, sines].map(|part| dense(part.into_primitive()));
        let y = turn(dense(x), &angles, 1.0);
        match RotaryBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(angles, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct RotaryBackward;

impl Backward<Flex, 1> for RotaryBackward {
    /// Cosines and sines.
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<[FlexTensor; 2], 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, turn(dense(grad), &ops.state, -1.0));
        }
    }
}

/// Turns by the angles, or back with `direction` -1, in `x`'s own memory where nobody else holds it.
fn turn(mut x: FlexTensor, [cosines, sines]: &[FlexTensor; 2], direction: f32) -> FlexTensor {
    let ([_, width], [_, half]) = (extents::<2>(&x), extents::<2>(cosines));
    let (block, part) = ((ROWS * width).max(1), ROWS * half);
    let angles = cosines.storage::<f32>().par_chunks(part).zip(sines.storage::<f32>().par_chunks(part));
    x.storage_mut::<f32>().par_chunks_mut(block).zip(angles).for_each(|(rows, (cosines, sines))| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let angles = cosines.chunks_exact(half).zip(sines.chunks_exact(half));
                for (row, (cosines, sines)) in rows.chunks_exact_mut(width).zip(angles) {
                    for head in row.chunks_exact_mut(2 * half) {
                        turn_head(head, cosines, sines, direction);
                    }
                }
            },
        );
    });
    x
}

#[inline(always)]
fn turn_head(head: &mut [f32], cosines: &[f32], sines: &[f32], direction: f32) {
    let (left, right) = head.split_at_mut(cosines.len());
    for ((left, right), (cosine, sine)) in left.iter_mut().zip(right).zip(cosines.iter().zip(sines)) {
        let sine = direction * sine;
        (*left, *right) = (*left * cosine - *right * sine, *right * cosine + *left * sine);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, bits, constant, leaf, on_threads, weighted_sum};
    use super::*;

    /// Two products of numbers below one and their sum, in both directions.
    const TOLERANCE: f32 = 4.0 * f32::EPSILON;

    #[test]
    fn rotary_and_its_gradient_agree_with_the_composite_form() {
        for (rows, heads, half) in [(1, 1, 1), (5, 3, 4), (70, 2, 33)] {
            let shape = [rows, heads * 2 * half];
            let (x, reference) = (leaf(shape, 1), leaf(shape, 1));
            let (cosines, sines) = (constant([rows, half], 2), constant([rows, half], 3));
            let y = rotary(x.clone() * 1.0, cosines.clone(), sines.clone());
            let expected = composite(reference.clone() * 1.0, cosines, sines);
            assert_close(y.clone(), expected.clone(), TOLERANCE);
            let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
            assert_close(x.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), TOLERANCE);
        }
    }

    #[test]
    fn an_input_that_others_hold_stays_as_it_was() {
        let x = constant([5, 8], 1);
        let before = bits(x.clone());
        let _ = rotary(x.clone(), constant([5, 2], 2), constant([5, 2], 3));
        assert_eq!(bits(x), before);
    }

    #[test]
    fn rotary_is_the_same_bit_for_bit_on_one_and_two_threads() {
        let run = || {
            let x = leaf([90, 24], 1);
            let y = rotary(x.clone(), constant([90, 6], 2), constant([90, 6], 3));
            let grads = weighted_sum(y.clone()).backward();
            (bits(y), bits(x.grad(&grads).unwrap()))
        };
        assert_eq!(on_threads(1, run), on_threads(2, run));
    }
}
