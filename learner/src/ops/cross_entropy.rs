//! Cross-entropy of rows of logits, which for a language model are as many as its tokens are wide.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::elementwise::{exp, largest, sum_exp};
use super::storage::{dense, extents, is_fused, tensor};

/// Elements of one task, about.
const BLOCK: usize = 16 * 1024;

/// `-log softmax(logits)[label]` of each row, `[T]`; `labels` are `T` columns.
///
/// # Panics
///
/// If there is not one label for each row, or one is beyond the columns.
#[must_use]
pub fn cross_entropy(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let [rows, columns] = logits.dims();
    assert_eq!(rows, labels.len(), "every row needs its label");
    assert!(labels.iter().all(|&label| (label as usize) < columns), "a label is beyond the {columns} columns");
    if !is_fused(&logits) {
        return composite(logits, labels);
    }
    let losses = <Dispatch as CrossEntropyOperation>::cross_entropy(logits.into_dispatch(), labels.to_vec());
    Tensor::from_dispatch(losses)
}

/// The same function in plain tensor operations.
fn composite(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let device = logits.device();
    let labels: Vec<i32> = labels.iter().map(|&label| label.cast_signed()).collect();
    let count = labels.len();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [count, 1]), &device);
    log_softmax(logits, 1).gather(1, labels).neg().reshape([count])
}

#[backend_extension(Flex, Autodiff)]
trait CrossEntropyOperation: Backend {
    fn cross_entropy(logits: FloatTensor<Self>, labels: Vec<u32>) -> FloatTensor<Self>;
}

impl CrossEntropyOperation for Flex {
    fn cross_entropy(logits: FlexTensor, labels: Vec<u32>) -> FlexTensor {
        forward(&dense(logits), &labels).0
    }
}

impl<C: CheckpointStrategy> CrossEntropyOperation for Autodiff<Flex, C> {
    fn cross_entropy(logits: FloatTensor<Self>, labels: Vec<u32>) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let logits = dense(logits);
        let (losses, denominators) = forward(&logits, &labels);
        match CrossEntropyBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Saved { logits, labels, denominators }, losses),
            OpsKind::UnTracked(prepared) => prepared.finish(losses),
        }
    }
}

/// What the backward pass needs of the forward one.
#[derive(Debug, Clone)]
struct Saved {
    logits: FlexTensor,
    labels: Vec<u32>,
    /// The logarithm of each softmax's denominator.
    denominators: Vec<f32>,
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl Backward<Flex, 1> for CrossEntropyBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = dense(grads.consume::<Flex>(&ops.node));
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, backward(ops.state, &grad));
        }
    }
}

/// Rows of one task.
fn rows_each(columns: usize) -> usize {
    (BLOCK / columns.max(1)).max(1)
}

fn forward(logits: &FlexTensor, labels: &[u32]) -> (FlexTensor, Vec<f32>) {
    let [rows, columns] = extents(logits);
    let (mut losses, mut denominators) = (vec![0.0; rows], vec![0.0; rows]);
    let each = rows_each(columns);
    let blocks = logits.storage::<f32>().par_chunks((each * columns).max(1)).zip(labels.par_chunks(each));
    let outputs = losses.par_chunks_mut(each).zip(denominators.par_chunks_mut(each));
    outputs.zip(blocks).for_each(|((losses, denominators), (logits, labels))| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let outputs = losses.iter_mut().zip(denominators);
                for ((loss, denominator), (row, label)) in outputs.zip(logits.chunks_exact(columns).zip(labels)) {
                    let top = largest(row);
                    *denominator = top + sum_exp(row, top).ln();
                    *loss = *denominator - row[*label as usize];
                }
            },
        );
    });
    (tensor(losses, [rows]), denominators)
}

/// `(softmax(logits) - one_hot(label)) · grad` row by row, in the logits' own memory where nobody else holds it.
fn backward(saved: Saved, grad: &FlexTensor) -> FlexTensor {
    let Saved { mut logits, labels, denominators } = saved;
    let [_, columns] = extents::<2>(&logits);
    let each = rows_each(columns);
    let scales = grad.storage::<f32>().par_chunks(each).zip(denominators.par_chunks(each));
    let blocks = logits.storage_mut::<f32>().par_chunks_mut((each * columns).max(1)).zip(labels.par_chunks(each));
    blocks.zip(scales).for_each(|((logits, labels), (grads, denominators))| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = logits.chunks_exact_mut(columns).zip(labels);
                for ((row, label), (grad, denominator)) in rows.zip(grads.iter().zip(denominators)) {
                    for value in row.iter_mut() {
                        *value = exp(*value - denominator) * grad;
                    }
                    row[*label as usize] -= grad;
                }
            },
        );
    });
    logits
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, bits, constant, leaf, on_threads, values};
    use super::*;

    fn labels(rows: usize, columns: usize) -> Vec<u32> {
        (0..rows).map(|row| (row * 7 % columns) as u32).collect()
    }

    #[test]
    fn losses_and_their_gradient_agree_with_the_composite_form() {
        for [rows, columns] in [[1, 1], [3, 2], [5, 17], [40, 3000]] {
            let (x, reference, labels) = (leaf([rows, columns], 1), leaf([rows, columns], 1), labels(rows, columns));
            let y = cross_entropy(x.clone() * 20.0, &labels);
            let expected = composite(reference.clone() * 20.0, &labels);
            // Losses up to 40, of which each rounding is 2^-19, and sums of up to 3000 exponentials in two orders.
            assert_close(y.clone(), expected.clone(), 3e-5);
            let weights = constant([rows], 9);
            let grads = (y * weights.clone()).sum().backward();
            let expected = (expected * weights).sum().backward();
            // Twenty times a probability that is as exact as the logarithm of the denominator.
            assert_close(x.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), 20.0 * 3e-5);
        }
    }

    #[test]
    fn logits_beyond_the_range_of_the_exponential_have_finite_losses() {
        let logits = Tensor::<2>::from_data([[1e4_f32, -1e4], [-1e4, -1e4]], &burn::tensor::Device::flex());
        let losses = cross_entropy(logits, &[1, 0]);
        assert_close(losses, Tensor::from_data([2e4_f32, 2.0_f32.ln()], &burn::tensor::Device::flex()), 1e-6);
    }

    #[test]
    fn a_logit_that_is_not_a_number_makes_a_loss_that_is_none() {
        let logits = Tensor::<2>::from_data([[0.0, f32::NAN, 1.0]], &burn::tensor::Device::flex());
        assert!(values(cross_entropy(logits, &[0]))[0].is_nan());
    }

    #[test]
    fn a_row_is_the_same_bit_for_bit_beside_others_and_on_any_number_of_threads() {
        let run = |rows: std::ops::Range<usize>| {
            let x = leaf([60, 900], 1);
            let losses = cross_entropy(x.clone().narrow(0, rows.start, rows.len()), &labels(60, 900)[rows.clone()]);
            let grads = losses.clone().sum().backward();
            (bits(losses), bits(x.grad(&grads).unwrap().narrow(0, rows.start, rows.len())))
        };
        let whole = on_threads(2, || run(0..60));
        let part = on_threads(1, || run(37..41));
        assert_eq!((&whole.0[37..41], &whole.1[37 * 900..41 * 900]), (&part.0[..], &part.1[..]));
    }
}
