//! Where a model's weights come from, and the layers made of them.

mod checkpoint;
mod error;
mod flat;
mod random;

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::ModuleName;

use super::linear::Linear;
use crate::LearnerError;

pub(super) use checkpoint::{Checkpoint, weights_files};
pub(crate) use checkpoint::{INDEX, SINGLE, shards};
pub use error::WeightsError;
pub(super) use flat::{Recorded, Slices};
pub(super) use random::{Deviation, RandomWeights};

/// A source of named weights. It says what is wrong with a weight; those who ask know what it must look like.
pub(super) trait Weights {
    /// The weight of this name and shape.
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError>;
}

/// Reads layers from a source.
#[derive(Debug)]
pub(super) struct Loader<'a, W> {
    weights: &'a mut W,
    /// What adapters put before the names of modules.
    prefix: &'static str,
    /// How adapters call a module of the checkpoint, behind the prefix.
    rename: fn(&str) -> String,
}

/// Scale of a root mean square normalisation.
#[derive(Debug, Clone)]
pub(super) struct RmsNorm {
    /// `[d]`.
    pub(super) gamma: Tensor<1>,
    /// Added to the mean square.
    pub(super) epsilon: f64,
}

/// Scale and shift of a layer normalisation.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    /// `[d]`.
    pub(super) gamma: Tensor<1>,
    /// `[d]`.
    pub(super) beta: Tensor<1>,
    /// Added to the variance.
    pub(super) epsilon: f64,
}

impl<'a, W: Weights> Loader<'a, W> {
    /// A reader for modules whose names in adapters start with `prefix`.
    pub(super) fn new(weights: &'a mut W, prefix: &'static str) -> Self {
        Self { weights, prefix, rename: str::to_owned }
    }

    /// The same for a model whose modules have other names in adapters than in checkpoints.
    pub(super) fn renaming(self, rename: fn(&str) -> String) -> Self {
        Self { rename, ..self }
    }

    /// A weight of any shape.
    pub(super) fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError> {
        self.weights.tensor(name, shape)
    }

    /// The layer `name.weight`, `[d_out, d_in]`, and `name.bias`.
    pub(super) fn linear(&mut self, name: &str, d_in: usize, d_out: usize) -> Result<Linear, LearnerError> {
        let layer = self.linear_without_bias(name, d_in, d_out)?;
        Ok(layer.with_bias(self.tensor(&format!("{name}.bias"), [d_out])?))
    }

    /// The layer `name.weight`, `[d_out, d_in]`, alone.
    pub(super) fn linear_without_bias(
        &mut self,
        name: &str,
        d_in: usize,
        d_out: usize,
    ) -> Result<Linear, LearnerError> {
        Ok(Linear::new(self.module(name), self.tensor(&format!("{name}.weight"), [d_out, d_in])?))
    }

    /// The normalisation `name.weight`, which has no shift.
    pub(super) fn rms_norm(&mut self, name: &str, width: usize, epsilon: f64) -> Result<RmsNorm, LearnerError> {
        Ok(RmsNorm { gamma: self.tensor(&format!("{name}.weight"), [width])?, epsilon })
    }

    /// A convolution of patches that do not overlap, `name.weight` `[d_out, channels, side, side]`, as a linear layer on
    /// patches whose values are ordered alike.
    pub(super) fn patches(&mut self, name: &str, shape: [usize; 4]) -> Result<Linear, LearnerError> {
        let [d_out, channels, height, width] = shape;
        let weight = self.tensor(&format!("{name}.weight"), shape)?.reshape([d_out, channels * height * width]);
        let layer = Linear::new(self.module(name), weight);
        Ok(layer.with_bias(self.tensor(&format!("{name}.bias"), [d_out])?))
    }

    fn module(&self, name: &str) -> ModuleName {
        ModuleName::new(format!("{}{}", self.prefix, (self.rename)(name)))
    }

    /// The normalisation `name.weight` and `name.bias`.
    pub(super) fn norm(&mut self, name: &str, width: usize, epsilon: f64) -> Result<Norm, LearnerError> {
        let gamma = self.tensor(&format!("{name}.weight"), [width])?;
        Ok(Norm { gamma, beta: self.tensor(&format!("{name}.bias"), [width])?, epsilon })
    }
}

/// Values on a device; as many as the shape has elements.
fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
