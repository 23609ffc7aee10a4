//! Cross-entropy of predictions, and its mean by client or example.

use burn::tensor::{Tensor, TensorData};

pub(crate) use crate::ops::cross_entropy;

/// Losses, each over the number of predictions of its group: their sum is the sum of the groups' mean losses.
///
/// In this sum every group's factors see only their own mean, as if it trained alone. A group is a client, whose mean is
/// over all tokens of its batch as in `transformers`, or a single example.
pub(super) fn weighted(losses: Tensor<1>, predictions: &[usize]) -> Tensor<1> {
    let weights: Vec<f32> =
        predictions.iter().flat_map(|&count| std::iter::repeat_n(1.0 / count as f32, count)).collect();
    let weights = TensorData::new(weights, losses.dims());
    let device = losses.device();
    losses * Tensor::from_data(weights, &device)
}
