//! What goes into adapted layers, taken down on the way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::Tensor;
use fedlora_adapter::ModuleName;

/// Inputs of one pass by layer, `[T, d_in]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct InputRecorder(Arc<Mutex<BTreeMap<ModuleName, Tensor<2>>>>);

impl InputRecorder {
    /// Takes down the input of a layer.
    pub(crate) fn record(&self, layer: &ModuleName, x: &Tensor<2>) {
        // Whoever panicked in here left the map as it was before or after.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.clone(), x.clone());
    }

    /// What was taken down since the last time.
    pub(crate) fn take(&self) -> BTreeMap<ModuleName, Tensor<2>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
