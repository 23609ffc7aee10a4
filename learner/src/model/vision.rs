//! Vision models by their `config.json`.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use serde_json::{Map, Value};

use super::{Mixer, MixerConfig, Model, Pooling, TimmVitConfig, Vit, VitConfig, weights::Weights};
use crate::LearnerError;

/// What decides the shapes of a vision model.
#[derive(Debug, Clone, PartialEq)]
pub enum VisionConfig {
    /// A vision transformer as `transformers` has it.
    Vit(VitConfig),
    /// A vision transformer as `timm` has it.
    TimmVit(TimmVitConfig),
    /// An MLP-Mixer as `timm` has it.
    MlpMixer(MixerConfig),
}

impl VisionConfig {
    /// What `transformers` calls vision transformers; timm's models have an architecture instead.
    pub(super) const MODEL_TYPE: &str = "vit";

    /// The configuration in the content of a `config.json`; none for a model that reads texts.
    ///
    /// # Errors
    /// A vision model that computes something else than those here; sizes that do not fit together.
    pub(super) fn from_json(file: &Path, json: &Value) -> Result<Option<Self>, LearnerError> {
        let Some(json) = json.as_object() else { return Ok(None) };
        let config = if json.get("model_type").and_then(Value::as_str) == Some(Self::MODEL_TYPE) {
            Self::Vit(VitConfig::from_json(file, json)?)
        } else if json.contains_key("architecture") && !json.contains_key("model_type") {
            match json.get("architecture").and_then(Value::as_str) {
                Some(name) if TimmVitConfig::names(name) => Self::TimmVit(TimmVitConfig::from_json(file, json)?),
                _ => Self::MlpMixer(MixerConfig::from_json(file, json)?),
            }
        } else {
            return Ok(None);
        };
        config.check().map_err(|error| match error {
            LearnerError::VisionConfig { key, found, expected } => {
                LearnerError::Config { file: file.into(), key, found: found.to_string(), expected: expected.to_owned() }
            }
            other => other,
        })?;
        Ok(Some(config))
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`LearnerError::VisionConfig`] for the first that does not.
    pub fn check(&self) -> Result<(), LearnerError> {
        match self {
            Self::Vit(config) => config.check(),
            Self::TimmVit(config) => config.sizes.check(),
            Self::MlpMixer(config) => config.check(),
        }
    }

    /// 1 for grey images, 3 for coloured ones.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::Vit(config) => config.num_channels,
            Self::TimmVit(config) => config.sizes.num_channels,
            Self::MlpMixer(config) => config.in_chans,
        }
    }

    /// Height and width of an image, in pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        match self {
            Self::Vit(config) => config.image_size,
            Self::TimmVit(config) => config.sizes.image_size,
            Self::MlpMixer(config) => config.img_size,
        }
    }

    /// How rows become features where nothing is said: as the models were pretrained.
    pub(super) fn usual_pooling(&self) -> Pooling {
        match self {
            Self::Vit(_) => Pooling::Cls,
            Self::TimmVit(config) => config.usual_pooling(),
            Self::MlpMixer(_) => Pooling::Mean,
        }
    }

    /// The content of a `config.json`.
    pub(super) fn to_json(&self, labels: &[String]) -> Value {
        match self {
            Self::Vit(config) => config.to_json(labels),
            Self::TimmVit(config) => config.to_json(labels),
            Self::MlpMixer(config) => config.to_json(labels),
        }
    }

    /// The model of these weights.
    pub(super) fn load(
        &self,
        file: &Path,
        pooling: Pooling,
        weights: &mut impl Weights,
        device: &Device,
    ) -> Result<Arc<dyn Model>, LearnerError> {
        let refuse = |found: &str, expected: &str| {
            let (key, found, expected) = ("model.pooling", found.to_owned(), expected.to_owned());
            Err(LearnerError::Config { file: file.into(), key, found, expected })
        };
        match (self, pooling) {
            (Self::Vit(config), Pooling::Cls | Pooling::Mean) => {
                Ok(Arc::new(Vit::load(config, pooling, weights, device)?))
            }
            (Self::TimmVit(config), Pooling::Cls) if config.pools_first => {
                refuse("cls", "mean for a vision transformer that was pretrained on the mean of its patches")
            }
            (Self::TimmVit(config), Pooling::Cls | Pooling::Mean) => {
                Ok(Arc::new(Vit::load_timm(config, pooling, weights, device)?))
            }
            (Self::Vit(_) | Self::TimmVit(_), Pooling::Pooler) => {
                refuse("pooler", "cls or mean for a vision transformer")
            }
            (Self::MlpMixer(config), Pooling::Mean) => Ok(Arc::new(Mixer::load(config, weights, device)?)),
            (Self::MlpMixer(_), Pooling::Cls) => refuse("cls", "mean for an MLP-Mixer"),
            (Self::MlpMixer(_), Pooling::Pooler) => refuse("pooler", "mean for an MLP-Mixer"),
        }
    }
}

/// Checks that a key is absent or has the one value that is computed here.
pub(super) fn expect(
    file: &Path,
    json: &Map<String, Value>,
    key: &'static str,
    expected: &Value,
) -> Result<(), LearnerError> {
    match json.get(key) {
        Some(found) if found != expected => {
            let (found, expected) = (found.to_string(), expected.to_string());
            Err(LearnerError::Config { file: file.into(), key, found, expected })
        }
        _ => Ok(()),
    }
}
