//! The classification heads of all groups.

use burn::tensor::Tensor;

use super::{GroupedAdapter, ParameterKey};
use crate::ops;

impl GroupedAdapter {
    /// Logits `[examples, labels]` of features `[examples, width]`, each group by its own head.
    ///
    /// # Panics
    /// If there is no head; [`Model::check`](crate::Model::check) finds such a specification.
    pub(crate) fn classify(&self, features: Tensor<2>) -> Tensor<2> {
        // One head, whatever its model calls it.
        let tensor = |end: &str| {
            let name = self.spec().head.keys().find(|name| name.ends_with(end))?;
            self.value(&ParameterKey::Head(name.clone()))
        };
        let (Some(weight), Some(bias)) = (tensor(".weight"), tensor(".bias")) else {
            panic!("the adapter has no head with a weight and a bias");
        };
        ops::grouped_linear(features, weight, bias, self.examples())
    }
}
