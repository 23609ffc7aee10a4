//! The classification heads of all groups.

use burn::tensor::Tensor;

use super::{GroupedAdapter, ParameterKey};
use crate::{
    model::{HEAD_BIAS, HEAD_WEIGHT},
    ops,
};

impl GroupedAdapter {
    /// Logits `[examples, labels]` of features `[examples, width]`, each group by its own head.
    ///
    /// # Panics
    /// If there is no head; [`Model::check`](crate::Model::check) finds such a specification.
    pub(crate) fn classify(&self, features: Tensor<2>) -> Tensor<2> {
        let tensor = |name: &str| self.value(&ParameterKey::Head(name.to_owned()));
        let (Some(weight), Some(bias)) = (tensor(HEAD_WEIGHT), tensor(HEAD_BIAS)) else {
            panic!("the adapter has no {HEAD_WEIGHT} and {HEAD_BIAS}");
        };
        ops::grouped_linear(features, weight, bias, self.examples())
    }
}
