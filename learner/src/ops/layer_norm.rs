//! Layer normalisation with frozen scale and shift, alone or after a residual addition.

use burn::tensor::Tensor;

/// Layer normalisation of each row of `x + residual` (Ba et al. 2016) with frozen `gamma` and `beta`.
#[must_use]
pub fn add_layer_norm(x: Tensor<2>, residual: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    composite(x + residual, gamma, beta, epsilon)
}

/// Layer normalisation of each row of `x` with frozen `gamma` and `beta`.
#[must_use]
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    composite(x, gamma, beta, epsilon)
}

/// The same function in plain tensor operations.
pub(super) fn composite(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    let normal = centred / (variance + epsilon).sqrt();
    normal * gamma.detach().unsqueeze() + beta.detach().unsqueeze()
}
