//! Sizes of a vision transformer in the words of `timm`.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Vit, VitConfig};
use crate::{
    Batch, HeadForm, LearnerError, Pooling,
    model::{pass::Pass, pretraining::Architecture, weights::Weights},
};

/// Added to the variance in layer normalisation.
const EPSILON: f64 = 1e-6;
/// `timm`'s sizes by their name in an architecture: width, layers, heads.
const SIZES: [(&str, usize, usize, usize); 5] = [
    ("tiny", 192, 12, 3),
    ("small", 384, 12, 6),
    ("base", 768, 12, 12),
    ("large", 1024, 24, 16),
    ("huge", 1280, 32, 16),
];
/// Arguments that decide nothing about a frozen model.
const HARMLESS: [&str; 8] = [
    "num_classes",
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
];

/// A vision transformer with `timm`'s weights.
#[derive(Debug, Clone, PartialEq)]
pub struct TimmVitConfig {
    /// Its sizes.
    pub sizes: VitConfig,
    /// Whether it was pretrained on the mean of the patches, which then is normalised in place of the patches.
    pub pools_first: bool,
}

/// What `model_args` can change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    img_size: Option<usize>,
    patch_size: Option<usize>,
    in_chans: Option<usize>,
    embed_dim: Option<usize>,
    depth: Option<usize>,
    num_heads: Option<usize>,
    mlp_ratio: Option<f64>,
    global_pool: Option<String>,
}

impl TimmVitConfig {
    /// Whether an architecture is one of `timm`'s vision transformers, of which this crate may know it or not.
    pub(in crate::model) fn names(architecture: &str) -> bool {
        architecture.starts_with("vit_")
    }

    /// The configuration in the content of `timm`'s `config.json`: the architecture's sizes, changed by `model_args`.
    pub(in crate::model) fn from_json(file: &Path, json: &Map<String, Value>) -> Result<Self, LearnerError> {
        let refuse = |key, found: &str, expected: &str| {
            let (found, expected) = (found.to_owned(), expected.to_owned());
            Err(LearnerError::Config { file: file.into(), key, found, expected })
        };
        let text = |key| json.get(key).and_then(Value::as_str);
        let name = text("architecture").unwrap_or_default();
        let Some(Named { size: (width, layers, heads), patch, side }) = named(name) else {
            let sizes = SIZES.map(|row| row.0).join(", ");
            let expected = format!("vit_SIZE_patchN_N of one of the sizes {sizes}, without further parts of the name");
            return refuse("architecture", name, &expected);
        };
        let arguments = json.get("model_args").and_then(Value::as_object).cloned().unwrap_or_default();
        let arguments: Map<String, Value> =
            arguments.into_iter().filter(|(key, _)| !HARMLESS.contains(&key.as_str())).collect();
        let arguments: Arguments = serde_json::from_value(arguments.into())
            .map_err(|source| LearnerError::Json { file: file.into(), source })?;
        let pools_first = match arguments.global_pool.as_deref().or(text("global_pool")).unwrap_or("token") {
            "token" => false,
            "avg" => true,
            other => return refuse("global_pool", other, "token or avg"),
        };
        let width = arguments.embed_dim.unwrap_or(width);
        let sizes = VitConfig {
            image_size: arguments.img_size.unwrap_or(side),
            num_channels: arguments.in_chans.unwrap_or(3),
            patch_size: arguments.patch_size.unwrap_or(patch),
            hidden_size: width,
            num_hidden_layers: arguments.depth.unwrap_or(layers),
            num_attention_heads: arguments.num_heads.unwrap_or(heads),
            // Rounded down, as timm does.
            intermediate_size: (arguments.mlp_ratio.unwrap_or(4.0) * width as f64) as usize,
            layer_norm_eps: EPSILON,
            class_token: true,
        };
        Ok(Self { sizes, pools_first })
    }
}

