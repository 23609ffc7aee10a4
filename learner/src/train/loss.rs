//! Cross-entropy of predictions, and its mean by client or example.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// `-log softmax(logits)[label]` of each prediction, `[predictions]`; `labels` are below the number of columns.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let device = logits.device();
    let labels: Vec<i32> = labels.iter().map(|&label| label.cast_signed()).collect();
    let count = labels.len();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [count, 1]), &device);
    log_softmax(logits, 1).gather(1, labels).neg().reshape([count])
}

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
