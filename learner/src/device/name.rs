//! Names of devices, as they are typed.

use std::{fmt, str::FromStr};

use super::DeviceError;

/// A device that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeviceName {
    Auto,
    Cpu,
    /// A backend's device by its number, from 0.
    Gpu {
        backend: &'static str,
        number: usize,
    },
}

/// Names of the backends for GPUs, those that `auto` asks first before the others.
pub(super) const BACKENDS: [&str; 2] = ["cuda", "wgpu"];

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        let unknown = || DeviceError::Unknown { name: name.to_owned() };
        let (backend, number) = name.split_once(':').unwrap_or((name, "0"));
        let backend = BACKENDS.into_iter().find(|known| *known == backend).ok_or_else(unknown)?;
        // `parse` takes a sign.
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_number).ok_or_else(unknown)?;
        Ok(Self::Gpu { backend, number })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu { backend, number } => write!(f, "{backend}:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_can_be_left_out_and_anything_else_is_no_name() {
        for (typed, meant) in [("auto", "auto"), ("cpu", "cpu"), ("wgpu", "wgpu:0"), ("cuda:12", "cuda:12")] {
            assert_eq!(typed.parse::<DeviceName>().unwrap().to_string(), meant);
        }
        for typed in [
            "",
            "gpu",
            "Auto",
            "cpu:0",
            "wgpu:",
            "wgpu:-1",
            "wgpu:+1",
            "wgpu:0:1",
            "cuda 0",
            "cuda:99999999999999999999",
        ] {
            assert!(typed.parse::<DeviceName>().is_err(), "{typed:?} is a name");
        }
    }
}
