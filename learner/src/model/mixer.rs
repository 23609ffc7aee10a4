//! MLP-Mixers (arXiv 2105.01601) with the names of `timm`: every block mixes patches channel by channel, then channels
//! patch by patch; features are the mean of the patches.
//!
//! The linear layers that mix patches see, for each image, one row a channel. An adapter on them has `d_in` and `d_out`
//! of patches, and a client's rows of the pass are the channels of its images.

mod config;

use burn::tensor::{Device, Tensor, TensorData};

use super::{
    HeadForm, Model,
    linear::{FrozenLayers, Linear},
    pass::Pass,
    patches::patches,
    pretraining::Architecture,
    weights::{Loader, Norm, Weights},
};
use crate::{Batch, DropoutMasks, GroupedAdapter, Inputs, LearnerError, ops};

pub use config::MixerConfig;

/// Added to the variance in layer normalisation; timm's models have no other.
const EPSILON: f64 = 1e-6;

/// A frozen MLP-Mixer.
#[derive(Debug)]
pub struct Mixer {
    config: MixerConfig,
    stem: Linear,
    blocks: Vec<MixerBlock>,
    norm: Norm,
    frozen: FrozenLayers,
}

#[derive(Debug, Clone)]
struct MixerBlock {
    token_norm: Norm,
    tokens: Mlp,
    channel_norm: Norm,
    channels: Mlp,
}

/// Two linear layers with a GELU between them.
#[derive(Debug, Clone)]
struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mixer {
    pub(super) fn load<W: Weights>(
        config: &MixerConfig,
        weights: &mut W,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let loader = &mut Loader::new(weights, "");
        let MixerConfig { embed_dim: width, in_chans, patch_size, .. } = *config;
        let stem = loader.patches("stem.proj", [width, in_chans, patch_size, patch_size])?;
        let block = |index| MixerBlock::load(loader, &format!("blocks.{index}"), config);
        let blocks: Vec<MixerBlock> = (0..config.num_blocks).map(block).collect::<Result<_, _>>()?;
        let norm = loader.norm("norm", width, EPSILON)?;
        let frozen = FrozenLayers::of(blocks.iter().flat_map(MixerBlock::linears), device);
        Ok(Self { config: config.clone(), stem, blocks, norm, frozen })
    }

    /// The features of a batch in a pass that `pass` makes for the numbers of patches.
    fn pooled<'a>(&self, batch: &Batch, pass: impl FnOnce(Vec<usize>) -> Pass<'a>) -> Tensor<2> {
        let Inputs::Images { pixels, count } = &batch.inputs else {
            panic!("an MLP-Mixer reads images, the batch has tokens");
        };
        let MixerConfig { img_size, in_chans, patch_size, .. } = self.config;
        let size = self.config.image_values();
        assert_eq!(pixels.len(), count * size, "an image has {size} values");
        let each = self.config.patches();
        let values = patches(pixels, in_chans, img_size, patch_size);
        let values = TensorData::new(values, [count * each, size / each]);
        let mut pass = pass(vec![each; *count]);
        let mut x = pass.linear(Tensor::from_data(values, &self.device()), &self.stem);
        for block in &self.blocks {
            x = pass.layer(block, x, move |block, pass, x| block.forward(pass, x, each));
        }
        ops::mean_rows(pass.norm(x, &self.norm), pass.lengths())
    }
}

impl MixerBlock {
    fn load<W: Weights>(loader: &mut Loader<'_, W>, name: &str, config: &MixerConfig) -> Result<Self, LearnerError> {
        let width = config.embed_dim;
        Ok(Self {
            token_norm: loader.norm(&format!("{name}.norm1"), width, EPSILON)?,
            tokens: Mlp::load(loader, &format!("{name}.mlp_tokens"), config.patches(), config.tokens_width())?,
            channel_norm: loader.norm(&format!("{name}.norm2"), width, EPSILON)?,
            channels: Mlp::load(loader, &format!("{name}.mlp_channels"), width, config.channels_width())?,
        })
    }

    fn linears(&self) -> [&Linear; 4] {
        [&self.tokens.up, &self.tokens.down, &self.channels.up, &self.channels.down]
    }

    /// `x` is `[images · patches, width]`.
    fn forward(&self, pass: &mut Pass<'_>, x: Tensor<2>, patches: usize) -> Tensor<2> {
        let width = x.dims()[1];
        let columns = transposed(pass.norm(x.clone(), &self.token_norm), patches);
        let lengths = vec![width; pass.lengths().len()];
        let mixed = pass.with_lengths(lengths, |pass| self.tokens.forward(pass, columns));
        let x = x + transposed(mixed, width);
        let normal = pass.norm(x.clone(), &self.channel_norm);
        x + self.channels.forward(pass, normal)
    }
}

impl Mlp {
    fn load<W: Weights>(
        loader: &mut Loader<'_, W>,
        name: &str,
        width: usize,
        inner: usize,
    ) -> Result<Self, LearnerError> {
        Ok(Self {
            up: loader.linear(&format!("{name}.fc1"), width, inner)?,
            down: loader.linear(&format!("{name}.fc2"), inner, width)?,
        })
    }

    fn forward(&self, pass: &mut Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        let hidden = ops::gelu(pass.linear(x, &self.up));
        pass.linear(hidden, &self.down)
    }
}

/// Each image's rows as columns: `[images · rows, columns]` as `[images · columns, rows]`.
fn transposed(x: Tensor<2>, rows: usize) -> Tensor<2> {
    let [all, columns] = x.dims();
    let images = all / rows;
    x.reshape([images, rows, columns]).swap_dims(1, 2).reshape([images * columns, rows])
}

impl Architecture for MixerConfig {
    type Model = Mixer;

    fn check(&self) -> Result<(), LearnerError> {
        self.check()
    }

    fn feature_width(&self) -> usize {
        self.embed_dim
    }

    fn load<W: Weights>(&self, weights: &mut W, device: &Device) -> Result<Mixer, LearnerError> {
        Mixer::load(self, weights, device)
    }

    fn training_features(model: &Mixer, batch: &Batch) -> Tensor<2> {
        model.pooled(batch, Pass::training_weights)
    }
}

impl Model for Mixer {
    fn layers(&self) -> &FrozenLayers {
        &self.frozen
    }

    fn feature_width(&self) -> usize {
        self.config.embed_dim
    }

    fn head(&self) -> HeadForm {
        HeadForm::TIMM
    }

    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2> {
        self.pooled(batch, |lengths| Pass::new(lengths, adapters, dropout))
    }
}
