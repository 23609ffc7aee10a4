//! Root mean square normalisation with a frozen scale.

use burn::tensor::Tensor;

/// Each row of `x` over its root mean square, times a frozen `gamma` `[d]` (arXiv 1910.07467, equation 4). `epsilon` is added
/// to the mean square.
#[must_use]
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    composite(x, gamma, epsilon)
}

/// The same function in plain tensor operations.
fn composite(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + epsilon).sqrt();
    x / scale * gamma.detach().unsqueeze()
}
