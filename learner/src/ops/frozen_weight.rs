//! A frozen weight beside the forms in which the products of the CPU path read it.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::gemm::{Packed, View};
use super::storage::{dense, extents};

/// A weight `[d_out, d_in]` that nobody changes.
///
/// Clones share one packed form for each direction, made when it is first asked for, so that no step packs it
/// again. The price is memory, once a model: as much as the weight for the
/// forward pass, and as much again for the backward one where there is one.
#[derive(Debug, Clone)]
pub struct FrozenWeight {
    tensor: Tensor<2>,
    forms: Forms,
}

impl FrozenWeight {
    /// The weight as it was given.
    #[must_use]
    pub fn tensor(&self) -> &Tensor<2> {
        &self.tensor
    }

    pub(super) fn into_parts(self) -> (Tensor<2>, Forms) {
        (self.tensor, self.forms)
    }
}

impl From<Tensor<2>> for FrozenWeight {
    fn from(tensor: Tensor<2>) -> Self {
        Self { tensor, forms: Forms::default() }
    }
}

/// The packed forms of one weight, shared by all who use it.
#[derive(Debug, Clone, Default)]
pub(super) struct Forms(Arc<Both>);

#[derive(Debug, Default)]
struct Both {
    forward: OnceLock<Packed>,
    backward: OnceLock<Packed>,
}

/// The weight on the CPU backend.
#[derive(Debug, Clone)]
pub(super) struct PackedWeight {
    values: FlexTensor,
    forms: Forms,
}

// Both forms are packed on one thread: a thread of the pool that waited for others in here could be handed work that
// asks for the same form, and would wait for itself.
impl PackedWeight {
    pub(super) fn new(values: FlexTensor, forms: Forms) -> Self {
        Self { values: dense(values), forms }
    }

    /// Rows of the weight.
    pub(super) fn d_out(&self) -> usize {
        extents::<2>(&self.values)[0]
    }

    /// Columns of the weight.
    pub(super) fn d_in(&self) -> usize {
        extents::<2>(&self.values)[1]
    }

    /// `Wᵀ`, the right operand of the forward pass's `x Wᵀ`.
    pub(super) fn forward(&self) -> &Packed {
        self.forms.0.forward.get_or_init(|| Packed::new(self.view().transposed()))
    }

    /// `W`, the right operand of the backward pass's `grad · W`.
    pub(super) fn backward(&self) -> &Packed {
        self.forms.0.backward.get_or_init(|| Packed::new(self.view()))
    }

    fn view(&self) -> View<'_> {
        View::dense(self.values.storage(), self.d_out(), self.d_in())
    }
}

#[cfg(test)]
mod tests {
    use super::super::linear;
    use super::super::testing::{bits, constant, leaf, weighted_sum};
    use super::*;

    #[test]
    fn a_weight_that_was_used_before_gives_the_same_bits_as_a_fresh_one() {
        let (shared, x) = (FrozenWeight::from(constant([50, 70], 1)), constant([20, 70], 2));
        let first = bits(linear(x.clone(), shared.clone(), None));
        assert_eq!(first, bits(linear(x.clone(), shared, None)));
        assert_eq!(first, bits(linear(x, constant([50, 70], 1), None)));
    }

    #[test]
    fn clones_share_their_packed_forms_and_only_a_backward_pass_makes_the_second() {
        let weight = FrozenWeight::from(constant([50, 70], 1));
        let made = |weight: &FrozenWeight| {
            [&weight.forms.0.forward, &weight.forms.0.backward].map(|form| form.get().is_some())
        };
        let y = linear(leaf([20, 70], 2), weight.clone(), None);
        assert_eq!(made(&weight), [true, false]);
        weighted_sum(y).backward();
        assert_eq!(made(&weight), [true, true]);
    }
}
