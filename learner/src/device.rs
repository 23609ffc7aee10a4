//! Where tensors live: the choice of a compute device by name.
//!
//! GPUs are found by asking for them, never by taking what burn thinks a default: a machine without any has none then,
//! instead of one that fails at the first tensor.

mod error;
mod failure;
mod gpu;
mod machine;
mod name;
mod processor;

use burn::tensor::Device;
use serde::Serialize;

use self::{machine::Machine, name::DeviceName};

pub use self::error::DeviceError;

/// The names that [`device`] knows.
pub const DEVICE_NAMES: &str = "auto, cpu, wgpu:N or cuda:N";

/// A device that was chosen, and what there is to say about the choice.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// The device. Tensors made on it record no gradients; adapters ask for them themselves.
    pub device: Device,
    /// Its name, never `auto`.
    pub name: String,
    /// Why `auto` came to less than somebody may hope for; to be said once.
    pub warning: Option<String>,
}

/// A device of this machine, as far as this build can see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// What [`device`] takes.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// What its maker calls it, if that is known.
    pub model: Option<String>,
    /// Its memory in bytes, if that is known.
    pub memory_bytes: Option<u64>,
    /// Why nothing can be computed on it.
    pub problem: Option<String>,
    /// Whether `auto` takes it.
    pub auto: bool,
}

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A card with memory of its own.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A part of a GPU that a virtual machine was given.
    VirtualGpu,
    /// A device that its driver does not describe.
    Other,
    /// A graphics driver that computes on the processor, for tests; `auto` never takes one.
    Software,
    /// The processor, with this crate's own operations.
    Cpu,
}

impl DeviceKind {
    /// The kind in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DiscreteGpu => "discrete-gpu",
            Self::IntegratedGpu => "integrated-gpu",
            Self::VirtualGpu => "virtual-gpu",
            Self::Other => "other",
            Self::Software => "software",
            Self::Cpu => "cpu",
        }
    }
}

/// The device of the given name: `cpu`; `wgpu:N` or `cuda:N`, counted from 0 as [`devices`] lists them, where `:0` can be
/// left out; or `auto`, the best GPU, and the CPU where there is none. Software devices are taken by name only.
///
/// A GPU that is returned has computed something.
///
/// # Errors
/// [`DeviceError::Unknown`] for another name, [`DeviceError::NotBuilt`] where this build lacks the feature,
/// [`DeviceError::NoSuch`] where the machine lacks the device, [`DeviceError::Unusable`] where it fails.
pub fn choose_device(name: &str) -> Result<ChosenDevice, DeviceError> {
    Machine::this().choose(name.parse::<DeviceName>()?)
}

/// [`choose_device`] for those who have nobody to warn.
///
/// # Errors
/// As [`choose_device`].
pub fn device(name: &str) -> Result<Device, DeviceError> {
    choose_device(name).map(|chosen| chosen.device)
}

/// All devices of this machine that this build can use, the CPU first. Every GPU is opened for its name.
#[must_use]
pub fn devices() -> Vec<DeviceInfo> {
    Machine::this().list()
}

/// Names of the features for GPUs that this build lacks.
#[must_use]
pub fn missing_backends() -> Vec<&'static str> {
    Machine::this().missing()
}

/// Whether the fused operations run there.
pub(crate) fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there_and_unknown_names_are_refused_with_the_known_ones() {
        let cpu = choose_device("cpu").unwrap();
        assert!(is_cpu(&cpu.device));
        assert_eq!((cpu.name.as_str(), cpu.warning), ("cpu", None));
        let error = device("tpu").unwrap_err().to_string();
        assert!(error.starts_with("unknown device tpu, expected auto, cpu, wgpu:N or cuda:N"), "{error}");
        let listed = devices();
        assert_eq!((listed[0].name.as_str(), listed[0].kind), ("cpu", DeviceKind::Cpu));
        assert_eq!(listed.iter().filter(|device| device.auto).count(), 1);
    }

    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    #[test]
    fn without_a_gpu_backend_auto_is_the_cpu_and_needs_no_warning() {
        let auto = choose_device("auto").unwrap();
        assert_eq!((auto.name.as_str(), auto.warning), ("cpu", None));
        assert_eq!(devices().len(), 1);
        let error = device("wgpu:1").unwrap_err().to_string();
        assert!(error.contains("wgpu:1") && error.contains("--features wgpu"), "{error}");
    }
}
