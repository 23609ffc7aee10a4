//! Sizes of a vision transformer.

use serde::{Deserialize, Serialize};

use super::super::block::BlockSizes;
use crate::LearnerError;

/// What decides the shapes of a vision transformer, in the names of `transformers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Height and width of an image, in pixels.
    pub image_size: usize,
    /// Colours.
    pub num_channels: usize,
    /// Height and width of a patch; divides the image's.
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
    pub layer_norm_eps: f64,
}

impl VitConfig {
    /// Patches of an image.
    pub(super) fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Values of a patch.
    pub(super) fn patch_values(&self) -> usize {
        self.num_channels * self.patch_size.pow(2)
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
    pub(super) fn check(&self) -> Result<(), LearnerError> {
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
        if !self.image_size.is_multiple_of(self.patch_size) {
            return refuse("patch_size", self.patch_size, "a divisor of image_size");
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return refuse("num_attention_heads", self.num_attention_heads, "a divisor of hidden_size");
        }
        Ok(())
    }
}
