//! Frozen linear layers that adapters can find by name.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use fedlora_adapter::{AdapterKind, AdapterSpec, ModuleName, ModuleSpec, Tensor as HostTensor};

use super::residual::Residual;
use crate::{evaluate::read, ops::FrozenWeight};

/// `x Wᵀ + b`, frozen.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// Name in adapters: that of the checkpoint, without `.weight`, behind the model's prefix.
    pub(super) name: ModuleName,
    /// `[d_out, d_in]`.
    pub(super) weight: FrozenWeight,
    /// `[d_out]`.
    pub(super) bias: Tensor<1>,
    residual: Residual,
}

impl Linear {
    /// A layer of its name, weight `[d_out, d_in]` and bias `[d_out]`.
    pub(super) fn new(name: ModuleName, weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self { name, weight: weight.into(), bias, residual: Residual::default() }
    }

    /// The frozen weight that adapters of this specification are added to.
    pub(super) fn base(&self, spec: &AdapterSpec) -> FrozenWeight {
        match spec.kind {
            AdapterKind::Olora => self.residual.of(&self.weight, spec.rank, spec.scaling()),
            AdapterKind::Lora | AdapterKind::Vera | AdapterKind::Dora => self.weight.clone(),
        }
    }

    /// Widths of input and output.
    fn spec(&self) -> ModuleSpec {
        let [d_out, d_in] = self.weight.tensor().dims();
        ModuleSpec { d_in, d_out }
    }
}

/// A model's linear layers by name.
#[derive(Debug, Clone)]
pub(super) struct Linears {
    specs: BTreeMap<ModuleName, ModuleSpec>,
    weights: BTreeMap<ModuleName, Tensor<2>>,
}

impl Linears {
    pub(super) fn new<'a>(layers: impl IntoIterator<Item = &'a Linear>) -> Self {
        let (mut specs, mut weights) = (BTreeMap::new(), BTreeMap::new());
        for layer in layers {
            specs.insert(layer.name.clone(), layer.spec());
            weights.insert(layer.name.clone(), layer.weight.tensor().clone());
        }
        Self { specs, weights }
    }

    /// Widths of all layers.
    pub(super) fn specs(&self) -> &BTreeMap<ModuleName, ModuleSpec> {
        &self.specs
    }

    /// A copy of a layer's weight, `[d_out, d_in]`.
    pub(super) fn weight(&self, name: &ModuleName) -> Option<HostTensor> {
        let weight = self.weights.get(name)?.clone();
        let shape = weight.dims().to_vec();
        HostTensor::new(shape, read(weight).ok()?).ok()
    }
}
