//! Where tensors live: the choice of a compute device by name.

use burn::tensor::Device;

use crate::LearnerError;

/// Names that [`device`] knows.
pub const DEVICES: &[&str] = &["auto", "cpu"];

/// The device of the given name: `cpu`, or `auto` for the best that this build has.
///
/// This build has no GPU backend, so `auto` is the CPU. Tensors made on the device record no gradients; adapters ask
/// for them themselves.
///
/// # Errors
/// [`LearnerError::UnknownDevice`] for any other name.
pub fn device(name: &str) -> Result<Device, LearnerError> {
    match name {
        "auto" | "cpu" => Ok(Device::flex()),
        _ => Err(LearnerError::UnknownDevice { name: name.to_owned(), known: DEVICES }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_chosen_by_name() {
        assert_eq!(device("cpu").unwrap(), device("auto").unwrap());
        assert_eq!(device("tpu").unwrap_err().to_string(), "unknown device tpu, expected one of auto, cpu");
    }
}
