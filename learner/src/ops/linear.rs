//! A linear layer with frozen weights.

use burn::tensor::Tensor;

/// `x Wᵀ + bias` for a frozen `weight` `[d_out, d_in]` and `bias` `[d_out]`: only `x` gets a gradient.
#[must_use]
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    composite(x, weight, bias)
}

/// The same function in plain tensor operations.
pub(super) fn composite(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(weight.detach().transpose());
    match bias {
        Some(bias) => y + bias.detach().unsqueeze(),
        None => y,
    }
}
