//! A small vision transformer (arXiv 2010.11929) on patches of raw pixels, without a class token: features are the mean
//! of the patches (arXiv 2205.01580, section 3).

mod config;
mod patches;
mod pretraining;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::{ModuleName, ModuleSpec, Seed, Tensor as HostTensor};

use self::patches::patches;
use super::{
    Model,
    block::{Block, BlockNames},
    linear::{Linear, Linears},
    pass::{Pass, select},
    weights::{Deviation, Loader, Norm, RandomWeights, Weights},
};
use crate::{Batch, DropoutMasks, GroupedAdapter, Inputs, LearnerError, ops};

pub use config::VitConfig;
pub use pretraining::Pretraining;

/// The names of `transformers`' `ViTModel`.
const NAMES: BlockNames = BlockNames {
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    attention_norm: "layernorm_before",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "layernorm_after",
};

/// A frozen vision transformer.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    projection: Linear,
    /// `[patches, hidden_size]`.
    positions: Tensor<2>,
    layers: Vec<Block>,
    norm: Norm,
    linears: Linears,
    device: Device,
}

impl Vit {
    /// Random weights from a seed.
    ///
    /// # Errors
    /// [`LearnerError::VisionConfig`] for sizes that do not fit together.
    pub fn random(config: &VitConfig, seed: Seed, device: &Device) -> Result<Self, LearnerError> {
        config.check()?;
        let mut weights = RandomWeights { seed, deviation: Deviation::FanIn, device: device.clone() };
        Self::load(config, &mut weights, device)
    }

    fn load<W: Weights>(config: &VitConfig, weights: &mut W, device: &Device) -> Result<Self, LearnerError> {
        let (width, epsilon) = (config.hidden_size, config.layer_norm_eps);
        let loader = &mut Loader::new(weights, "");
        let projection = loader.linear("embeddings.patch_embeddings.projection", config.patch_values(), width)?;
        let positions = loader.tensor("embeddings.position_embeddings", [config.patches(), width])?;
        let layer = |index| Block::load(loader, &format!("encoder.layer.{index}"), NAMES, config.block());
        let layers: Vec<Block> = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        let norm = loader.norm("layernorm", width, epsilon)?;
        let linears = Linears::new(layers.iter().flat_map(Block::linears));
        Ok(Self { config: config.clone(), projection, positions, layers, norm, linears, device: device.clone() })
    }

    /// The features of a batch in a pass that `pass` makes for the numbers of patches.
    fn pooled<'a>(&self, batch: &Batch, pass: impl FnOnce(Vec<usize>) -> Pass<'a>) -> Tensor<2> {
        let Inputs::Images { pixels, count } = &batch.inputs else {
            panic!("a vision transformer reads images, the batch has tokens");
        };
        let size = self.config.image_values();
        assert_eq!(pixels.len(), count * size, "an image has {size} values");
        let mut pass = pass(vec![self.config.patches(); *count]);
        let hidden = self.encode(&mut pass, pixels, *count);
        ops::mean_rows(hidden, pass.lengths())
    }

    fn encode(&self, pass: &mut Pass<'_>, pixels: &[f32], count: usize) -> Tensor<2> {
        let (patches_each, width) = (self.config.patches(), self.config.patch_values());
        let values = TensorData::new(patches(pixels, &self.config), [count * patches_each, width]);
        let rows = Tensor::from_data(values, &self.device);
        let place = (0..count).flat_map(|_| 0..patches_each as i32).collect();
        let mut x = pass.linear(rows, &self.projection) + select(&self.positions, place);
        for layer in &self.layers {
            x = layer.normalised_before(pass, x);
        }
        pass.norm(x, &self.norm)
    }
}

impl Model for Vit {
    fn device(&self) -> Device {
        self.device.clone()
    }

    fn adaptable(&self) -> &BTreeMap<ModuleName, ModuleSpec> {
        self.linears.specs()
    }

    fn frozen_weight(&self, module: &ModuleName) -> Option<HostTensor> {
        self.linears.weight(module)
    }

    fn feature_width(&self) -> usize {
        self.config.hidden_size
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
