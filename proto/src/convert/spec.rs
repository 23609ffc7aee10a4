//! What the adapter of a run consists of.

use fedlora_adapter::{AdapterKind, AdapterSpec, HeadSpec, ModuleName, ModuleSpec};

use super::size;
use crate::{ProtoError, federation as wire};

impl From<&AdapterSpec> for wire::AdapterSpec {
    fn from(spec: &AdapterSpec) -> Self {
        let kind = match spec.kind {
            AdapterKind::Lora => wire::AdapterKind::Lora,
            AdapterKind::Vera => wire::AdapterKind::Vera,
            AdapterKind::Olora => wire::AdapterKind::Olora,
            AdapterKind::Dora => wire::AdapterKind::Dora,
            AdapterKind::LoraXs => wire::AdapterKind::LoraXs,
        };
        let modules = spec.modules.iter().map(|(name, module)| wire::Module {
            name: name.as_str().to_owned(),
            d_in: module.d_in as u64,
            d_out: module.d_out as u64,
            rank: module.rank.map(|rank| rank as u64),
            alpha: module.alpha,
        });
        let head = spec.head.iter().map(|(name, shape)| wire::HeadTensor {
            name: name.clone(),
            shape: shape.iter().map(|&size| size as u64).collect(),
        });
        Self {
            kind: kind.into(),
            rank: spec.rank as u64,
            alpha: spec.alpha,
            use_rslora: spec.use_rslora,
            projection_seed: spec.projection_seed,
            modules: modules.collect(),
            head: head.collect(),
        }
    }
}

impl TryFrom<wire::AdapterSpec> for AdapterSpec {
    type Error = ProtoError;

    fn try_from(message: wire::AdapterSpec) -> Result<Self, ProtoError> {
        let kind = match wire::AdapterKind::try_from(message.kind) {
            Ok(wire::AdapterKind::Lora) => AdapterKind::Lora,
            Ok(wire::AdapterKind::Vera) => AdapterKind::Vera,
            Ok(wire::AdapterKind::Olora) => AdapterKind::Olora,
            Ok(wire::AdapterKind::Dora) => AdapterKind::Dora,
            Ok(wire::AdapterKind::LoraXs) => AdapterKind::LoraXs,
            Ok(wire::AdapterKind::Unspecified) | Err(_) => {
                return Err(ProtoError::UnknownValue { field: "spec.kind", found: message.kind });
            }
        };
        let module = |module: wire::Module| {
            let own = ModuleSpec {
                d_in: size("module.d_in", module.d_in)?,
                d_out: size("module.d_out", module.d_out)?,
                rank: module.rank.map(|rank| size("module.rank", rank)).transpose()?,
                alpha: module.alpha,
            };
            Ok::<_, ProtoError>((ModuleName::new(module.name), own))
        };
        let head = |tensor: wire::HeadTensor| {
            let shape = tensor.shape.into_iter().map(|width| size("head.shape", width)).collect::<Result<_, _>>()?;
            Ok::<_, ProtoError>((tensor.name, shape))
        };
        let spec = Self {
            kind,
            rank: size("spec.rank", message.rank)?,
            alpha: message.alpha,
            use_rslora: message.use_rslora,
            projection_seed: message.projection_seed,
            modules: message.modules.into_iter().map(module).collect::<Result<_, _>>()?,
            head: message.head.into_iter().map(head).collect::<Result<HeadSpec, _>>()?,
        };
        spec.validate()?;
        Ok(spec)
    }
}
