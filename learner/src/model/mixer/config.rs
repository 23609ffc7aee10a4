//! Sizes of an MLP-Mixer.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{HeadForm, LearnerError};

/// What decides the shapes of an MLP-Mixer, in the names of `timm`'s `MlpMixer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixerConfig {
    /// Height and width of an image, in pixels.
    #[serde(default = "default_img_size")]
    pub img_size: usize,
    /// 1 for grey, 3 for colours.
    #[serde(default = "default_in_chans")]
    pub in_chans: usize,
    /// Height and width of a patch; divides the image's.
    pub patch_size: usize,
    /// Blocks.
    pub num_blocks: usize,
    /// Width of a patch's row.
    pub embed_dim: usize,
    /// Widths between the two layers that mix patches and between the two that mix channels, both over `embed_dim`.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: (f64, f64),
}

fn default_img_size() -> usize {
    224
}
fn default_in_chans() -> usize {
    3
}
fn default_mlp_ratio() -> (f64, f64) {
    (0.5, 4.0)
}

/// What written files call their architecture: the arguments say all of its sizes.
const ARCHITECTURE: &str = "mixer_b16_224";
/// Arguments that decide nothing about a frozen model.
const HARMLESS: [&str; 5] = ["num_classes", "drop_rate", "proj_drop_rate", "drop_path_rate", "nlhb"];

/// timm's architectures: name, patch size, blocks, width.
const ARCHITECTURES: [(&str, usize, usize, usize); 6] = [
    ("mixer_s32_224", 32, 8, 512),
    ("mixer_s16_224", 16, 8, 512),
    ("mixer_b32_224", 32, 12, 768),
    ("mixer_b16_224", 16, 12, 768),
    ("mixer_l32_224", 32, 24, 1024),
    ("mixer_l16_224", 16, 24, 1024),
];

impl MixerConfig {
    /// The configuration in the content of timm's `config.json`: the architecture's sizes, changed by `model_args`.
    pub(in crate::model) fn from_json(file: &Path, json: &Map<String, Value>) -> Result<Self, LearnerError> {
        let name = json.get("architecture").and_then(Value::as_str).unwrap_or_default();
        let Some((_, patch_size, num_blocks, embed_dim)) = ARCHITECTURES.into_iter().find(|row| row.0 == name) else {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|row| row.0).collect();
            let (found, expected) = (name.to_owned(), format!("one of {}", known.join(", ")));
            return Err(LearnerError::Config { file: file.into(), key: "architecture", found, expected });
        };
        let mut sizes = json!({ "patch_size": patch_size, "num_blocks": num_blocks, "embed_dim": embed_dim });
        let arguments = json.get("model_args").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Value::Object(sizes) = &mut sizes {
            sizes.extend(arguments.into_iter().filter(|(key, _)| !HARMLESS.contains(&key.as_str())));
        }
        serde_json::from_value(sizes).map_err(|source| LearnerError::Json { file: file.into(), source })
    }

    /// The content of a `config.json` that timm reads.
    pub(in crate::model) fn to_json(&self, labels: &[String]) -> Value {
        let half = vec![0.5; self.in_chans];
        json!({
            "architecture": ARCHITECTURE,
            "num_classes": labels.len(),
            "num_features": self.embed_dim,
            "global_pool": "avg",
            "model_args": self,
            "label_names": labels,
            "pretrained_cfg": {
                "input_size": [self.in_chans, self.img_size, self.img_size],
                "interpolation": "bilinear",
                "crop_pct": 1.0,
                "crop_mode": "center",
                "mean": half,
                "std": half,
                "num_classes": labels.len(),
                "first_conv": "stem.proj",
                "classifier": HeadForm::TIMM.output,
            },
        })
    }

    /// Patches of an image.
    pub(super) fn patches(&self) -> usize {
        (self.img_size / self.patch_size).pow(2)
    }

    /// Values of an image.
    pub(super) fn image_values(&self) -> usize {
        self.in_chans * self.img_size.pow(2)
    }

    /// Width between the layers that mix patches; rounded down, as timm does.
    pub(super) fn tokens_width(&self) -> usize {
        (self.mlp_ratio.0 * self.embed_dim as f64) as usize
    }

    /// Width between the layers that mix channels.
    pub(super) fn channels_width(&self) -> usize {
        (self.mlp_ratio.1 * self.embed_dim as f64) as usize
    }

    /// Checks that the sizes fit together.
    pub(in crate::model) fn check(&self) -> Result<(), LearnerError> {
        let refuse = |key, found, expected| Err(LearnerError::VisionConfig { key, found, expected });
        let sizes = [
            ("img_size", self.img_size),
            ("patch_size", self.patch_size),
            ("num_blocks", self.num_blocks),
            ("embed_dim", self.embed_dim),
            ("mlp_ratio, times embed_dim,", self.tokens_width().min(self.channels_width())),
        ];
        if let Some((key, found)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return refuse(key, found, "at least 1");
        }
        if !matches!(self.in_chans, 1 | 3) {
            return refuse("in_chans", self.in_chans, "1 (grey) or 3 (colours)");
        }
        if !self.img_size.is_multiple_of(self.patch_size) {
            return refuse("patch_size", self.patch_size, "a divisor of img_size");
        }
        Ok(())
    }
}
