//! Devices to compute on: what there are, and the one that was asked for.

use std::fmt::Write;

use fedlora_learner::{Device, DeviceInfo, LearnerError, choose_device, devices, missing_backends};
use serde_json::json;

use super::Answer;

const GIB: f64 = (1_u64 << 30) as f64;

/// The device of this name; where `auto` finds no GPU in a build that could use one, it says so on standard error.
///
/// # Errors
/// As [`choose_device`].
pub fn open(name: &str) -> Result<Device, LearnerError> {
    let chosen = choose_device(name)?;
    if let Some(warning) = &chosen.warning {
        eprintln!("warning: {warning}");
    }
    Ok(chosen.device)
}

/// All devices of this machine that this build can use, and which one `auto` takes.
#[must_use]
pub fn list() -> Answer {
    let (devices, missing) = (devices(), missing_backends());
    let auto = devices.iter().find(|device| device.auto).map(|device| device.name.clone());
    Answer::new(table(&devices, &missing), json!({ "devices": devices, "auto": auto, "not_built": missing }))
}

/// A line for each device, then what `auto` means and what another build could use.
fn table(devices: &[DeviceInfo], missing: &[&str]) -> String {
    let mut text = format!("{:<8} {:<15} {:<10} {}\n", "device", "kind", "memory", "model");
    for device in devices {
        let memory =
            device.memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / GIB));
        let model = match (&device.problem, &device.model) {
            (Some(problem), _) => format!("cannot be used: {problem}"),
            (None, Some(model)) => model.clone(),
            (None, None) => "unknown".to_owned(),
        };
        let _ = writeln!(text, "{:<8} {:<15} {memory:<10} {model}", device.name, device.kind.name());
    }
    if let Some(auto) = devices.iter().find(|device| device.auto) {
        let _ = writeln!(text, "\nauto is {}", auto.name);
    }
    if !missing.is_empty() {
        let _ = writeln!(text, "not in this build: {} (cargo features of these names)", missing.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use fedlora_learner::DeviceKind;

    use super::*;

    fn device(name: &str, kind: DeviceKind) -> DeviceInfo {
        DeviceInfo { name: name.to_owned(), kind, model: None, memory_bytes: None, problem: None, auto: false }
    }

    #[test]
    fn a_table_has_a_line_for_each_device_and_says_what_auto_is() {
        let card = DeviceInfo {
            model: Some("Volcano 9000".to_owned()),
            memory_bytes: Some(24 << 30),
            auto: true,
            ..device("cuda:0", DeviceKind::DiscreteGpu)
        };
        let broken =
            DeviceInfo { problem: Some("driver too old".to_owned()), ..device("wgpu:0", DeviceKind::VirtualGpu) };
        let expected = "\
device   kind            memory     model
cpu      cpu             unknown    unknown
cuda:0   discrete-gpu    24.0 GiB   Volcano 9000
wgpu:0   virtual-gpu     unknown    cannot be used: driver too old

auto is cuda:0
not in this build: rocm (cargo features of these names)
";
        assert_eq!(table(&[device("cpu", DeviceKind::Cpu), card, broken], &["rocm"]), expected);
    }
}
