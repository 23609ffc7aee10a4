//! Finding and opening GPUs.
//!
//! What is found is opened before anything else touches it, so that a device that is not there is an error here and no
//! panic of a thread in the backend.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::DispatchDevice;
use burn::tensor::{Device, DeviceType, Tensor};

use super::super::{
    DeviceKind,
    machine::{Card, Gpu},
};
use crate::{evaluate::read, panics};

/// Every card that CUDA reports; none without its driver.
#[cfg(feature = "cuda")]
pub(super) fn cuda() -> Vec<Gpu> {
    // The library that loads the driver panics where there is none.
    let found = catch_unwind(|| Device::enumerate(DeviceType::Cuda).into_vec()).unwrap_or_default();
    found.into_iter().map(|device| Gpu::new(device, DeviceKind::DiscreteGpu, probe)).collect()
}

/// Every adapter of the graphics API that wgpu settles on: Vulkan, Metal or DX12.
#[cfg(feature = "wgpu")]
pub(super) fn wgpu() -> Vec<Gpu> {
    let found = Device::enumerate(DeviceType::Wgpu).into_vec();
    found.into_iter().map(|device| Gpu::new(device.clone(), kind(&device), open)).collect()
}

#[cfg(feature = "wgpu")]
fn kind(device: &Device) -> DeviceKind {
    use burn::backend::WgpuDeviceKind;
    match wgpu_kind(device) {
        Some(WgpuDeviceKind::DiscreteGpu(_)) => DeviceKind::DiscreteGpu,
        Some(WgpuDeviceKind::IntegratedGpu(_)) => DeviceKind::IntegratedGpu,
        Some(WgpuDeviceKind::VirtualGpu(_)) => DeviceKind::VirtualGpu,
        Some(WgpuDeviceKind::Cpu) => DeviceKind::Software,
        _ => DeviceKind::Other,
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_kind(device: &Device) -> Option<burn::backend::WgpuDeviceKind> {
    match device.as_dispatch() {
        DispatchDevice::Cube(burn::backend::CubeDevice::Wgpu(device)) => Some(device.kind.clone()),
        _ => None,
    }
}

#[cfg(feature = "wgpu")]
fn open(device: &Device) -> Result<Card, String> {
    use burn::backend::WgpuDeviceKind;
    use burn::tensor::DeviceKind as Selector;
    let selector = match wgpu_kind(device) {
        Some(WgpuDeviceKind::DiscreteGpu(number)) => Some(Selector::DiscreteGpu(number)),
        Some(WgpuDeviceKind::IntegratedGpu(number)) => Some(Selector::IntegratedGpu(number)),
        Some(WgpuDeviceKind::VirtualGpu(number)) => Some(Selector::VirtualGpu(number)),
        Some(WgpuDeviceKind::Cpu) => Some(Selector::Cpu),
        // Cannot be selected; it is opened by its first use.
        _ => None,
    };
    if let Some(selector) = selector {
        Device::wgpu_options().device_kind(selector).init().map_err(|error| error.to_string())?;
    }
    probe(device)
}

/// Lets the device compute something, and asks it for its name.
fn probe(device: &Device) -> Result<Card, String> {
    let probe = AssertUnwindSafe(|| {
        let sums = read(Tensor::<1>::from_data([1.0_f32, 2.0], device).add_scalar(1.0)).map_err(|e| e.to_string())?;
        if sums != [2.0, 3.0] {
            return Err(format!("it says that 1 + 1 and 2 + 1 are {sums:?}"));
        }
        let model = device.identity().map_or_else(|| "unknown".to_owned(), |identity| identity.name);
        Ok(Card { model, memory_bytes: memory_bytes(device) })
    });
    catch_unwind(probe).unwrap_or_else(|panic| Err(panics::message(panic.as_ref())))
}

fn memory_bytes(device: &Device) -> Option<u64> {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => device.client().properties().memory.max_memory(),
        _ => None,
    }
}
