//! A complete adapter: every factor of every module and every extra tensor, checked against its specification.

use std::{collections::BTreeMap, sync::Arc};

use crate::{AdapterError, AdapterSpec, Digest, LoraFactors, ModuleName, Side, Tensor, codec, hashing::DigestWriter};

/// A complete set of factors. It exists only if it matches its specification: names, shapes, finite values.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    spec: Arc<AdapterSpec>,
    modules: BTreeMap<ModuleName, LoraFactors>,
    head: BTreeMap<String, Tensor>,
}

impl Adapter {
    /// An adapter from its parts.
    ///
    /// # Errors
    /// Names the first tensor that is missing, unexpected, misshapen or not finite.
    pub fn new(
        spec: Arc<AdapterSpec>,
        modules: BTreeMap<ModuleName, LoraFactors>,
        head: BTreeMap<String, Tensor>,
    ) -> Result<Self, AdapterError> {
        spec.validate()?;
        check_names(spec.modules.keys(), modules.keys(), ModuleName::as_str)?;
        check_names(spec.head.keys(), head.keys(), String::as_str)?;
        for (name, factors) in &modules {
            for side in [Side::A, Side::B] {
                let expected = spec.shape(&spec.modules[name], side);
                factors.side(side).as_ref().check(&codec::names::factor(spec.kind, name, side), &expected)?;
            }
        }
        for (name, tensor) in &head {
            tensor.as_ref().check(name, &spec.head[name])?;
        }
        Ok(Self { spec, modules, head })
    }

    /// An adapter from parts that were checked one by one.
    pub(crate) fn of_checked(
        spec: Arc<AdapterSpec>,
        modules: BTreeMap<ModuleName, LoraFactors>,
        head: BTreeMap<String, Tensor>,
    ) -> Self {
        Self { spec, modules, head }
    }

    /// All zeros.
    ///
    /// # Errors
    /// An unusable specification.
    pub fn zeros(spec: Arc<AdapterSpec>) -> Result<Self, AdapterError> {
        spec.validate()?;
        let factors = |module| LoraFactors {
            a: Tensor::zeros(&spec.shape(module, Side::A)),
            b: Tensor::zeros(&spec.shape(module, Side::B)),
        };
        let modules = spec.modules.iter().map(|(name, module)| (name.clone(), factors(module))).collect();
        let head = spec.head.iter().map(|(name, shape)| (name.clone(), Tensor::zeros(shape))).collect();
        Self::new(spec, modules, head)
    }

    /// What the adapter consists of.
    #[must_use]
    pub fn spec(&self) -> &Arc<AdapterSpec> {
        &self.spec
    }

    /// Factors by module, in name order.
    #[must_use]
    pub fn modules(&self) -> &BTreeMap<ModuleName, LoraFactors> {
        &self.modules
    }

    /// Extra tensors by name.
    #[must_use]
    pub fn head(&self) -> &BTreeMap<String, Tensor> {
        &self.head
    }

    /// The parts, to be changed and checked again by [`Adapter::new`].
    #[must_use]
    pub fn into_parts(self) -> (Arc<AdapterSpec>, BTreeMap<ModuleName, LoraFactors>, BTreeMap<String, Tensor>) {
        (self.spec, self.modules, self.head)
    }

    /// Frobenius norm of the difference to another adapter of the same specification, over all tensors.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        let mut sum = DistanceSum::default();
        self.modules.values().zip(other.modules.values()).for_each(|(own, other)| sum.add_module(own, other));
        self.head.values().zip(other.head.values()).for_each(|(own, other)| sum.add_extra(own, other));
        sum.distance()
    }

    /// Lets go of the memory that looking at values in a mapped file has cost; they are found there again.
    pub fn release(&self) {
        self.modules.values().for_each(LoraFactors::release);
        self.head.values().for_each(Tensor::release);
    }

    /// Identity of specification and values: equal digests mean adapters that act alike, to the bit.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new(u64::MAX);
        writer.write(self.spec.digest().as_bytes());
        let factors = self.modules.values().flat_map(|factors| [&factors.a, &factors.b]);
        for tensor in factors.chain(self.head.values()) {
            writer.write(bytemuck::cast_slice(tensor.values()));
        }
        writer.finish()
    }
}

/// [`Adapter::distance`] of adapters that are never whole: parts are added in name order, modules and extra tensors each by
/// themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct DistanceSum {
    modules: f64,
    head: f64,
}

impl DistanceSum {
    /// Adds the next module.
    pub fn add_module(&mut self, own: &LoraFactors, other: &LoraFactors) {
        for side in [Side::A, Side::B] {
            self.modules += own.side(side).squared_distance(other.side(side));
        }
    }

    /// Adds the next extra tensor.
    pub fn add_extra(&mut self, own: &Tensor, other: &Tensor) {
        self.head += own.squared_distance(other);
    }

    /// The distance over everything that was added.
    #[must_use]
    pub fn distance(&self) -> f64 {
        (self.modules + self.head).sqrt()
    }
}

/// Compares two ordered sets of names and names the first difference.
fn check_names<'a, T: Ord + 'a>(
    expected: impl Iterator<Item = &'a T>,
    found: impl Iterator<Item = &'a T>,
    text: impl Fn(&T) -> &str,
) -> Result<(), AdapterError> {
    let (mut expected, mut found) = (expected.peekable(), found.peekable());
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return Ok(()),
            (Some(want), Some(have)) if want == have => {}
            (Some(want), have) if have.is_none_or(|have| have > want) => {
                return Err(AdapterError::MissingTensor { name: text(want).to_owned() });
            }
            (_, Some(have)) => return Err(AdapterError::UnexpectedTensor { name: text(have).to_owned() }),
            (Some(want), None) => return Err(AdapterError::MissingTensor { name: text(want).to_owned() }),
        }
    }
}
