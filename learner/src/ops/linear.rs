//! A linear layer with frozen weights.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;

use super::buffers::{overwritten, recycle};
use super::frozen_weight::{Forms, FrozenWeight, PackedWeight};
use super::gemm::{Start, View, multiply};
use super::optional::Optional;
use super::storage::{dense, extents, is_fused_with, tensor};

/// `x Wᵀ + bias` for a frozen `weight` `[d_out, d_in]`, of 16 or 32 bits, and a frozen `bias` `[d_out]`: only `x` gets a
/// gradient.
#[must_use]
pub fn linear(x: Tensor<2>, weight: impl Into<FrozenWeight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (weight, forms) = weight.into().into_parts();
    if is_fused_with(&x, &weight) {
        let (weight, bias) = (weight.into_dispatch(), Optional::new(bias));
        Tensor::from_dispatch(<Dispatch as LinearOperation>::linear(x.into_dispatch(), weight, forms, bias))
    } else {
        composite(x, weight, bias)
    }
}

/// The same function in plain tensor operations.
pub(super) fn composite(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = product(x, weight.detach().transpose());
    match bias {
        Some(bias) => y + bias.detach().unsqueeze(),
        None => y,
    }
}

/// `x W` in `f32`, computed in the type that `W` is kept in where that has the range of `f32`.
fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    match weight.dtype() {
        DType::F32 => x.matmul(weight),
        DType::BF16 => x.cast(DType::BF16).matmul(weight).cast(DType::F32),
        _ => x.matmul(weight.cast(DType::F32)),
    }
}

#[backend_extension(Flex, Autodiff)]
trait LinearOperation: Backend {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        forms: Forms,
        #[extension_type] bias: Optional<Self>,
    ) -> FloatTensor<Self>;
}

impl LinearOperation for Flex {
    fn linear(x: FlexTensor, weight: FlexTensor, forms: Forms, bias: Optional<Self>) -> FlexTensor {
        forward(dense(x), &PackedWeight::new(weight, forms), bias.into_dense().as_ref())
    }
}

impl<C: CheckpointStrategy> LinearOperation for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        forms: Forms,
        bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let weight = PackedWeight::new(weight.into_primitive(), forms);
        let bias = bias.into_constant();
        let y = forward(dense(x), &weight, bias.as_ref());
        match LinearBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(weight, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 1> for LinearBackward {
    type State = PackedWeight;

    fn backward(self, ops: Ops<PackedWeight, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<Flex>(parent.id, backward(dense(grad), &ops.state));
        }
    }
}

fn forward(x: FlexTensor, weight: &PackedWeight, bias: Option<&FlexTensor>) -> FlexTensor {
    let [tokens, d_in] = extents(&x);
    let start = bias.map_or(Start::Zero, |bias| Start::Bias(bias.storage()));
    let mut y = overwritten(tokens * weight.d_out());
    multiply(View::dense(x.storage(), tokens, d_in), weight.forward(), start, &mut y);
    recycle(x);
    tensor(y, [tokens, weight.d_out()])
}

/// The gradient with respect to `x`, `grad · W`.
fn backward(grad: FlexTensor, weight: &PackedWeight) -> FlexTensor {
    let [tokens, d_out] = extents(&grad);
    let mut grad_x = overwritten(tokens * weight.d_in());
    multiply(View::dense(grad.storage(), tokens, d_out), weight.backward(), Start::Zero, &mut grad_x);
    recycle(grad);
    tensor(grad_x, [tokens, weight.d_in()])
}

#[cfg(test)]
mod tests;
