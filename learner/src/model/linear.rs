//! Frozen linear layers that adapters can find by name.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use fedlora_adapter::{AdapterKind, AdapterSpec, ModuleName, ModuleSpec, Tensor as HostTensor};

use super::residual::Residual;
use crate::{evaluate::read, ops::FrozenWeight};

/// `x Wᵀ + b`, frozen, or `x Wᵀ`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// Name in adapters: that of the checkpoint, without `.weight`, behind the model's prefix.
    pub(super) name: ModuleName,
    /// `[d_out, d_in]`.
    pub(super) weight: FrozenWeight,
    /// `[d_out]`.
    pub(super) bias: Option<Tensor<1>>,
    residual: Residual,
}

impl Linear {
    /// A layer of its name and weight `[d_out, d_in]`, without a bias.
    pub(super) fn new(name: ModuleName, weight: Tensor<2>) -> Self {
        Self { name, weight: weight.into(), bias: None, residual: Residual::default() }
    }

    /// The same with a bias `[d_out]`.
    pub(super) fn with_bias(self, bias: Tensor<1>) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// The frozen weight that adapters of this specification are added to.
    pub(super) fn base(&self, spec: &AdapterSpec) -> FrozenWeight {
        match spec.kind {
            AdapterKind::Olora => match spec.modules.get(&self.name) {
                Some(module) => self.residual.of(&self.weight, spec.rank_of(module), spec.scaling_of(module)),
                None => self.weight.clone(),
            },
            AdapterKind::Lora | AdapterKind::Vera | AdapterKind::Dora | AdapterKind::LoraXs => self.weight.clone(),
        }
    }
}

/// A model's frozen linear layers by name, and where they are.
#[derive(Debug, Clone)]
pub struct FrozenLayers {
    specs: BTreeMap<ModuleName, ModuleSpec>,
    weights: BTreeMap<ModuleName, Tensor<2>>,
    device: Device,
}

impl FrozenLayers {
    /// Layers of the given weights, `[d_out, d_in]` each.
    pub fn new(layers: impl IntoIterator<Item = (ModuleName, Tensor<2>)>, device: &Device) -> Self {
        let weights: BTreeMap<_, _> = layers.into_iter().collect();
        let spec = |weight: &Tensor<2>| {
            let [d_out, d_in] = weight.dims();
            ModuleSpec::new(d_in, d_out)
        };
        let specs = weights.iter().map(|(name, weight)| (name.clone(), spec(weight))).collect();
        Self { specs, weights, device: device.clone() }
    }

    /// Those of some layers of a model.
    pub(super) fn of<'a>(layers: impl IntoIterator<Item = &'a Linear>, device: &Device) -> Self {
        Self::new(layers.into_iter().map(|layer| (layer.name.clone(), layer.weight.tensor().clone())), device)
    }

    /// Where the weights are.
    pub(super) fn device(&self) -> Device {
        self.device.clone()
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
