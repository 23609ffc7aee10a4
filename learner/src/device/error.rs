//! Why nothing can be computed on a device.

use super::DEVICE_NAMES;

/// Why a device could not be used, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A device name that is not known.
    #[error("unknown device {name}, expected {}; the command devices lists what this machine has", DEVICE_NAMES)]
    Unknown {
        /// The name.
        name: String,
    },
    /// A device of a backend that is not in this build.
    #[error(
        "device {name}: this program was built for {} only; build it with --features {feature}, or choose another device",
        built.join(", ")
    )]
    NotBuilt {
        /// The device's name.
        name: String,
        /// The cargo feature that is missing.
        feature: &'static str,
        /// What the build has.
        built: Vec<String>,
    },
    /// A device that this machine does not have.
    #[error("there is no device {name} on this machine, which has {}; choose one of them, or auto", found.join(", "))]
    NoSuch {
        /// The device's name.
        name: String,
        /// Devices that are there.
        found: Vec<String>,
    },
    /// A device that is there and does not work.
    #[error("device {name} cannot be used: {reason}; see to its driver, or choose another device, such as cpu")]
    Unusable {
        /// The device's name.
        name: String,
        /// What it or its driver said.
        reason: String,
    },
    /// The device failed while computing.
    #[error("the device failed: {0}")]
    Failed(String),
    /// The device has too little memory for a single example.
    #[error("the device is out of memory with one example at a time: {0}; shorten the examples or take another device")]
    OutOfMemory(String),
    /// A device without numbers of the type that a model's weights should have.
    #[error("the device has no {dtype}: set model.dtype to another type, or choose another device")]
    Precision {
        /// The type.
        dtype: &'static str,
    },
}
