//! The classification heads of all groups.

use burn::tensor::Tensor;

use super::{GroupedAdapter, ParameterKey};
use crate::{model::HeadForm, ops};

impl GroupedAdapter {
    /// Logits `[examples, labels]` of features `[examples, width]`, each group by its own head.
    ///
    /// # Panics
    /// If there is no head of this form; [`Model::check`](crate::Model::check) finds such a specification.
    pub(crate) fn classify(&self, form: HeadForm, features: Tensor<2>) -> Tensor<2> {
        let features = match form.hidden {
            Some((layer, activation)) => activation.apply(self.head_layer(form, layer, features)),
            None => features,
        };
        self.head_layer(form, form.output, features)
    }

    fn head_layer(&self, form: HeadForm, layer: &str, x: Tensor<2>) -> Tensor<2> {
        let [weight, bias] = HeadForm::tensors(layer).map(|name| self.value(&ParameterKey::Head(name)));
        let Some(weight) = weight.filter(|_| bias.is_some() == form.biases) else {
            panic!("the adapter has no {layer} as the model needs it")
        };
        ops::grouped_linear(x, weight, bias, self.examples())
    }
}
