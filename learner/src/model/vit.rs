//! Vision transformers (arXiv 2010.11929): those of `transformers` and `timm`, with a class token, and a small one on patches
//! alone, whose features are the mean of the patches (arXiv 2205.01580, section 3).

mod config;
mod names;
mod timm;

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::Seed;

use super::{
    HeadForm, Model, Pooling,
    block::Block,
    linear::{FrozenLayers, Linear},
    pass::{Pass, select},
    patches::patches,
    pretraining::{self, Architecture, Pretraining, Progress},
    weights::{Deviation, Loader, Norm, RandomWeights, Slices, Weights},
};
use crate::{Batch, Dataset, DropoutMasks, GroupedAdapter, Inputs, LearnerError, ops};

pub use config::VitConfig;
pub use timm::TimmVitConfig;

use self::names::{Names, OWN, TIMM, TRANSFORMERS};

/// A frozen vision transformer.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    pooling: Pooling,
    projection: Linear,
    /// `[1, hidden_size]`.
    class_token: Option<Tensor<2>>,
    /// `[rows of an image, hidden_size]`.
    positions: Tensor<2>,
    layers: Vec<Block>,
    norm: Norm,
    /// Whether the features are normalised and not the rows that they are the mean of.
    pools_first: bool,
    head: HeadForm,
    frozen: FrozenLayers,
}

impl Vit {
    /// Random weights from a seed.
    ///
    /// # Errors
    /// [`LearnerError::VisionConfig`] for sizes that do not fit together.
    pub fn random(config: &VitConfig, seed: Seed, device: &Device) -> Result<Self, LearnerError> {
        config.check()?;
        let mut weights = RandomWeights { seed, deviation: Deviation::FanIn, device: device.clone() };
        config.load(&mut weights, device)
    }

    /// Trains all weights on a data set, with a head that is thrown away, and freezes them. Equal seeds give equal bytes.
    ///
    /// # Errors
    /// Sizes that do not fit together; no examples.
    pub fn pretrain(
        config: &VitConfig,
        dataset: &Dataset,
        pretraining: &Pretraining,
        seed: Seed,
        device: &Device,
        watch: impl FnMut(Progress),
    ) -> Result<Self, LearnerError> {
        let trained = pretraining::train(config, dataset, pretraining, seed, device, watch)?;
        config.load(&mut Slices::copied(trained.values, device.clone()), device)
    }

    /// The model with its features taken from the class token or from the mean of the patches.
    pub(super) fn load<W: Weights>(
        config: &VitConfig,
        pooling: Pooling,
        weights: &mut W,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        Self::named(config, pooling, if config.class_token { &TRANSFORMERS } else { &OWN }, weights, device)
    }

    /// The same of `timm`'s weights.
    pub(super) fn load_timm<W: Weights>(
        config: &TimmVitConfig,
        pooling: Pooling,
        weights: &mut W,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let names = Names { norm: if config.pools_first { "fc_norm" } else { TIMM.norm }, ..TIMM };
        let model = Self::named(&config.sizes, pooling, &names, weights, device)?;
        Ok(Self { pools_first: config.pools_first, ..model })
    }

    fn named<W: Weights>(
        config: &VitConfig,
        pooling: Pooling,
        names: &Names,
        weights: &mut W,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let width = config.hidden_size;
        // The class with a classifier, whose features are the class token's, keeps the encoder under a name.
        let prefix = if pooling == Pooling::Cls { names.classifier_prefix } else { "" };
        let loader = &mut Loader::new(weights, prefix).renaming(names.module);
        let projection = loader.patches(names.projection, config.projection())?;
        let rows = config.rows();
        let (positions, class_token) = if config.class_token {
            let positions = loader.tensor(names.positions, [1, rows, width])?.reshape([rows, width]);
            (positions, Some(loader.tensor(names.class_token, [1, 1, width])?.reshape([1, width])))
        } else {
            (loader.tensor(names.positions, [rows, width])?, None)
        };
        let layer = |index| Block::load(loader, &format!("{}.{index}", names.layers), names.block, config.block());
        let layers: Vec<Block> = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        let norm = loader.norm(names.norm, width, config.layer_norm_eps)?;
        let frozen = FrozenLayers::of(layers.iter().flat_map(Block::linears), device);
        let (config, head) = (config.clone(), names.head);
        Ok(Self { config, pooling, projection, class_token, positions, layers, norm, pools_first: false, head, frozen })
    }

