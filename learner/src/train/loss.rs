//! Cross-entropy of each client's own batch.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// `-log softmax(logits)[label]` of each example, `[examples]`; `labels` are below the number of columns.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: &[u32]) -> Tensor<1> {
    let device = logits.device();
    let labels: Vec<i32> = labels.iter().map(|&label| label.cast_signed()).collect();
    let count = labels.len();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [count, 1]), &device);
    log_softmax(logits, 1).gather(1, labels).neg().reshape([count])
}

/// The weight of each example in the sum of all clients' mean losses: one over the size of its client's batch.
///
/// In this sum every group's factors see only their own client's mean, as if it trained alone.
pub(super) fn weights(examples: &[usize]) -> Vec<f32> {
    examples.iter().flat_map(|&count| std::iter::repeat_n(1.0 / count as f32, count)).collect()
}
