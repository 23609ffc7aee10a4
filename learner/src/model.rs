//! Frozen base models, and what training and evaluation ask of them.

mod bert;
mod block;
mod config;
mod linear;
mod mixer;
mod pass;
mod patches;
mod pooling;
mod pretrained;
mod pretraining;
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
pub use mixer::{Mixer, MixerConfig};
pub use pooling::Pooling;
pub use pretrained::{load_pretrained, random_pretrained};
pub use pretraining::{PretrainedVision, Pretraining, Progress, pretrain};
pub use source::ModelConfig;
pub use targets::target_modules;
pub use vision::VisionConfig;
pub use vit::{Vit, VitConfig};

/// Name of the classification head's weight, `[labels, features]`, in adapters and checkpoints.
pub const HEAD_WEIGHT: &str = "classifier.weight";
/// Name of the classification head's bias, `[labels]`.
pub const HEAD_BIAS: &str = "classifier.bias";

/// A frozen encoder with room for adapters. One model serves any number of threads and clients at a time.
pub trait Model: Debug + Send + Sync {
    /// Where the weights are.
    fn device(&self) -> Device;

    /// Every linear module that an adapter can wrap, by its name in the checkpoint.
    fn adaptable(&self) -> &BTreeMap<ModuleName, ModuleSpec>;

    /// A frozen weight, `[d_out, d_in]`; none for a module that is not adaptable.
    fn frozen_weight(&self, module: &ModuleName) -> Option<HostTensor>;

    /// Width of the features that the head sees.
    fn feature_width(&self) -> usize;

    /// One row of features for each example, `[examples, feature_width]`, without the head.
    ///
    /// Without adapters this is the base model. The adapters say how many of the examples are each group's.
    ///
    /// # Panics
    /// If the batch is not of the model's kind or holds token ids or sizes that the model does not have, or if the
    /// adapters' examples do not sum to the batch's.
    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2>;

    /// Logits, `[examples, labels]`.
    ///
    /// # Panics
    /// As [`Model::features`]; if the adapters have no head.
    fn forward(&self, batch: &Batch, adapters: &GroupedAdapter, dropout: Option<&mut DropoutMasks>) -> Tensor<2> {
        adapters.classify(self.features(batch, Some(adapters), dropout))
    }

    /// What the model's library calls the classification head, before `.weight` and `.bias`.
    fn head_module(&self) -> &'static str {
        "classifier"
    }

    /// The classification head that the model's features need.
    fn head_spec(&self, labels: usize) -> HeadSpec {
        let module = self.head_module();
        let weight = (format!("{module}.weight"), vec![labels, self.feature_width()]);
        HeadSpec::from([weight, (format!("{module}.bias"), vec![labels])])
    }

    /// Checks that adapters of this specification fit the model.
    ///
    /// # Errors
    /// [`LearnerError::AdaptedModule`] for a module that the model lacks or has with other widths,
    /// [`LearnerError::Head`] for another head than [`Model::head_spec`]'s.
    fn check(&self, spec: &AdapterSpec) -> Result<(), LearnerError> {
        let widths = |module: &ModuleSpec| (module.d_in, module.d_out);
        for (name, module) in &spec.modules {
            let expected = self.adaptable().get(name);
            if expected != Some(module) {
                let (module, expected, found) = (name.to_string(), expected.map(widths), widths(module));
                return Err(LearnerError::AdaptedModule { module, expected, found });
            }
        }
        let bias = spec.head.get(&format!("{}.bias", self.head_module()));
        let labels = bias.and_then(|shape| shape.first()).copied().unwrap_or(0);
        if labels > 0 && spec.head == self.head_spec(labels) {
            return Ok(());
        }
        let found = spec.head.iter().map(|(name, shape)| (name.clone(), shape.clone())).collect();
        Err(LearnerError::Head { module: self.head_module(), hidden: self.feature_width(), found })
    }
}