    /// The features of a batch in a pass that `pass` makes for the numbers of rows.
    fn pooled<'a>(&self, batch: &Batch, pass: impl FnOnce(Vec<usize>) -> Pass<'a>) -> Tensor<2> {
        let Inputs::Images { pixels, count } = &batch.inputs else {
            panic!("a vision transformer reads images, the batch has tokens");
        };
        let size = self.config.image_values();
        assert_eq!(pixels.len(), count * size, "an image has {size} values");
        let rows = self.config.rows();
        let mut pass = pass(vec![rows; *count]);
        let embedded = self.embed(&mut pass, pixels, *count);
        let hidden = self.encode(&mut pass, embedded);
        let features = match (self.pooling, &self.class_token) {
            (Pooling::Cls, _) => hidden,
            (_, None) => ops::mean_rows(hidden, pass.lengths()),
            (_, Some(_)) => {
                let patches = (0..*count).flat_map(|image| numbers(image * rows + 1..(image + 1) * rows)).collect();
                ops::mean_rows(select(&hidden, patches), &vec![rows - 1; *count])
            }
        };
        if self.pools_first { pass.norm(features, &self.norm) } else { features }
    }

    /// Patches as rows, behind the class token if there is one, with their positions.
    fn embed(&self, pass: &mut Pass<'_>, pixels: &[f32], count: usize) -> Tensor<2> {
        let VitConfig { num_channels, image_size, patch_size, .. } = self.config;
        let (each, width) = (self.config.patches(), self.config.patch_values());
        let values = TensorData::new(patches(pixels, num_channels, image_size, patch_size), [count * each, width]);
        let mut rows = pass.linear(Tensor::from_data(values, &self.device()), &self.projection);
        if let Some(token) = &self.class_token {
            let images = (0..count).flat_map(|image| {
                std::iter::once((count * each) as i32).chain(numbers(image * each..(image + 1) * each))
            });
            rows = select(&Tensor::cat(vec![rows, token.clone()], 0), images.collect());
        }
        let places = (0..count).flat_map(|_| numbers(0..self.config.rows())).collect();
        rows + select(&self.positions, places)
    }

    /// Rows after the last layer, normalised unless that is done to the features; of the class token only where nobody looks
    /// at the others.
    fn encode(&self, pass: &mut Pass<'_>, mut x: Tensor<2>) -> Tensor<2> {
        // At least one layer: sizes were checked.
        if let Some((last, layers)) = self.layers.split_last() {
            for layer in layers {
                x = pass.layer(layer, x, Block::normalised_before);
            }
            let first = self.pooling == Pooling::Cls;
            x = pass.layer(last, x, if first { Block::normalised_before_first_rows } else { Block::normalised_before });
        }
        if self.pools_first { x } else { pass.norm(x, &self.norm) }
    }
}

fn numbers(range: Range<usize>) -> impl Iterator<Item = i32> {
    range.map(|number| number as i32)
}

impl Architecture for VitConfig {
    type Model = Vit;

    fn check(&self) -> Result<(), LearnerError> {
        self.check()
    }

    fn feature_width(&self) -> usize {
        self.hidden_size
    }

    fn load<W: Weights>(&self, weights: &mut W, device: &Device) -> Result<Vit, LearnerError> {
        Vit::load(self, if self.class_token { Pooling::Cls } else { Pooling::Mean }, weights, device)
    }

    fn training_features(model: &Vit, batch: &Batch) -> Tensor<2> {
        model.pooled(batch, Pass::training_weights)
    }
}

impl Model for Vit {
    fn layers(&self) -> &FrozenLayers {
        &self.frozen
    }

    fn feature_width(&self) -> usize {
        self.config.hidden_size
    }

    fn head(&self) -> HeadForm {
        self.head
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
