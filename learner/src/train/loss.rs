//! Cross-entropy of predictions, and its mean by client or example.

use burn::tensor::{Tensor, TensorData};

pub(crate) use crate::ops::cross_entropy;

/// Losses, each over the number of predictions of its group: their sum is the sum of the groups' mean losses.
///
/// In this sum every group's factors see only their own mean, as if it trained alone. A group is a client, whose mean is
/// over all tokens of its batch as in `transformers`, or a single example. `here` are the groups' predictions among these
/// losses, `all` those that their means are over, which are more where a step takes several passes.
pub(super) fn weighted(losses: Tensor<1>, here: &[usize], all: &[usize]) -> Tensor<1> {
    let weights = here.iter().zip(all).flat_map(|(&here, &all)| std::iter::repeat_n(1.0 / all as f32, here));
    let weights = TensorData::new(weights.collect::<Vec<f32>>(), losses.dims());
    let device = losses.device();
    losses * Tensor::from_data(weights, &device)
}
