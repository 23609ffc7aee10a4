//! Layer normalisation with frozen scale and shift, alone or after a residual addition.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::buffers::{overwritten, recycle};
use super::elementwise::{dot, sum};
use super::storage::{dense, extents, is_fused, tensor};

/// Rows of one task.
const ROWS: usize = 32;

/// Layer normalisation of each row of `x + residual` (Ba et al. 2016, equation 4) with frozen `gamma` and `beta`
/// `[d]`. `epsilon` is added to the variance.
#[must_use]
pub fn add_layer_norm(x: Tensor<2>, residual: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !is_fused(&x) {
        return composite(x + residual, gamma.detach(), beta.detach(), epsilon);
    }
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let (x, residual) = (x.into_dispatch(), residual.into_dispatch());
    let y = <Dispatch as LayerNormOperation>::add_layer_norm(x, residual, gamma, beta, epsilon as f32);
    Tensor::from_dispatch(y)
}

/// Layer normalisation of each row of `x` with frozen `gamma` and `beta` `[d]`.
#[must_use]
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !is_fused(&x) {
        return composite(x, gamma.detach(), beta.detach(), epsilon);
    }
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let y = <Dispatch as LayerNormOperation>::layer_norm(x.into_dispatch(), gamma, beta, epsilon as f32);
    Tensor::from_dispatch(y)
}

/// The same function in plain tensor operations, with gradients for `gamma` and `beta` too where they are tracked.
pub(crate) fn composite(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    let normal = centred / (variance + epsilon).sqrt();
    normal * gamma.unsqueeze() + beta.unsqueeze()
}

#[backend_extension(Flex, Autodiff)]
trait LayerNormOperation: Backend {
    fn add_layer_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

impl LayerNormOperation for Flex {
    fn add_layer_norm(
        x: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f32,
    ) -> FlexTensor {
        forward(x, Some(residual), &dense(gamma), &dense(beta), epsilon).0
    }

    fn layer_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, epsilon: f32) -> FlexTensor {
        forward(x, None, &dense(gamma), &dense(beta), epsilon).0
    }
}

impl<C: CheckpointStrategy> LayerNormOperation for Autodiff<Flex, C> {
    fn add_layer_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (gamma, beta) = (dense(gamma.into_primitive()), dense(beta.into_primitive()));
        let ((x, x_node), (residual, residual_node)) = (x.into_parts(), residual.into_parts());
        let (y, saved) = forward(x, Some(residual), &gamma, &beta, epsilon);
        match NormBackward.prepare::<C>([x_node, residual_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((saved, gamma), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (gamma, beta) = (dense(gamma.into_primitive()), dense(beta.into_primitive()));
        let (x, node) = x.into_parts();
        let (y, saved) = forward(x, None, &gamma, &beta, epsilon);
        match NormBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((saved, gamma), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

/// What the backward pass needs of the forward one.
#[derive(Debug, Clone)]
struct Normalised {
    /// The rows with mean 0 and variance 1, `[T, d]`.
    rows: FlexTensor,
    /// What each row was multiplied by, `[T]`.
    inverse_deviations: Vec<f32>,
}

#[derive(Debug)]
struct NormBackward;

impl<const N: usize> Backward<Flex, N> for NormBackward {
    type State = (Normalised, FlexTensor);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let (saved, gamma) = ops.state;
        let grad = backward(dense(grad), &saved, &gamma);
        recycle(saved.rows);
        for parent in ops.parents.into_iter().flatten() {
            grads.register::<Flex>(parent.id, grad.clone());
        }
    }
}

/// The output, and the normalised rows in `x`'s own memory where nobody else holds it.
fn forward(
    x: FlexTensor,
    residual: Option<FlexTensor>,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    epsilon: f32,
) -> (FlexTensor, Normalised) {
    let mut x = dense(x);
    let residual = residual.map(dense);
    let [tokens, width] = extents(&x);
    let (gamma, beta) = (gamma.storage::<f32>(), beta.storage::<f32>());
    let mut y = overwritten(tokens * width);
    let mut inverse_deviations = vec![0.0; tokens];
    let block = (ROWS * width).max(1);
    let rows = x.storage_mut::<f32>().par_chunks_mut(block).zip(y.par_chunks_mut(block));
    rows.zip(inverse_deviations.par_chunks_mut(ROWS)).enumerate().for_each(|(index, ((x, y), inverse_deviations))| {
        let residual = residual.as_ref().map(|residual| &residual.storage::<f32>()[index * block..][..x.len()]);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                if let Some(residual) = residual {
                    for (x, residual) in x.iter_mut().zip(residual) {
                        *x += residual;
                    }
                }
                let rows = x.chunks_exact_mut(width).zip(y.chunks_exact_mut(width));
                for ((x, y), inverse_deviation) in rows.zip(inverse_deviations) {
                    *inverse_deviation = normalise(x, epsilon);
                    for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                        *y = *x * gamma + beta;
                    }
                }
            },
        );
    });
    residual.into_iter().for_each(recycle);
    (tensor(y, [tokens, width]), Normalised { rows: x, inverse_deviations })
}

/// Shifts and scales `row` to mean 0 and variance 1; returns the factor.
#[inline(always)]
fn normalise(row: &mut [f32], epsilon: f32) -> f32 {
    let count = row.len() as f32;
    let mean = sum(row) / count;
    for value in row.iter_mut() {
        *value -= mean;
    }
    let inverse_deviation = 1.0 / (dot(row, row) / count + epsilon).sqrt();
    for value in row.iter_mut() {
        *value *= inverse_deviation;
    }
    inverse_deviation
}

/// With `g = grad ∘ γ` and normalised rows `n`: `(g − mean(g) − n · mean(g ∘ n)) / deviation`, in `grad`'s own memory
/// where nobody else holds it.
fn backward(mut grad: FlexTensor, saved: &Normalised, gamma: &FlexTensor) -> FlexTensor {
    let [_, width] = extents::<2>(&grad);
    let (rows, gamma) = (saved.rows.storage::<f32>(), gamma.storage::<f32>());
    let block = (ROWS * width).max(1);
    let blocks = grad.storage_mut::<f32>().par_chunks_mut(block).zip(rows.par_chunks(block));
    blocks.zip(saved.inverse_deviations.par_chunks(ROWS)).for_each(|((grad, rows), inverse_deviations)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = grad.chunks_exact_mut(width).zip(rows.chunks_exact(width));
                for ((grad, row), inverse_deviation) in rows.zip(inverse_deviations) {
                    backward_row(grad, row, gamma, *inverse_deviation);
                }
            },
        );
    });
    grad
}

#[inline(always)]
fn backward_row(grad: &mut [f32], row: &[f32], gamma: &[f32], inverse_deviation: f32) {
    let count = grad.len() as f32;
    for (grad, gamma) in grad.iter_mut().zip(gamma) {
        *grad *= gamma;
    }
    let mean = sum(grad) / count;
    let slope = dot(grad, row) / count;
    for (grad, value) in grad.iter_mut().zip(row) {
        *grad = (*grad - mean - value * slope) * inverse_deviation;
    }
}

#[cfg(test)]
mod tests;
