//! Gradient checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174): a forward
//! pass keeps each layer's input alone, and the backward pass computes the rest again, one layer at a time.
//!
//! The graph is cut behind every layer: what follows sees the layer's output as a leaf. The backward pass goes from cut to
//! cut. It computes a layer once more from its input, now with a graph, and starts from the gradient of that leaf.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{Gradients, Tensor};

use super::{GroupedAdapter, Parameter};

/// The layers of the last forward pass, in their order.
#[derive(Default)]
pub(crate) struct Checkpoints(Mutex<Vec<Checkpoint>>);

/// One layer of a pass.
struct Checkpoint {
    /// The leaf that what follows has seen.
    output: Tensor<2>,
    /// Computes it again, with a graph.
    again: Box<dyn FnOnce() -> Tensor<2> + Send>,
}

impl Checkpoints {
    /// Notes a layer's output, a constant, and how to compute it again. Returns the output for what follows.
    pub(crate) fn keep(&self, output: Tensor<2>, again: impl FnOnce() -> Tensor<2> + Send + 'static) -> Tensor<2> {
        assert!(!output.is_tracked(), "a layer under gradient checkpointing has kept a graph");
        let output = output.autodiff().require_grad();
        self.with(|kept| kept.push(Checkpoint { output: output.clone(), again: Box::new(again) }));
        output
    }

    /// Layers noted since the last backward pass.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.with(|kept| kept.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Checkpoint>) -> T) -> T {
        // Whoever panicked in here left the list as it was before or after.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").finish_non_exhaustive()
    }
}

/// What one forward pass under gradient checkpointing needs: the adapters in both parts that they play.
#[derive(Debug, Clone)]
pub(crate) struct Checkpointing {
    /// Where layers are noted.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// For layers that are computed again.
    pub(crate) trained: Arc<GroupedAdapter>,
    /// The same values as constants, for the pass itself.
    pub(crate) constant: Arc<GroupedAdapter>,
}

/// The same values without a place in a graph. A tensor with autodiff keeps it: without it burn computes some functions
/// otherwise.
pub(crate) fn without_graph<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.is_autodiff() { x.inner().autodiff() } else { x }
}

impl GroupedAdapter {
    /// The start of a pass that keeps its layers' inputs alone, if that was asked for and something is trained.
    ///
    /// A pass before, whose gradients nobody took, is forgotten.
    pub(crate) fn checkpointing(&self) -> Option<Checkpointing> {
        let checkpoints = Arc::clone(self.checkpoints.as_ref().filter(|_| self.trained > 0)?);
        checkpoints.with(Vec::clear);
        let trained = Self { checkpoints: None, ..self.clone() };
        let mut constant = trained.clone();
        for parameter in constant.parameters_mut() {
            parameter.value = without_graph(parameter.value.clone());
        }
        Some(Checkpointing { checkpoints, trained: Arc::new(trained), constant: Arc::new(constant) })
    }

    /// The gradients of [`GroupedAdapter::parameters`], in their order, of a loss that the last forward pass through a
    /// model with these adapters led to; zero for a tensor that the loss does not depend on.
    ///
    /// With gradient checkpointing this, and not `loss.backward()`, is the whole backward pass.
    ///
    /// # Panics
    /// If the loss depends on nothing trained, or its graph was used before.
    #[must_use]
    pub fn gradients(&self, loss: &Tensor<1>) -> Vec<Tensor<3>> {
        let mut found = vec![None; self.trained];
        let mut gradients = loss.backward();
        self.collect(&mut gradients, &mut found);
        let mut kept = self.checkpoints.as_ref().map_or_else(Vec::new, |all| all.with(std::mem::take));
        // From the last layer to the first; each one's input is free once it is done.
        while let Some(Checkpoint { output, again }) = kept.pop() {
            if let Some(slope) = output.grad_remove(&mut gradients) {
                gradients = (again() * slope).sum().backward();
                self.collect(&mut gradients, &mut found);
            }
        }
        let or_zero = |(found, parameter): (Option<_>, &Parameter)| {
            found.unwrap_or_else(|| parameter.value.clone().inner().zeros_like())
        };
        found.into_iter().zip(self.parameters()).map(or_zero).collect()
    }

    /// Adds the gradients of a part of the backward pass to what was found before.
    fn collect(&self, gradients: &mut Gradients, found: &mut [Option<Tensor<3>>]) {
        for (parameter, found) in self.parameters().iter().zip(found) {
            if let Some(gradient) = parameter.value.grad_remove(gradients) {
                *found = Some(match found.take() {
                    Some(sum) => sum + gradient,
                    None => gradient,
                });
            }
        }
    }
}
