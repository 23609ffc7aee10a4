//! Frozen base models, and what training and evaluation ask of them.

mod bert;
mod block;
mod config;
mod decoder;
mod head;
mod linear;
mod llama;
mod mixer;
mod pass;
mod patches;
mod pooling;
mod precision;
mod pretrained;
mod pretraining;
mod residual;
mod source;
mod targets;
mod vision;
mod vit;
mod weights;

use std::{collections::BTreeMap, fmt::Debug};

use burn::tensor::{Device, Tensor};
use fedlora_adapter::{AdapterSpec, HeadSpec, ModuleName, ModuleSpec, Tensor as HostTensor};

use crate::{Batch, DropoutMasks, GroupedAdapter, LearnerError};

pub use bert::Bert;
pub use config::BertConfig;
pub use decoder::{Decoder, KeyValueCache};
pub use head::{Activation, HeadForm};
pub use linear::FrozenLayers;
pub use llama::Llama;
pub use mixer::{Mixer, MixerConfig};
pub use pooling::Pooling;
pub use precision::Precision;
pub(crate) use pretrained::CONFIG;
pub use pretrained::{load_pretrained, random_pretrained};
pub use pretraining::{PretrainedVision, Pretraining, Progress, pretrain};
pub use source::{BaseModel, ModelConfig};
pub use targets::{selected_modules, target_modules};
pub use vision::VisionConfig;
pub use vit::{TimmVitConfig, Vit, VitConfig};
pub use weights::WeightsError;
pub(crate) use weights::{INDEX as WEIGHTS_INDEX, SINGLE as WEIGHTS, shards};

/// Name of the classification head's weight, `[labels, features]`, in adapters and checkpoints.
pub const HEAD_WEIGHT: &str = "classifier.weight";
/// Name of the classification head's bias, `[labels]`.
pub const HEAD_BIAS: &str = "classifier.bias";

/// A frozen model with room for adapters. One model serves any number of threads and clients at a time.
///
/// An encoder predicts labels by a head that is part of the adapters. A [`Decoder`] predicts the next token by its own output
/// layer: its adapters have no head, and its batches have [`Targets::Tokens`](crate::Targets::Tokens).
pub trait Model: Debug + Send + Sync {
    /// The linear layers that adapters can wrap, by their names in the checkpoint.
    fn layers(&self) -> &FrozenLayers;

    /// Where the weights are.
    fn device(&self) -> Device {
        self.layers().device()
    }

    /// Every linear module that an adapter can wrap, by its name in the checkpoint.
    fn adaptable(&self) -> &BTreeMap<ModuleName, ModuleSpec> {
        self.layers().specs()
    }

    /// A frozen weight, `[d_out, d_in]`; none for a module that is not adaptable.
    fn frozen_weight(&self, module: &ModuleName) -> Option<HostTensor> {
        self.layers().weight(module)
    }

    /// Width of the features that the head or the output layer sees.
    fn feature_width(&self) -> usize;

    /// One row of features for each prediction, `[predictions, feature_width]`, without the head or the output layer: an
    /// encoder has one prediction for each example.
    ///
    /// Without adapters this is the base model. The adapters say how many of the examples are each group's.
    ///
    /// # Panics
    /// If the batch or its targets are not of the model's kind or hold token ids or sizes that the model does not have, or if
    /// the adapters' examples do not sum to the batch's.
    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2>;

    /// Logits of rows of features, `[rows, labels]`, or those of a decoder, `[rows, vocabulary]`, whatever the adapters.
    ///
    /// # Panics
    /// If an encoder's adapters have no head, or if their examples do not sum to the rows.
    fn logits(&self, features: Tensor<2>, adapters: &GroupedAdapter) -> Tensor<2> {
        match self.decoder() {
            Some(decoder) => decoder.logits(features),
            None => adapters.classify(self.head(), features),
        }
    }

    /// Logits, `[examples, labels]`, or those of a decoder, `[predictions, vocabulary]`.
    ///
    /// # Panics
    /// As [`Model::features`] and [`Model::logits`].
    fn forward(&self, batch: &Batch, adapters: &GroupedAdapter, dropout: Option<&mut DropoutMasks>) -> Tensor<2> {
        self.logits(self.features(batch, Some(adapters), dropout), adapters)
    }

    /// The model as one that predicts tokens by itself; none if it needs a head.
    fn decoder(&self) -> Option<&dyn Decoder> {
        None
    }

    /// What makes logits of an encoder's features.
    fn head(&self) -> HeadForm {
        HeadForm::LINEAR
    }

    /// The tensors of the classification head that the model's features need: none for a decoder, whatever the number of
    /// labels.
    fn head_spec(&self, labels: usize) -> HeadSpec {
        match self.decoder() {
            Some(_) => HeadSpec::new(),
            None => self.head().spec(self.feature_width(), labels),
        }
    }

    /// Checks that adapters of this specification fit the model.
    ///
    /// # Errors
    /// [`LearnerError::AdaptedModule`] for a module that the model lacks or has with other widths,
    /// [`LearnerError::Head`] for another head than [`Model::head_spec`]'s, [`LearnerError::HeadOfDecoder`] for any in a
    /// decoder's adapters.
    fn check(&self, spec: &AdapterSpec) -> Result<(), LearnerError> {
        let widths = |module: &ModuleSpec| (module.d_in, module.d_out);
        for (name, module) in &spec.modules {
            let (expected, found) = (self.adaptable().get(name).map(widths), widths(module));
            if expected != Some(found) {
                let module = name.to_string();
                return Err(LearnerError::AdaptedModule { module, expected, found });
            }
        }
        let found = || spec.head.iter().map(|(name, shape)| (name.clone(), shape.clone())).collect();
        if self.decoder().is_some() {
            let is_empty = spec.classifier().is_empty();
            return if is_empty { Ok(()) } else { Err(LearnerError::HeadOfDecoder { found: found() }) };
        }
        if self.head().labels(&spec.classifier(), self.feature_width()).is_some() {
            return Ok(());
        }
        let expected = self.head_spec(1).into_keys().collect();
        Err(LearnerError::Head { hidden: self.feature_width(), expected, found: found() })
    }
}
