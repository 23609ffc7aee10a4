//! How many bits a frozen weight has.

use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use super::weights::Weights;
use crate::{DeviceError, LearnerError};

/// The type in which a base model's matrices are kept, by its name in `transformers`. Adapters, everything that is trained,
/// normalisations and biases are `float32` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Float32,
    /// 16 bits with the range of 32. Products with frozen weights take inputs and give outputs of this type, which is what
    /// GPUs compute fastest.
    Bfloat16,
    /// 16 bits for values from 6e-8 to 65,504. Gradients can be smaller and outputs larger, so only the weights are kept so,
    /// and are widened for each product.
    Float16,
}

impl Precision {
    /// The name in `transformers`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }

    fn dtype(self) -> FloatDType {
        match self {
            Self::Float32 => FloatDType::F32,
            Self::Bfloat16 => FloatDType::BF16,
            Self::Float16 => FloatDType::F16,
        }
    }

    /// Checks that a device has numbers of this type.
    ///
    /// # Errors
    /// [`DeviceError::Precision`] where it has not.
    pub(super) fn check(self, device: &Device) -> Result<(), DeviceError> {
        if device.supports_dtype(self.dtype()) {
            return Ok(());
        }
        Err(DeviceError::Precision { dtype: self.name() })
    }
}

/// A source whose matrices are rounded to a precision.
#[derive(Debug)]
pub(super) struct Rounded<W> {
    pub(super) weights: W,
    pub(super) precision: Precision,
}

impl<W: Weights> Weights for Rounded<W> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LearnerError> {
        let tensor = self.weights.tensor(name, shape)?;
        Ok(if D == 2 { tensor.cast(self.precision.dtype()) } else { tensor })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use fedlora_adapter::Seed;

    use super::super::weights::{Deviation, RandomWeights};
    use super::*;

    #[test]
    fn matrices_are_kept_in_the_precision_and_vectors_in_32_bits() {
        for (precision, dtype) in
            [(Precision::Float32, DType::F32), (Precision::Bfloat16, DType::BF16), (Precision::Float16, DType::F16)]
        {
            let weights = RandomWeights { seed: Seed(1), deviation: Deviation::FanIn, device: Device::flex() };
            let mut rounded = Rounded { weights, precision };
            assert_eq!(rounded.tensor("a.weight", [3, 2]).unwrap().dtype(), dtype);
            assert_eq!(rounded.tensor("a.bias", [3]).unwrap().dtype(), DType::F32);
            precision.check(&Device::flex()).unwrap();
        }
    }
}
