//! The gate of `SwiGLU` feed-forward parts.

use burn::tensor::{Tensor, activation};

/// `silu(gate) ∘ up` with `silu(x) = x / (1 + e⁻ˣ)` (arXiv 2002.05202, equation 6).
#[must_use]
pub fn silu_gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    composite(gate, up)
}

/// The same function in plain tensor operations.
fn composite(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}
