//! The adapters of several clients as one: every factor with a leading axis for the clients.
//!
//! Group `g` sees the rows of its own examples only, so that one pass over the shared base trains all clients as if
//! each trained alone.

mod checkpoints;
mod head;
mod host;
mod vera;

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::{Device, Int, Tensor, TensorData};
use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Directive, Factors, HeadPolicy, ModuleName, Side, names};

pub(crate) use self::checkpoints::{Checkpointing, without_graph};
use self::{checkpoints::Checkpoints, vera::Projections};
use crate::{LearnerError, eva::InputRecorder, ops::Lora};

/// Which tensor of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParameterKey {
    /// A factor of a module.
    Factor(ModuleName, Side),
    /// A head tensor.
    Head(String),
}

impl ParameterKey {
    fn is_trained(&self, spec: &AdapterSpec, train: Factors, train_head: bool) -> bool {
        match self {
            Self::Factor(_, side) => train.and(spec.kind.row().trained).contains(*side),
            Self::Head(name) => train_head && !spec.is_constant(name),
        }
    }
}

/// Number of values of every tensor that is trained under a directive, in the order of [`GroupedAdapter::parameters`].
pub(crate) fn trained_sizes(directive: Directive, spec: &AdapterSpec) -> Vec<usize> {
    let is_head_trained = directive.head != HeadPolicy::Frozen;
    let size = |key: ParameterKey| match &key {
        ParameterKey::Factor(module, side) => {
            spec.modules.get(module).map_or(0, |module| spec.shape(module, *side).iter().product())
        }
        ParameterKey::Head(name) => spec.head.get(name).map_or(0, |shape| shape.iter().product()),
    };
    let keys = host::keys(spec).into_iter();
    keys.filter(|key| key.is_trained(spec, directive.train, is_head_trained)).map(size).collect()
}

/// One tensor of all groups.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Which tensor.
    pub key: ParameterKey,
    /// `[G, rows, columns]`; vectors (a bias, `VeRA`'s `lambda`) have one column.
    pub value: Tensor<3>,
}

impl Parameter {
    /// Puts other values of the same shape in place of the trained tensor's, as a leaf of a new graph.
    pub(crate) fn replace(&mut self, value: Tensor<3>) {
        self.value = leaf(value);
    }
}

/// Adapters of `G` groups with one specification.
#[derive(Debug, Clone)]
pub struct GroupedAdapter {
    origins: Arc<Vec<Adapter>>,
    /// The trained ones first.
    parameters: Vec<Parameter>,
    trained: usize,
    places: Arc<BTreeMap<ParameterKey, usize>>,
    projections: Option<Arc<Projections>>,
    examples: Vec<usize>,
    /// Takes down what goes into the adapted layers.
    recorder: Option<InputRecorder>,
    /// The layers of the last pass, if the backward pass is to compute them again.
    checkpoints: Option<Arc<Checkpoints>>,
}

impl GroupedAdapter {
    /// Groups adapters on a device, one group each.
    ///
    /// Gradients are recorded for the factors in `train` and, with `train_head`, for the head; all else is constant, as
    /// what adapters of the kind never change is.
    /// Each group has one example until [`GroupedAdapter::set_examples`] says otherwise.
    ///
    /// # Errors
    /// [`LearnerError::NoAdapters`], and [`LearnerError::MixedSpecs`] if one has another specification than the first.
    pub fn new(adapters: &[&Adapter], train: Factors, train_head: bool, device: &Device) -> Result<Self, LearnerError> {
        let spec = adapters.first().ok_or(LearnerError::NoAdapters)?.spec();
        if let Some(index) = adapters.iter().position(|adapter| adapter.spec() != spec) {
            return Err(LearnerError::MixedSpecs { index });
        }
        let (trained, frozen): (Vec<_>, Vec<_>) =
            host::keys(spec).into_iter().partition(|key| key.is_trained(spec, train, train_head));
        let leaf = |key: ParameterKey| Parameter { value: leaf(host::stack(adapters, &key, device)), key };
        let constant = |key: ParameterKey| Parameter { value: host::stack(adapters, &key, device), key };
        let count = trained.len();
        let parameters: Vec<_> = trained.into_iter().map(leaf).chain(frozen.into_iter().map(constant)).collect();
        let places = parameters.iter().enumerate().map(|(place, parameter)| (parameter.key.clone(), place)).collect();
        Ok(Self {
            projections: Projections::new(spec, device).map(Arc::new),
            origins: Arc::new(adapters.iter().map(|&adapter| adapter.clone()).collect()),
            parameters,
            trained: count,
            places: Arc::new(places),
            examples: vec![1; adapters.len()],
            recorder: None,
            checkpoints: None,
        })
    }

    /// Lets forward passes keep each layer's input alone; the backward pass, [`GroupedAdapter::gradients`], computes the
    /// rest again. Gradients are the same to the bit.
    #[must_use]
    pub fn with_gradient_checkpointing(self) -> Self {
        Self { checkpoints: Some(Arc::default()), ..self }
    }

