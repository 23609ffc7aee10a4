//! Weights as they are before any training.

use burn::tensor::{Device, Tensor};
use fedlora_adapter::{Purpose, Seed};
use rand_distr::{Distribution, Normal};

use super::{Weights, upload};
use crate::LearnerError;

/// Normal values for matrices, ones for the scales of normalisations, zeros for biases and shifts.
///
/// Each weight is drawn from a stream of its own name, so that one more layer changes no other weight.
#[derive(Debug, Clone)]
pub(in crate::model) struct RandomWeights {
    pub(in crate::model) seed: Seed,
    pub(in crate::model) deviation: Deviation,
    pub(in crate::model) device: Device,
}

/// Standard deviation of the matrices.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) enum Deviation {
    /// The same for all.
    Fixed(f64),
    /// `1 / sqrt(inputs)`, where the inputs are all axes but the first: outputs vary as much as inputs do.
    FanIn,
}

impl RandomWeights {
    /// The row-major values of a weight.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        let [_, inputs @ ..] = shape else { return Vec::new() };
        if inputs.is_empty() {
            return vec![if name.ends_with(".weight") { 1.0 } else { 0.0 }; count];
        }
        let deviation = match self.deviation {
            Deviation::Fixed(deviation) => deviation,
            Deviation::FanIn => 1.0 / (inputs.iter().product::<usize>() as f64).sqrt(),
        };
        // Only a deviation that is not finite is refused; no number could be drawn then.
        let Ok(normal) = Normal::new(0.0, deviation) else { return vec![0.0; count] };
        let mut rng = self.seed.named(Purpose::Init, name);
        (0..count).map(|_| normal.sample(&mut rng) as f32).collect()
    }
}

impl Weights for RandomWeights {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError> {
        Ok(upload(self.values(name, &shape), shape, &self.device))
    }
}
