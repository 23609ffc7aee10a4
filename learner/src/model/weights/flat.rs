//! All weights of a model as one vector, for training them: one leaf, one gradient, one optimiser step.
//!
//! Weights have no names here. A model asks for them in the same order every time it is made, and that order is their
//! place in the vector.

use burn::tensor::{Device, Tensor};

use super::{RandomWeights, Weights, upload};
use crate::LearnerError;

/// Random weights, which it keeps with their names and shapes in the order in which they were asked for.
#[derive(Debug)]
pub(in crate::model) struct Recorded {
    pub(in crate::model) source: RandomWeights,
    pub(in crate::model) values: Vec<f32>,
    pub(in crate::model) layout: Vec<(String, Vec<usize>)>,
}

impl Weights for Recorded {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError> {
        let values = self.source.values(name, &shape);
        self.values.extend_from_slice(&values);
        self.layout.push((name.to_owned(), shape.to_vec()));
        Ok(upload(values, shape, &self.source.device))
    }
}

/// Consecutive parts of a vector `[1, N]`, each a tensor of its own with `device`, or a part of the vector's graph without.
#[derive(Debug)]
pub(in crate::model) struct Slices {
    values: Tensor<2>,
    next: usize,
    copies_on: Option<Device>,
}

impl Slices {
    /// Weights through which gradients reach `values`.
    pub(in crate::model) fn tracked(values: Tensor<2>) -> Self {
        Self { values, next: 0, copies_on: None }
    }

    /// Weights that share neither memory nor graph with `values`.
    pub(in crate::model) fn copied(values: Tensor<2>, device: Device) -> Self {
        Self { values, next: 0, copies_on: Some(device) }
    }
}

impl Weights for Slices {
    fn tensor<const D: usize>(&mut self, _name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError> {
        let end = self.next + shape.iter().product::<usize>();
        let part = self.values.clone().slice([0..1, self.next..end]).reshape(shape);
        self.next = end;
        match &self.copies_on {
            Some(device) => Ok(upload(crate::evaluate::read(part)?, shape, device)),
            None => Ok(part),
        }
    }
}