impl TimmVitConfig {
    /// The content of a `config.json` that `timm` reads.
    pub(in crate::model) fn to_json(&self, labels: &[String]) -> Value {
        let VitConfig { image_size, num_channels, patch_size, hidden_size, .. } = self.sizes;
        let (half, pool) = (vec![0.5; num_channels], if self.pools_first { "avg" } else { "token" });
        json!({
            // The arguments say all of its sizes.
            "architecture": "vit_base_patch16_224",
            "num_classes": labels.len(),
            "num_features": hidden_size,
            "global_pool": pool,
            "model_args": {
                "img_size": image_size,
                "patch_size": patch_size,
                "in_chans": num_channels,
                "embed_dim": hidden_size,
                "depth": self.sizes.num_hidden_layers,
                "num_heads": self.sizes.num_attention_heads,
                "mlp_ratio": self.sizes.intermediate_size as f64 / hidden_size as f64,
                "global_pool": pool,
            },
            "label_names": labels,
            "pretrained_cfg": {
                "input_size": [num_channels, image_size, image_size],
                "interpolation": "bilinear",
                "crop_pct": 1.0,
                "crop_mode": "center",
                "mean": half,
                "std": half,
                "num_classes": labels.len(),
                "first_conv": "patch_embed.proj",
                "classifier": HeadForm::TIMM.output,
            },
        })
    }

    /// How it was pretrained.
    pub(in crate::model) fn usual_pooling(&self) -> Pooling {
        if self.pools_first { Pooling::Mean } else { Pooling::Cls }
    }
}

impl Architecture for TimmVitConfig {
    type Model = Vit;

    fn check(&self) -> Result<(), LearnerError> {
        self.sizes.check()
    }

    fn feature_width(&self) -> usize {
        self.sizes.hidden_size
    }

    fn load<W: Weights>(&self, weights: &mut W, device: &Device) -> Result<Vit, LearnerError> {
        Vit::load_timm(self, self.usual_pooling(), weights, device)
    }

    fn training_features(model: &Vit, batch: &Batch) -> Tensor<2> {
        model.pooled(batch, Pass::training_weights)
    }
}

/// What an architecture's name says.
struct Named {
    /// Width, layers and heads.
    size: (usize, usize, usize),
    patch: usize,
    side: usize,
}

/// `vit_small_patch16_224` and its like; none for names with further parts, which compute something else.
fn named(architecture: &str) -> Option<Named> {
    let mut parts = architecture.strip_prefix("vit_")?.split('_');
    let (size, patch, side) = (parts.next()?, parts.next()?.strip_prefix("patch")?, parts.next()?);
    let &(_, width, layers, heads) = SIZES.iter().find(|row| row.0 == size)?;
    let named = Named { size: (width, layers, heads), patch: patch.parse().ok()?, side: side.parse().ok()? };
    parts.next().is_none().then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TimmVitConfig, String> {
        let json: Value = serde_json::from_str(json).unwrap();
        TimmVitConfig::from_json(Path::new("config.json"), json.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_architectures_name_says_its_sizes_and_arguments_change_them() {
        let base = read(r#"{"architecture": "vit_base_patch32_384", "global_pool": "token"}"#).unwrap();
        let VitConfig { image_size, patch_size, hidden_size, num_attention_heads, intermediate_size, .. } = base.sizes;
        let found = (image_size, patch_size, hidden_size, num_attention_heads, intermediate_size);
        assert_eq!((found, base.pools_first), ((384, 32, 768, 12, 3072), false));
        let changed = r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 2, "global_pool": "avg"}}"#;
        let changed = read(changed).unwrap();
        assert_eq!((changed.sizes.num_hidden_layers, changed.pools_first), (2, true));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let sizes =
            VitConfig { hidden_size: 24, ..read(r#"{"architecture": "vit_small_patch32_384"}"#).unwrap().sizes };
        let sizes = VitConfig { intermediate_size: 60, num_channels: 1, ..sizes };
        for pools_first in [false, true] {
            let config = TimmVitConfig { sizes: sizes.clone(), pools_first };
            assert_eq!(read(&config.to_json(&["a".to_owned()]).to_string()).unwrap(), config);
        }
    }

    #[test]
    fn what_computes_something_else_is_refused_by_its_name() {
        for name in ["vit_base_patch16_clip_224", "vit_small_patch14_dinov2", "vit_giant_patch14_224", "vit_base_r50"] {
            let error = read(&format!(r#"{{"architecture": "{name}"}}"#)).unwrap_err();
            assert!(error.starts_with(&format!("config.json: architecture is {name}, expected vit_SIZE")), "{error}");
        }
        let error = read(r#"{"architecture": "vit_tiny_patch16_224", "global_pool": "map"}"#).unwrap_err();
        assert!(error.ends_with("global_pool is map, expected token or avg"), "{error}");
        assert!(read(r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"reg_tokens": 4}}"#).is_err());
    }
}
