//! What OLoRA leaves of a frozen weight, made once for all who ask.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};
use fedlora_adapter::{ModuleSpec, Tensor as HostTensor, residual_weight};

use crate::{LearnerError, evaluate::read, ops::FrozenWeight};

/// The residual weight of a layer for the rank and the scaling that were asked for last: one run has one of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Residual(Arc<Mutex<Option<Made>>>);

#[derive(Debug, Clone)]
struct Made {
    rank: usize,
    scaling: f64,
    weight: FrozenWeight,
}

impl Residual {
    /// `W0 - s·B0·A0` of OLoRA's first factors.
    ///
    /// # Panics
    /// If the device does not give the weight back.
    pub(super) fn of(&self, weight: &FrozenWeight, rank: usize, scaling: f64) -> FrozenWeight {
        // Whoever panicked in here left the place empty or full, never in between.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |made: &&Made| made.rank == rank && made.scaling.to_bits() == scaling.to_bits();
        if let Some(made) = made.as_ref().filter(is_same) {
            return made.weight.clone();
        }
        // Unwrap safety: the shape is the weight's own, and a device that gives back no weight computes nothing else.
        let weight = residual(weight.tensor(), rank, scaling).expect("a weight that the device gives back");
        *made = Some(Made { rank, scaling, weight: weight.clone() });
        weight
    }
}

fn residual(weight: &Tensor<2>, rank: usize, scaling: f64) -> Result<FrozenWeight, LearnerError> {
    let [d_out, d_in] = weight.dims();
    let host = HostTensor::new(vec![d_out, d_in], read(weight.clone())?)?;
    let rest = residual_weight(&host, &ModuleSpec::new(d_in, d_out), rank, scaling)?;
    let values = TensorData::new(rest.values().to_vec(), [d_out, d_in]);
    Ok(Tensor::<2>::from_data(values, &weight.device()).cast(weight.dtype()).into())
}
