//! Vision transformers (arXiv 2010.11929): those of `transformers`, with a class token, and a small one on patches alone,
//! whose features are the mean of the patches (arXiv 2205.01580, section 3).

mod config;

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::Seed;

use super::{
    Model, Pooling,
    block::{Block, BlockNames},
    linear::{FrozenLayers, Linear},
    pass::{Pass, select},
    patches::patches,
    pretraining::{self, Architecture, Pretraining, Progress},
    weights::{Deviation, Loader, Norm, RandomWeights, Slices, Weights},
};
use crate::{Batch, Dataset, DropoutMasks, GroupedAdapter, Inputs, LearnerError, ops};

pub use config::VitConfig;

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
    pooling: Pooling,
    projection: Linear,
    /// `[1, hidden_size]`.
    class_token: Option<Tensor<2>>,
    /// `[rows of an image, hidden_size]`.
    positions: Tensor<2>,
    layers: Vec<Block>,
    norm: Norm,
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
        let width = config.hidden_size;
        // The class with a classifier, whose features are the class token's, keeps the encoder under a name.
        let prefix = if config.class_token && pooling == Pooling::Cls { "vit." } else { "" };
        let loader = Loader::new(weights, prefix);
        let loader = &mut if config.class_token { loader.renaming(module_name) } else { loader };
        let projection = loader.patches("embeddings.patch_embeddings.projection", config.projection())?;
        let positions = "embeddings.position_embeddings";
        let rows = config.rows();
        let (positions, class_token) = if config.class_token {
            let positions = loader.tensor(positions, [1, rows, width])?.reshape([rows, width]);
            (positions, Some(loader.tensor("embeddings.cls_token", [1, 1, width])?.reshape([1, width])))
        } else {
            (loader.tensor(positions, [rows, width])?, None)
        };
        let layer = |index| Block::load(loader, &format!("encoder.layer.{index}"), NAMES, config.block());
        let layers: Vec<Block> = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        let norm = loader.norm("layernorm", width, config.layer_norm_eps)?;
        let frozen = FrozenLayers::of(layers.iter().flat_map(Block::linears), device);
        let config = config.clone();
        Ok(Self { config, pooling, projection, class_token, positions, layers, norm, frozen })
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
        match (self.pooling, &self.class_token) {
            (Pooling::Cls, _) => hidden,
            (_, None) => ops::mean_rows(hidden, pass.lengths()),
            (_, Some(_)) => {
                let patches = (0..*count).flat_map(|image| numbers(image * rows + 1..(image + 1) * rows)).collect();
                ops::mean_rows(select(&hidden, patches), &vec![rows - 1; *count])
            }
        }
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

    /// Normalised rows after the last layer; of the class token only where nobody looks at the others.
    fn encode(&self, pass: &mut Pass<'_>, mut x: Tensor<2>) -> Tensor<2> {
        // At least one layer: sizes were checked.
        if let Some((last, layers)) = self.layers.split_last() {
            for layer in layers {
                x = layer.normalised_before(pass, x);
            }
            let first = self.pooling == Pooling::Cls;
            x = if first { last.normalised_before_first_rows(pass, x) } else { last.normalised_before(pass, x) };
        }
        pass.norm(x, &self.norm)
    }
}

/// What adapters call a module of the checkpoint: since `transformers` 5 the modules of its `ViTModel` have other names
/// in memory, where PEFT finds them, than in files.
fn module_name(checkpoint: &str) -> String {
    const NAMES: [(&str, &str); 7] = [
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ];
    NAMES.iter().fold(checkpoint.to_owned(), |name, (old, new)| name.replace(old, new))
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

    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2> {
        self.pooled(batch, |lengths| Pass::new(lengths, adapters, dropout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_the_names_under_which_peft_finds_them() {
        let name = |part: &str| module_name(&format!("encoder.layer.3.{part}"));
        assert_eq!(name("attention.attention.query"), "layers.3.attention.q_proj");
        assert_eq!(name("attention.output.dense"), "layers.3.attention.o_proj");
        assert_eq!(name("intermediate.dense"), "layers.3.mlp.fc1");
        assert_eq!(name("output.dense"), "layers.3.mlp.fc2");
    }
}