    /// The specification that all groups share.
    #[must_use]
    pub fn spec(&self) -> &Arc<AdapterSpec> {
        // Bounds: `new` refuses an empty list.
        self.origins[0].spec()
    }

    /// The trained tensors: factors by module and side, then the head by name.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters[..self.trained]
    }

    /// The trained tensors, to be replaced by new leaves of the same shapes.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters[..self.trained]
    }

    /// Examples of each group in the next batch.
    #[must_use]
    pub fn examples(&self) -> &[usize] {
        &self.examples
    }

    /// Sets the number of examples of each group in the next batch.
    ///
    /// # Panics
    /// If there is not one number for each group.
    pub fn set_examples(&mut self, examples: Vec<usize>) {
        assert_eq!(examples.len(), self.origins.len(), "every group needs its number of examples");
        self.examples = examples;
    }

    /// The same adapters for a batch with these examples of each group.
    ///
    /// # Panics
    /// As [`GroupedAdapter::set_examples`].
    #[must_use]
    pub fn with_examples(mut self, examples: Vec<usize>) -> Self {
        self.set_examples(examples);
        self
    }

    /// The same, with the inputs of adapted layers taken down.
    pub(crate) fn recording(self, recorder: InputRecorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Takes down the input of an adapted layer, where somebody asked for it.
    pub(crate) fn see(&self, module: &ModuleName, x: &Tensor<2>) {
        if let Some(recorder) = &self.recorder {
            recorder.record(module, x);
        }
    }

    /// One group for each example, with the factors of the group that owns it: what per-example gradients are taken of.
    ///
    /// The trained tensors are leaves of a new graph.
    ///
    /// # Panics
    /// If an owner is not a group.
    #[must_use]
    pub fn per_example(&self, owners: &[usize]) -> Self {
        let indices: Vec<i32> = owners.iter().map(|&owner| owner as i32).collect();
        let copy = |(place, parameter): (usize, &Parameter)| {
            let value = parameter.value.clone();
            let is_trained = place < self.trained;
            let value = if is_trained { value.inner() } else { value };
            let indices =
                Tensor::<1, Int>::from_data(TensorData::new(indices.clone(), [owners.len()]), &value.device());
            let value = value.select(0, indices);
            let value = if is_trained { leaf(value) } else { value };
            Parameter { key: parameter.key.clone(), value }
        };
        Self {
            origins: Arc::new(owners.iter().map(|&owner| self.origins[owner].clone()).collect()),
            parameters: self.parameters.iter().enumerate().map(copy).collect(),
            examples: vec![1; owners.len()],
            // Passes of their own.
            checkpoints: self.checkpoints.as_ref().map(|_| Arc::default()),
            ..self.clone()
        }
    }

    /// The adapters with their current values. Tensors that were not trained are those given to
    /// [`GroupedAdapter::new`], bit for bit.
    ///
    /// # Errors
    /// A value that is not finite; a device that failed.
    pub fn to_adapters(&self) -> Result<Vec<Adapter>, LearnerError> {
        host::unstack(&self.origins, self.parameters())
    }

    /// Whether the module has factors.
    pub(crate) fn adapts(&self, module: &ModuleName) -> bool {
        self.spec().modules.contains_key(module)
    }

    /// A module's low-rank branch over rows of which `rows[g]` are group `g`'s; none for a module without factors.
    pub(crate) fn lora(&self, module: &ModuleName, rows: &[usize], mask: Option<Tensor<2>>) -> Option<Lora> {
        let own = self.spec().modules.get(module)?;
        let factor = |side| self.value(&ParameterKey::Factor(module.clone(), side));
        let (a, b) = (factor(Side::A)?, factor(Side::B)?);
        let (a, b) = match &self.projections {
            Some(projections) => projections.apply(own, a, b),
            None => (a, self.behind_left(module, b)),
        };
        let scale = self.spec().scaling_of(own) as f32;
        Some(Lora { a, b, scale, rows: rows.to_vec(), mask })
    }

    /// `DoRA`'s magnitudes of a module, `[G, d_out, 1]`; none for other kinds.
    pub(crate) fn magnitude(&self, module: &ModuleName) -> Option<Tensor<3>> {
        if self.spec().kind != AdapterKind::Dora {
            return None;
        }
        self.value(&ParameterKey::Head(names::magnitude(module)))
    }

    /// `L·R` of LoRA-XS, `[G, d_out, r]`, from `R`; the factor itself for other kinds.
    fn behind_left(&self, module: &ModuleName, b: Tensor<3>) -> Tensor<3> {
        if self.spec().kind != AdapterKind::LoraXs {
            return b;
        }
        match self.value(&ParameterKey::Head(names::left(module))) {
            Some(left) => left.matmul(b),
            None => b,
        }
    }

    fn value(&self, key: &ParameterKey) -> Option<Tensor<3>> {
        let place = *self.places.get(key)?;
        self.parameters.get(place).map(|parameter| parameter.value.clone())
    }
}

/// A trained tensor of a new graph.
fn leaf(value: Tensor<3>) -> Tensor<3> {
    value.autodiff().require_grad()
}

#[cfg(test)]
mod tests;
