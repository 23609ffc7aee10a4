//! `adapter_model.safetensors`: which tensor of the file is which of the specification.
//!
//! Every tensor of the file must be used, and used once. One that is ignored, or read into two places, would make an
//! adapter that computes something else than what was trained.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use safetensors::{Dtype, SafeTensors};

use crate::{
    Adapter, AdapterError, AdapterKind, AdapterSpec, LoraFactors, ModuleName, Side, Tensor, VeraProjections,
    codec::{self, names},
};

/// A file of tensors that are known by name.
pub(super) struct Weights<'a> {
    spec: &'a Arc<AdapterSpec>,
    unused: Unused<'a>,
    renaming: Renaming,
}

impl<'a> Weights<'a> {
    pub(super) fn open(bytes: &'a [u8], spec: &'a Arc<AdapterSpec>) -> Result<Self, AdapterError> {
        spec.validate()?;
        codec::refuse_duplicates(codec::header(bytes, bytes.len())?)?;
        let file = SafeTensors::deserialize(bytes)?;
        let mut unused = Unused { names: file.names().into_iter().map(str::to_owned).collect(), file };
        if spec.kind == AdapterKind::Vera {
            unused.take_projections(spec)?;
        }
        let renaming = unused.renaming(spec)?;
        Ok(Self { spec, unused, renaming })
    }

    /// What the specification's modules are called in the model that the file was made for.
    pub(super) fn modules(&self) -> BTreeMap<ModuleName, &'a ModuleName> {
        let named = |name: &'a ModuleName| (self.renaming.module(name).unwrap_or_else(|| name.clone()), name);
        self.spec.modules.keys().map(named).collect()
    }

    /// The adapter; head tensors that the file lacks are taken from `initial`.
    pub(super) fn adapter(self, initial: &Adapter) -> Result<Adapter, AdapterError> {
        let Self { spec, mut unused, renaming } = self;
        let mut modules = BTreeMap::new();
        for module in spec.modules.keys() {
            let mut factor = |side| unused.take(&renaming.factor(module, spec.kind, side)?);
            modules.insert(module.clone(), LoraFactors { a: factor(Side::A)?, b: factor(Side::B)? });
        }
        let mut head = BTreeMap::new();
        for (name, tensor) in initial.head() {
            let found = match unused.take_extra(name)? {
                // Magnitudes are no head that a reader may add: without them the factors mean nothing.
                None if spec.is_magnitude(name) => {
                    return Err(AdapterError::MissingTensor { name: names::extra(name) });
                }
                found => found.unwrap_or_else(|| tensor.clone()),
            };
            head.insert(name.clone(), found);
        }
        match unused.names.pop_first() {
            Some(name) => Err(AdapterError::UnexpectedTensor { name }),
            None => Adapter::new(Arc::clone(spec), modules, head),
        }
    }
}

/// How a module of the specification is called in the file: without the one prefix, with the other.
struct Renaming {
    removed: String,
    added: String,
}

impl Renaming {
    /// The renaming under which `wanted` is called `found`, if one name is the other behind a dot.
    fn between(wanted: &str, found: &str) -> Option<Self> {
        let is_prefix = |text: &&str| text.is_empty() || text.ends_with('.');
        if let Some(added) = found.strip_suffix(wanted).filter(is_prefix) {
            return Some(Self { removed: String::new(), added: added.to_owned() });
        }
        let bare = found.strip_prefix(names::PREFIX).unwrap_or(found);
        let removed = wanted.strip_suffix(bare).filter(is_prefix)?;
        let added = found.strip_suffix(bare)?;
        Some(Self { removed: removed.to_owned(), added: added.to_owned() })
    }

    /// The name of a module in the model that the file was made for.
    fn module(&self, module: &ModuleName) -> Option<ModuleName> {
        let bare = module.as_str().strip_prefix(&self.removed)?;
        let added = self.added.strip_prefix(names::PREFIX).unwrap_or(&self.added);
        Some(ModuleName::new([added, bare].concat()))
    }

    /// The file's name of one factor.
    fn factor(&self, module: &ModuleName, kind: AdapterKind, side: Side) -> Result<String, AdapterError> {
        let suffix = names::suffix(kind, side);
        let missing = || AdapterError::MissingTensor { name: format!("{module}.{suffix}") };
        let bare = module.as_str().strip_prefix(&self.removed).ok_or_else(missing)?;
        Ok(format!("{}{bare}.{suffix}", self.added))
    }
}

/// The tensors of a file that have found no place yet.
struct Unused<'a> {
    file: SafeTensors<'a>,
    names: BTreeSet<String>,
}

impl Unused<'_> {
    /// The first renaming under which the file has every factor; the plain one where there is none.
    fn renaming(&self, spec: &AdapterSpec) -> Result<Renaming, AdapterError> {
        // A checked specification has a module.
        let first = spec.modules.keys().next().ok_or(AdapterError::Spec("no module is adapted"))?;
        let suffix = format!(".{}", names::suffix(spec.kind, Side::A));
        let candidates =
            self.names.iter().filter_map(|name| Renaming::between(first.as_str(), name.strip_suffix(&suffix)?));
        let has = |renaming: &Renaming, module, side| {
            renaming.factor(module, spec.kind, side).is_ok_and(|name| self.names.contains(&name))
        };
        let has_all = |renaming: &Renaming| {
            spec.modules.keys().all(|module| [Side::A, Side::B].into_iter().all(|side| has(renaming, module, side)))
        };
        let plain = Renaming { removed: String::new(), added: names::PREFIX.to_owned() };
        Ok(candidates.into_iter().find(has_all).unwrap_or(plain))
    }

    fn take(&mut self, name: &str) -> Result<Tensor, AdapterError> {
        if !self.names.remove(name) {
            return Err(AdapterError::MissingTensor { name: name.to_owned() });
        }
        let view = self.file.tensor(name)?;
        if view.dtype() != Dtype::F32 {
            return Err(AdapterError::UnsupportedDtype { name: name.to_owned(), dtype: view.dtype().to_string() });
        }
        Tensor::new(view.shape().to_vec(), codec::f32_values(view.data()))
    }

    /// A head tensor: by its own name, else by the only name that differs by a prefix.
    fn take_extra(&mut self, wanted: &str) -> Result<Option<Tensor>, AdapterError> {
        let own = names::extra(wanted);
        if self.names.contains(&own) {
            return self.take(&own).map(Some);
        }
        let mut fitting = self.names.iter().filter(|name| Renaming::between(wanted, name).is_some()).cloned();
        match (fitting.next(), fitting.next()) {
            (None, _) => Ok(None),
            (Some(name), None) => self.take(&name).map(Some),
            (Some(first), Some(second)) => {
                Err(AdapterError::AmbiguousTensor { name: wanted.to_owned(), first, second })
            }
        }
    }

    /// The projections decide what VeRA's vectors mean, so those that were trained with must be those of our seed.
    fn take_projections(&mut self, spec: &AdapterSpec) -> Result<(), AdapterError> {
        let own = VeraProjections::new(spec);
        for (name, expected) in [(names::VERA_A, own.a), (names::VERA_B, own.b)] {
            let found = self.take(name)?;
            found.as_ref().check(name, expected.shape())?;
            if found != expected {
                return Err(AdapterError::WrongProjection { name, seed: spec.projection_seed });
            }
        }
        Ok(())
    }
}
