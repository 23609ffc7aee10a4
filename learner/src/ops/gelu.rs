//! The exact Gaussian error linear unit, `x Φ(x)`.

use std::f64::consts::FRAC_1_SQRT_2;

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
use super::elementwise::normal;
use super::storage::{dense, extents, is_fused, tensor};

/// Elements of one task.
const BLOCK: usize = 16 * 1024;

/// `x Φ(x)` with the error function, not its tanh approximation (Hendrycks and Gimpel 2016, section 2).
#[must_use]
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    if is_fused(&x) {
        Tensor::from_dispatch(<Dispatch as GeluOperation>::gelu(x.into_dispatch()))
    } else {
        composite(x)
    }
}

/// The same function in plain tensor operations.
///
/// Not burn's own, whose derivative is that of the tanh approximation wherever a backend has none of its own: on GPUs
/// gradients would be wrong in their third digit.
fn composite(x: Tensor<2>) -> Tensor<2> {
    let distribution = x.clone().mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * distribution
}

#[backend_extension(Flex, Autodiff)]
trait GeluOperation: Backend {
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GeluOperation for Flex {
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        forward(&dense(x))
    }
}

impl<C: CheckpointStrategy> GeluOperation for Autodiff<Flex, C> {
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = dense(x);
        let y = forward(&x);
        match GeluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(x, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, backward(&ops.state, dense(grad)));
            recycle(ops.state);
        }
    }
}

fn forward(x: &FlexTensor) -> FlexTensor {
    let values = x.storage::<f32>();
    let mut y = overwritten(values.len());
    y.par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|(y, x)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = x * normal(*x).0;
                }
            },
        );
    });
    tensor(y, extents::<2>(x))
}

/// `grad ∘ (Φ(x) + x φ(x))`, in `grad`'s own memory where nobody else holds it.
fn backward(x: &FlexTensor, mut grad: FlexTensor) -> FlexTensor {
    let values = x.storage::<f32>();
    grad.storage_mut::<f32>().par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|(grad, x)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (grad, x) in grad.iter_mut().zip(x) {
                    let (distribution, density) = normal(*x);
                    *grad *= distribution + x * density;
                }
            },
        );
    });
    grad
}

#[cfg(test)]
mod tests;
