//! Between adapters in memory and their tensors on a device.

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::{Adapter, AdapterSpec, Side, Tensor as HostTensor};

use super::{Parameter, ParameterKey};
use crate::{LearnerError, evaluate::read};

/// Every tensor of a specification: factors by module and side, then the head by name.
pub(super) fn keys(spec: &AdapterSpec) -> Vec<ParameterKey> {
    let sides = |module| [Side::A, Side::B].map(|side| ParameterKey::Factor(Clone::clone(module), side));
    let head = spec.head.keys().cloned().map(ParameterKey::Head);
    spec.modules.keys().flat_map(sides).chain(head).collect()
}

/// One tensor of several adapters of the same specification, `[G, rows, columns]`.
pub(super) fn stack(adapters: &[&Adapter], key: &ParameterKey, device: &Device) -> Tensor<3> {
    let tensors: Vec<&HostTensor> = adapters.iter().filter_map(|adapter| find(adapter, key)).collect();
    let (rows, columns) = tensors.first().map_or((0, 0), |tensor| (tensor.as_ref().rows(), tensor.as_ref().columns()));
    let values: Vec<f32> = tensors.iter().flat_map(|tensor| tensor.values()).copied().collect();
    Tensor::from_data(TensorData::new(values, [tensors.len(), rows, columns]), device)
}

/// The adapters with the given parameters in place of their own.
pub(super) fn unstack(origins: &[Adapter], parameters: &[Parameter]) -> Result<Vec<Adapter>, LearnerError> {
    let values =
        parameters.iter().map(|parameter| read(parameter.value.clone().inner())).collect::<Result<Vec<_>, _>>()?;
    let one = |(group, origin): (usize, &Adapter)| {
        let (spec, mut modules, mut head) = origin.clone().into_parts();
        for (parameter, values) in parameters.iter().zip(&values) {
            let length = values.len() / origins.len();
            let own = values.iter().skip(group * length).take(length).copied().collect();
            match &parameter.key {
                ParameterKey::Factor(module, side) => {
                    if let Some(factors) = modules.get_mut(module) {
                        factors.set(*side, HostTensor::new(factors.side(*side).shape().to_vec(), own)?);
                    }
                }
                ParameterKey::Head(name) => {
                    if let Some(tensor) = head.get_mut(name) {
                        *tensor = HostTensor::new(tensor.shape().to_vec(), own)?;
                    }
                }
            }
        }
        Ok(Adapter::new(spec, modules, head)?)
    };
    origins.iter().enumerate().map(one).collect()
}

fn find<'a>(adapter: &'a Adapter, key: &ParameterKey) -> Option<&'a HostTensor> {
    match key {
        ParameterKey::Factor(module, side) => adapter.modules().get(module).map(|factors| factors.side(*side)),
        ParameterKey::Head(name) => adapter.head().get(name),
    }
}
