//! The gate of `SwiGLU` feed-forward parts.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::buffers::{overwritten, recycle};
use super::elementwise::exp;
use super::storage::{dense, extents, is_fused, tensor};

/// Elements of one task.
const BLOCK: usize = 16 * 1024;

/// `silu(gate) ∘ up` with `silu(x) = x / (1 + e⁻ˣ)` (arXiv 2002.05202, equation 6).
///
/// # Panics
///
/// If the two have different shapes.
#[must_use]
pub fn silu_gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "a gate for each value");
    if is_fused(&gate) {
        let y = <Dispatch as SiluGateOperation>::silu_gate(gate.into_dispatch(), up.into_dispatch());
        Tensor::from_dispatch(y)
    } else {
        composite(gate, up)
    }
}

/// The same function in plain tensor operations.
fn composite(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

#[backend_extension(Flex, Autodiff)]
trait SiluGateOperation: Backend {
    fn silu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl SiluGateOperation for Flex {
    fn silu_gate(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        forward(&dense(gate), &dense(up))
    }
}

impl<C: CheckpointStrategy> SiluGateOperation for Autodiff<Flex, C> {
    fn silu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (dense(gate), dense(up));
        let y = forward(&gate, &up);
        match SiluGateBackward.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish([gate, up], y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct SiluGateBackward;

impl Backward<Flex, 2> for SiluGateBackward {
    /// Gate and values.
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<[FlexTensor; 2], 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let gradients = backward(ops.state, &grad);
        recycle(grad);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            match parent {
                Some(parent) => grads.register::<Flex>(parent.id, gradient),
                None => recycle(gradient),
            }
        }
    }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let large = if x < 0.0 { small } else { 1.0 };
    large / (1.0 + small)
}

fn forward(gate: &FlexTensor, up: &FlexTensor) -> FlexTensor {
    let (gates, ups) = (gate.storage::<f32>(), up.storage::<f32>());
    let mut y = overwritten(gates.len());
    let blocks = y.par_chunks_mut(BLOCK).zip(gates.par_chunks(BLOCK)).zip(ups.par_chunks(BLOCK));
    blocks.for_each(|((y, gate), up)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * sigmoid(*gate) * up;
                }
            },
        );
    });
    tensor(y, extents::<2>(gate))
}

/// With `σ` the gate's sigmoid: `grad ∘ up ∘ σ (1 + gate (1 − σ))` and `grad ∘ gate ∘ σ`, in the inputs' own memory where nobody
/// else holds it.
fn backward([mut gate, mut up]: [FlexTensor; 2], grad: &FlexTensor) -> [FlexTensor; 2] {
    let gates = gate.storage_mut::<f32>().par_chunks_mut(BLOCK);
    let blocks = gates.zip(up.storage_mut::<f32>().par_chunks_mut(BLOCK)).zip(grad.storage::<f32>().par_chunks(BLOCK));
    blocks.for_each(|((gate, up), grad)| {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for ((gate, up), grad) in gate.iter_mut().zip(up).zip(grad) {
                    let share = sigmoid(*gate);
                    let slope = share * (1.0 + *gate * (1.0 - share));
                    (*gate, *up) = (grad * *up * slope, grad * *gate * share);
                }
            },
        );
    });
    [gate, up]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, bits, constant, leaf, on_threads, values, weighted_sum};
    use super::*;

    #[test]
    fn silu_gate_and_its_gradients_agree_with_the_composite_form() {
        for shape in [[1, 1], [3, 17], [70, 500]] {
            let (gate, up) = (leaf(shape, 1), leaf(shape, 2));
            let (reference_gate, reference_up) = (leaf(shape, 1), leaf(shape, 2));
            let y = silu_gate(gate.clone() * 8.0, up.clone());
            let expected = composite(reference_gate.clone() * 8.0, reference_up.clone());
            // Values up to eight with a few roundings each; the gradient is that of `8 · gate`.
            assert_close(y.clone(), expected.clone(), 8.0 * 4.0 * f32::EPSILON);
            let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
            for (input, reference) in [(gate, reference_gate), (up, reference_up)] {
                let tolerance = 64.0 * 4.0 * f32::EPSILON;
                assert_close(input.grad(&grads).unwrap(), reference.grad(&expected).unwrap(), tolerance);
            }
        }
    }

    #[test]
    fn gates_beyond_the_range_of_the_exponential_are_open_or_shut() {
        let gate = Tensor::<2>::from_data([[-1e4_f32, -88.5, 0.0, 88.5, 1e4]], &burn::tensor::Device::flex());
        let ones = gate.ones_like();
        assert_eq!(values(silu_gate(gate, ones)), [0.0, 0.0, 0.0, 88.5, 1e4]);
    }

    #[test]
    fn inputs_that_others_hold_stay_as_they_were() {
        let (gate, up) = (leaf([5, 8], 1), leaf([5, 8], 2));
        let before = (bits(gate.clone()), bits(up.clone()));
        let _ = weighted_sum(silu_gate(gate.clone(), up.clone())).backward();
        assert_eq!((bits(gate), bits(up)), before);
    }

    #[test]
    fn silu_gate_is_the_same_bit_for_bit_on_one_and_two_threads() {
        let run = || {
            let (gate, up) = (leaf([90, 400], 1), constant([90, 400], 2));
            let y = silu_gate(gate.clone(), up);
            let grads = weighted_sum(y.clone()).backward();
            (bits(y), bits(gate.grad(&grads).unwrap()))
        };
        assert_eq!(on_threads(1, run), on_threads(2, run));
    }
}
