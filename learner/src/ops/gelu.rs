//! The exact Gaussian error linear unit, `x Φ(x)`.

use burn::tensor::{Tensor, activation};

/// `x Φ(x)` with the error function, not its tanh approximation.
#[must_use]
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    composite(x)
}

/// The same function in plain tensor operations.
pub(super) fn composite(x: Tensor<2>) -> Tensor<2> {
    activation::gelu(x)
}
