//! A frozen linear layer with a trained low-rank branch, for one or several groups of rows.

mod kernel;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use self::kernel::{Inputs, Saved, Wanted, backward, forward};
use super::buffers::recycle;
use super::frozen_weight::{Forms, FrozenWeight, PackedWeight};
use super::linear;
use super::optional::Optional;
use super::storage::{dense, is_fused_with};

/// The low-rank branch of one layer (Hu et al. 2021, equation 3).
///
/// Several groups of rows can have factors of their own: the clients that train together on one base model, or the
/// examples of a batch whose gradients are wanted one by one.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Down projections, `[G, r, d_in]`.
    pub a: Tensor<3>,
    /// Up projections, `[G, d_out, r]`.
    pub b: Tensor<3>,
    /// Factor of the branch, `alpha / r` for plain `LoRA`.
    pub scale: f32,
    /// `G` row counts that sum to `T`: group `g` owns the next `rows[g]` rows of `x`.
    pub rows: Vec<usize>,
    /// Dropout mask of the branch's input, `[T, d_in]`, already multiplied by `1 / (1 - p)`; a constant.
    pub mask: Option<Tensor<2>>,
}

/// `x Wᵀ + bias + scale · ((x ∘ mask) A_gᵀ) B_gᵀ`, with gradients for `x`, `a` and `b` only.
///
/// `x` is `[T, d_in]`, `weight` `[d_out, d_in]` and `bias` `[d_out]`; the last two are frozen.
///
/// # Panics
///
/// If the row counts do not sum to `T`, or their number is not `G`.
#[must_use]
pub fn linear_lora(x: Tensor<2>, weight: impl Into<FrozenWeight>, bias: Option<Tensor<1>>, lora: Lora) -> Tensor<2> {
    assert_eq!(lora.rows.iter().sum::<usize>(), x.dims()[0], "row counts must sum to the number of rows");
    assert_eq!(lora.rows.len(), lora.a.dims()[0], "every group of factors needs a row count");
    let (weight, forms) = weight.into().into_parts();
    if !is_fused_with(&x, &weight) {
        return composite(x, weight, bias, lora);
    }
    let Lora { a, b, scale, rows, mask } = lora;
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), Optional::new(bias));
    let (a, b, mask) = (a.into_dispatch(), b.into_dispatch(), Optional::new(mask));
    let y = <Dispatch as LinearLoraOperation>::linear_lora(x, weight, forms, bias, a, b, mask, scale, rows);
    Tensor::from_dispatch(y)
}

/// The same function in plain tensor operations.
fn composite(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, lora: Lora) -> Tensor<2> {
    let base = linear::composite(x.clone(), weight, bias);
    let input = match lora.mask {
        Some(mask) => x * mask.detach(),
        None => x,
    };
    let (d_in, d_out) = (lora.a.dims()[2], lora.b.dims()[1]);
    let (mut group, mut start) = (0, 0);
    let mut branches = Vec::new();
    // Groups of as many rows as their neighbours go into one product.
    for alike in lora.rows.chunk_by(|left, right| left == right) {
        let (groups, rows) = (alike.len(), alike[0]);
        if rows > 0 {
            let a = lora.a.clone().narrow(0, group, groups);
            let b = lora.b.clone().narrow(0, group, groups);
            let owned = input.clone().narrow(0, start, groups * rows).reshape([groups, rows, d_in]);
            branches.push(owned.matmul(a.transpose()).matmul(b.transpose()).reshape([groups * rows, d_out]));
        }
        group += groups;
        start += groups * rows;
    }
    base + Tensor::cat(branches, 0).mul_scalar(lora.scale)
}

#[backend_extension(Flex, Autodiff)]
#[expect(clippy::too_many_arguments, reason = "what crosses burn's dispatch is flat")]
trait LinearLoraOperation: Backend {
    fn linear_lora(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        forms: Forms,
        #[extension_type] bias: Optional<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        scale: f32,
        rows: Vec<usize>,
    ) -> FloatTensor<Self>;
}

impl LinearLoraOperation for Flex {
    fn linear_lora(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        forms: Forms,
        bias: Optional<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        mask: Optional<Self>,
        scale: f32,
        rows: Vec<usize>,
    ) -> FloatTensor<Self> {
        let weight = PackedWeight::new(weight, forms);
        let [x, a, b] = [x, a, b].map(dense);
        let inputs = Inputs { x, weight, a, b, mask: mask.into_dense(), scale, rows };
        forward(&inputs, bias.into_dense().as_ref()).0
    }
}

impl<C: CheckpointStrategy> LinearLoraOperation for Autodiff<Flex, C> {
    fn linear_lora(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        forms: Forms,
        bias: Optional<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        mask: Optional<Self>,
        scale: f32,
        rows: Vec<usize>,
    ) -> FloatTensor<Self> {
        let wanted = Wanted { x: x.is_tracked(), a: a.is_tracked(), b: b.is_tracked() };
        let ((x, x_node), (a, a_node), (b, b_node)) = (x.into_parts(), a.into_parts(), b.into_parts());
        let weight = PackedWeight::new(weight.into_primitive(), forms);
        let [x, a, b] = [x, a, b].map(dense);
        let inputs = Inputs { x, weight, a, b, mask: mask.into_constant(), scale, rows };
        let (y, down) = forward(&inputs, bias.into_constant().as_ref());
        match LinearLoraBackward.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Saved::new(inputs, down, wanted), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct LinearLoraBackward;

impl Backward<Flex, 3> for LinearLoraBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let gradients = backward(&ops.state, &grad);
        recycle(grad);
        ops.state.recycle();
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests;
