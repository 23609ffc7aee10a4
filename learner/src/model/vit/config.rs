//! Sizes of a vision transformer.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::{block::BlockSizes, vision::expect};
use crate::LearnerError;

/// What decides the shapes of a vision transformer, in the names of `transformers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Height and width of an image, in pixels.
    #[serde(default = "default_image_size")]
    pub image_size: usize,
    /// 1 for grey, 3 for colours.
    #[serde(default = "default_num_channels")]
    pub num_channels: usize,
    /// Height and width of a patch; divides the image's.
    #[serde(default = "default_patch_size")]
    pub patch_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they divide the width.
    pub num_attention_heads: usize,
    /// Width between the two linear layers of the feed-forward part.
    pub intermediate_size: usize,
    /// Added to the variance in layer normalisation.
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    /// Whether a learned row precedes the patches, as in all models of `transformers`. Without it, features are the
    /// mean of the patches.
    #[serde(skip, default = "yes")]
    pub class_token: bool,
}

fn default_image_size() -> usize {
    224
}
fn default_num_channels() -> usize {
    3
}
fn default_patch_size() -> usize {
    16
}
fn default_epsilon() -> f64 {
    1e-12
}
fn yes() -> bool {
    true
}

/// The keys of `config.json` that are sizes.
const KEYS: [&str; 8] = [
    "image_size",
    "num_channels",
    "patch_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "layer_norm_eps",
];

impl VitConfig {
    /// The configuration in the content of a `config.json`.
    pub(in crate::model) fn from_json(file: &Path, json: &Map<String, Value>) -> Result<Self, LearnerError> {
        expect(file, json, "hidden_act", &"gelu".into())?;
        expect(file, json, "qkv_bias", &true.into())?;
        let sizes = json.iter().filter(|(key, _)| KEYS.contains(&key.as_str()));
        let sizes: Map<String, Value> = sizes.map(|(key, value)| (key.clone(), value.clone())).collect();
        serde_json::from_value(sizes.into()).map_err(|source| LearnerError::Json { file: file.into(), source })
    }

    /// The content of a `config.json` for `ViTForImageClassification`.
    pub(in crate::model) fn to_json(&self, labels: &[String]) -> Value {
        let numbered: Map<String, Value> =
            labels.iter().enumerate().map(|(number, name)| (number.to_string(), name.clone().into())).collect();
        let numbers: Map<String, Value> =
            labels.iter().enumerate().map(|(number, name)| (name.clone(), number.into())).collect();
        let mut json = json!({
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            "hidden_act": "gelu",
            "qkv_bias": true,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": 0.02,
            "id2label": numbered,
            "label2id": numbers,
        });
        // Numbers and names alone: always an object.
        if let (Value::Object(json), Ok(Value::Object(sizes))) = (&mut json, serde_json::to_value(self)) {
            json.extend(sizes);
        }
        json
    }

    /// Rows of an image: its patches and, where there is one, the class token.
    pub(super) fn rows(&self) -> usize {
        self.patches() + usize::from(self.class_token)
    }

    /// Patches of an image.
    pub(super) fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Values of a patch.
    pub(super) fn patch_values(&self) -> usize {
        self.num_channels * self.patch_size.pow(2)
    }

    /// Shape of the weight that makes patches into rows.
    pub(super) fn projection(&self) -> [usize; 4] {
        [self.hidden_size, self.num_channels, self.patch_size, self.patch_size]
    }

    /// Values of an image.
    pub(super) fn image_values(&self) -> usize {
        self.num_channels * self.image_size.pow(2)
    }

    pub(super) fn block(&self) -> BlockSizes {
        BlockSizes {
            width: self.hidden_size,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            epsilon: self.layer_norm_eps,
        }
    }

    /// Checks that the sizes fit together.
    pub(in crate::model) fn check(&self) -> Result<(), LearnerError> {
        let refuse = |key, found, expected| Err(LearnerError::VisionConfig { key, found, expected });
        let sizes = [
            ("image_size", self.image_size),
            ("num_channels", self.num_channels),
            ("patch_size", self.patch_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
        ];
        if let Some((key, found)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return refuse(key, found, "at least 1");
        }
        if !matches!(self.num_channels, 1 | 3) {
            return refuse("num_channels", self.num_channels, "1 (grey) or 3 (colours)");
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return refuse("patch_size", self.patch_size, "a divisor of image_size");
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return refuse("num_attention_heads", self.num_attention_heads, "a divisor of hidden_size");
        }
        Ok(())
    }
}
