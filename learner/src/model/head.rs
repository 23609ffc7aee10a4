//! What turns features into logits: one linear layer, or a family's own classifier of two.

use burn::tensor::{Tensor, activation};
use fedlora_adapter::HeadSpec;

/// A classification head: its layers by name, as `transformers` calls them. All of them are trained with the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadForm {
    /// A layer as wide as the features, if there is one: its name and what is applied to its output.
    pub hidden: Option<(&'static str, Activation)>,
    /// The layer with one row for each label.
    pub output: &'static str,
    /// Whether its layers have biases.
    pub biases: bool,
}

/// What a head applies to the output of its hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Hyperbolic tangent.
    Tanh,
    /// The larger of the value and 0.
    Relu,
}

impl Activation {
    pub(crate) fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tanh => x.tanh(),
            Self::Relu => activation::relu(x),
        }
    }
}

impl HeadForm {
    /// One layer, [`HEAD_WEIGHT`](crate::HEAD_WEIGHT) and [`HEAD_BIAS`](crate::HEAD_BIAS).
    pub const LINEAR: Self = Self { hidden: None, output: "classifier", biases: true };
    /// `transformers`' `RobertaClassificationHead`.
    pub const ROBERTA: Self =
        Self { hidden: Some(("classifier.dense", Activation::Tanh)), output: "classifier.out_proj", biases: true };
    /// The two layers of `DistilBertForSequenceClassification`.
    pub const DISTILBERT: Self =
        Self { hidden: Some(("pre_classifier", Activation::Relu)), output: "classifier", biases: true };
    /// The one layer, without a bias, of the classes of `transformers` that classify sequences by a decoder.
    pub const DECODER: Self = Self { hidden: None, output: "score", biases: false };
    /// `timm`'s one layer.
    pub const TIMM: Self = Self { hidden: None, output: "head", biases: true };

    /// Names of a layer's weight, `[d_out, d_in]`, and of its bias, `[d_out]`.
    #[must_use]
    pub fn tensors(layer: &str) -> [String; 2] {
        [format!("{layer}.weight"), format!("{layer}.bias")]
    }

    /// All tensors of a head over features of this width.
    #[must_use]
    pub fn spec(&self, width: usize, labels: usize) -> HeadSpec {
        let hidden = self.hidden.map(|(layer, _)| (layer, width));
        let layers = hidden.into_iter().chain([(self.output, labels)]);
        let tensors = layers.flat_map(|(layer, d_out)| {
            let [weight, bias] = Self::tensors(layer);
            let bias = self.biases.then(|| (bias, vec![d_out]));
            [(weight, vec![d_out, width])].into_iter().chain(bias)
        });
        tensors.collect()
    }

    /// The number of labels of a head in this form; none for another head.
    #[must_use]
    pub fn labels(&self, head: &HeadSpec, width: usize) -> Option<usize> {
        let [weight, _] = Self::tensors(self.output);
        let labels = head.get(&weight).and_then(|shape| shape.first()).copied()?;
        (labels > 0 && *head == self.spec(width, labels)).then_some(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HEAD_BIAS, HEAD_WEIGHT};

    #[test]
    fn a_head_has_the_names_of_transformers_and_knows_its_labels() {
        assert_eq!(HeadForm::LINEAR.spec(4, 3).keys().collect::<Vec<_>>(), [HEAD_BIAS, HEAD_WEIGHT]);
        let names = ["classifier.bias", "classifier.weight", "pre_classifier.bias", "pre_classifier.weight"];
        assert_eq!(HeadForm::DISTILBERT.spec(4, 3).into_keys().collect::<Vec<_>>(), names);
        let roberta = HeadForm::ROBERTA.spec(4, 3);
        assert_eq!(roberta["classifier.dense.weight"], [4, 4]);
        assert_eq!(roberta["classifier.out_proj.weight"], [3, 4]);
        assert_eq!(HeadForm::ROBERTA.labels(&roberta, 4), Some(3));
        assert_eq!(HeadForm::ROBERTA.labels(&roberta, 5), None);
        assert_eq!(HeadForm::LINEAR.labels(&roberta, 4), None);
        let score = HeadForm::DECODER.spec(4, 3);
        assert_eq!(score.keys().collect::<Vec<_>>(), ["score.weight"]);
        assert_eq!((HeadForm::DECODER.labels(&score, 4), HeadForm::LINEAR.labels(&score, 4)), (Some(3), None));
    }
}
