//! What a client sends: the factors that the directive asks for, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Adapter, AdapterError, AdapterSpec, Digest, Directive, HeadPolicy, LoraFactors, ModuleName, Side, Tensor,
    codec::names,
    hashing::DigestWriter,
    source::{TensorSource, UpdateSource},
};

/// The tensors of one client's update, by their names in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterUpdate {
    spec: Arc<AdapterSpec>,
    tensors: BTreeMap<String, Tensor>,
}

impl AdapterUpdate {
    /// The part of an adapter that the directive says to upload.
    #[must_use]
    pub fn select(adapter: &Adapter, directive: Directive) -> Self {
        let spec = Arc::clone(adapter.spec());
        let directive = directive.of_kind(spec.kind);
        let mut tensors = BTreeMap::new();
        for (name, factors) in adapter.modules() {
            for side in [Side::A, Side::B].into_iter().filter(|side| directive.upload.contains(*side)) {
                tensors.insert(names::factor(spec.kind, name, side), factors.side(side).clone());
            }
        }
        if directive.head == HeadPolicy::Shared {
            let head = adapter.head().iter().filter(|(name, _)| !spec.is_constant(name));
            tensors.extend(head.map(|(name, tensor)| (names::extra(name), tensor.clone())));
        }
        Self { spec, tensors }
    }

    /// An update from tensors by file name, checked against what `directive` says to upload.
    ///
    /// # Errors
    /// Names the first tensor that is missing, unexpected, misshapen or not finite.
    pub fn new(
        spec: Arc<AdapterSpec>,
        directive: Directive,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self, AdapterError> {
        let expected = Self::expected(&spec, directive);
        if let Some(name) = tensors.keys().find(|name| !expected.contains_key(*name)) {
            return Err(AdapterError::UnexpectedTensor { name: name.clone() });
        }
        for (name, shape) in &expected {
            let tensor = tensors.get(name).ok_or_else(|| AdapterError::MissingTensor { name: name.clone() })?;
            tensor.as_ref().check(name, shape)?;
        }
        Ok(Self { spec, tensors })
    }

    /// Names and shapes of exactly the tensors that an update under `directive` consists of.
    #[must_use]
    pub fn expected(spec: &AdapterSpec, directive: Directive) -> BTreeMap<String, Vec<usize>> {
        let directive = directive.of_kind(spec.kind);
        let mut expected = BTreeMap::new();
        for (name, module) in &spec.modules {
            for side in [Side::A, Side::B].into_iter().filter(|side| directive.upload.contains(*side)) {
                expected.insert(names::factor(spec.kind, name, side), spec.shape(module, side));
            }
        }
        if directive.head == HeadPolicy::Shared {
            expected.extend(spec.trainable_head().map(|(name, shape)| (names::extra(name), shape.clone())));
        }
        expected
    }

    /// The tensors by file name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Bytes of all values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(Tensor::bytes).sum()
    }

    /// Identity of specification, names and values: equal digests mean equal updates.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new(self.bytes());
        writer.write(self.spec.digest().as_bytes());
        for (name, tensor) in &self.tensors {
            // The length keeps a name apart from the values before it; theirs follows from specification and name.
            writer.write(&(name.len() as u64).to_le_bytes());
            writer.write(name.as_bytes());
            writer.write(bytemuck::cast_slice(tensor.values()));
        }
        writer.finish()
    }

    /// The client's whole adapter: what was sent, and the rest from the adapter that it started from.
    ///
    /// Exact for frozen factors. For factors that the client kept to itself the previous value stands in; a method
    /// that lets clients keep factors does not read them.
    ///
    /// # Errors
    /// `previous` of another specification.
    pub fn complete(mut self, previous: &Adapter) -> Result<Adapter, AdapterError> {
        if self.spec != *previous.spec() {
            return Err(AdapterError::WrongDigest { expected: previous.spec().digest(), found: self.spec.digest() });
        }
        let spec = Arc::clone(&self.spec);
        let mut take = |name: String, previous: &Tensor| self.tensors.remove(&name).unwrap_or_else(|| previous.clone());
        let mut modules = BTreeMap::new();
        for (name, factors) in previous.modules() {
            let a = take(names::factor(spec.kind, name, Side::A), &factors.a);
            let b = take(names::factor(spec.kind, name, Side::B), &factors.b);
            modules.insert(name.clone(), LoraFactors { a, b });
        }
        let head =
            previous.head().iter().map(|(name, tensor)| (name.clone(), take(names::extra(name), tensor))).collect();
        Adapter::new(spec, modules, head)
    }
}

impl UpdateSource for AdapterUpdate {
    fn factor(&self, module: &ModuleName, side: Side) -> Option<TensorSource<'_>> {
        self.tensors
            .get(&names::factor(self.spec.kind, module, side))
            .map(|tensor| TensorSource::Memory(tensor.as_ref()))
    }

    fn extra(&self, name: &str) -> Option<TensorSource<'_>> {
        self.tensors.get(&names::extra(name)).map(|tensor| TensorSource::Memory(tensor.as_ref()))
    }
}

impl UpdateSource for Adapter {
    fn factor(&self, module: &ModuleName, side: Side) -> Option<TensorSource<'_>> {
        self.modules().get(module).map(|factors| TensorSource::Memory(factors.side(side).as_ref()))
    }

    fn extra(&self, name: &str) -> Option<TensorSource<'_>> {
        self.head().get(name).map(|tensor| TensorSource::Memory(tensor.as_ref()))
    }

    fn release(&self) {
        Self::release(self);
    }
}
