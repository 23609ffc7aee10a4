//! Root mean square normalisation with a frozen scale.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::buffers::overwritten;
use super::elementwise::dot;
use super::storage::{dense, extents, is_fused, tensor};

/// Rows of one task.
const ROWS: usize = 32;

/// Each row of `x` over its root mean square, times a frozen `gamma` `[d]` (arXiv 1910.07467, equation 4). `epsilon` is added
/// to the mean square.
#[must_use]
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !is_fused(&x) {
        return composite(x, gamma, epsilon);
    }
    let y = <Dispatch as RmsNormOperation>::rms_norm(x.into_dispatch(), gamma.into_dispatch(), epsilon as f32);
    Tensor::from_dispatch(y)
}

/// The same function in plain tensor operations.
fn composite(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + epsilon).sqrt();
    x / scale * gamma.detach().unsqueeze()
}

#[backend_extension(Flex, Autodiff)]
trait RmsNormOperation: Backend {
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;
}

impl RmsNormOperation for Flex {
    fn rms_norm(x: FlexTensor, gamma: FlexTensor, epsilon: f32) -> FlexTensor {
        forward(&dense(x), &dense(gamma), epsilon).0
    }
}

impl<C: CheckpointStrategy> RmsNormOperation for Autodiff<Flex, C> {
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let ((x, node), gamma) = (x.into_parts(), dense(gamma.into_primitive()));
        let x = dense(x);
        let (y, inverses) = forward(&x, &gamma, epsilon);
        match RmsNormBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Saved { x, gamma, inverses }, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

/// What the backward pass needs of the forward one.
#[derive(Debug, Clone)]
struct Saved {
    /// `[T, d]`; the residual path holds it too, so it is kept as it is.
    x: FlexTensor,
    gamma: FlexTensor,
    /// What each row was multiplied by, `[T]`.
    inverses: Vec<f32>,
}

#[derive(Debug)]
struct RmsNormBackward;

impl Backward<Flex, 1> for RmsNormBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, backward(dense(grad), &ops.state));
        }
    }
}

fn forward(x: &FlexTensor, gamma: &FlexTensor, epsilon: f32) -> (FlexTensor, Vec<f32>) {
    let [tokens, width] = extents(x);
    let (values, gamma) = (x.storage::<f32>(), gamma.storage::<f32>());
    let mut y = overwritten(tokens * width);
    let mut inverses = vec![0.0; tokens];
    let block = (ROWS * width).max(1);
    let blocks = y.par_chunks_mut(block).zip(values.par_chunks(block)).zip(inverses.par_chunks_mut(ROWS));
    blocks.for_each(|((y, x), inverses)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for ((y, x), inverse) in rows.zip(inverses) {
                    *inverse = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
                    for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
                        *y = x * *inverse * gamma;
                    }
                }
            },
        );
    });
    (tensor(y, [tokens, width]), inverses)
}

/// With `g = grad ∘ γ` and normalised rows `n`: `(g − n · mean(g ∘ n)) / rms`, in `grad`'s own memory where nobody else
/// holds it.
fn backward(mut grad: FlexTensor, saved: &Saved) -> FlexTensor {
    let [_, width] = extents::<2>(&grad);
    let (values, gamma) = (saved.x.storage::<f32>(), saved.gamma.storage::<f32>());
    let block = (ROWS * width).max(1);
    let blocks = grad.storage_mut::<f32>().par_chunks_mut(block).zip(values.par_chunks(block));
    blocks.zip(saved.inverses.par_chunks(ROWS)).for_each(|((grad, x), inverses)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = grad.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for ((grad, x), inverse) in rows.zip(inverses) {
                    backward_row(grad, x, gamma, *inverse);
                }
            },
        );
    });
    grad
}

#[inline(always)]
fn backward_row(grad: &mut [f32], x: &[f32], gamma: &[f32], inverse: f32) {
    for (grad, gamma) in grad.iter_mut().zip(gamma) {
        *grad *= gamma;
    }
    let slope = dot(grad, x) * inverse * inverse / grad.len() as f32;
    for (grad, x) in grad.iter_mut().zip(x) {
        *grad = (*grad - x * slope) * inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, bits, constant, leaf, on_threads, weighted_sum};
    use super::*;

    #[test]
    fn rms_norm_and_its_gradient_agree_with_the_composite_form() {
        // Sums of at most 200 numbers below one, some roundings each.
        let tolerance = 200.0 * f32::EPSILON;
        for shape in [[1, 1], [3, 17], [70, 200]] {
            let (x, reference, gamma) = (leaf(shape, 1), leaf(shape, 1), constant([shape[1]], 2));
            let y = rms_norm(x.clone() * 3.0, gamma.clone(), 1e-3);
            let expected = composite(reference.clone() * 3.0, gamma, 1e-3);
            assert_close(y.clone(), expected.clone(), tolerance);
            let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
            assert_close(x.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), 10.0 * tolerance);
        }
    }

    #[test]
    fn the_input_stays_as_it_was() {
        let x = constant([5, 8], 1);
        let before = bits(x.clone());
        let _ = rms_norm(x.clone(), constant([8], 2), 1e-6);
        assert_eq!(bits(x), before);
    }

    #[test]
    fn rms_norm_is_the_same_bit_for_bit_on_one_and_two_threads() {
        let run = || {
            let x = leaf([90, 40], 1);
            let y = rms_norm(x.clone(), constant([40], 2), 1e-6);
            let grads = weighted_sum(y.clone()).backward();
            (bits(y), bits(x.grad(&grads).unwrap()))
        };
        assert_eq!(on_threads(1, run), on_threads(2, run));
    }
}
