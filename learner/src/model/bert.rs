//! BERT encoders (arXiv 1810.04805) and those that are computed as they are (RoBERTa, XLM-R, DistilBERT), on token
//! sequences without padding.

mod embeddings;
mod family;

use burn::tensor::{Device, Tensor};

use self::{embeddings::Embeddings, family::Classifier};
use super::{
    BertConfig, HeadForm, Model, Pooling,
    block::{Block, BlockSizes},
    linear::{FrozenLayers, Linear},
    pass::Pass,
    weights::{Loader, Weights},
};
use crate::{Batch, DropoutMasks, GroupedAdapter, Inputs, LearnerError, Tokens, ops};

pub(super) use family::{FAMILIES, Family, Segments};

/// A frozen encoder of BERT's kind.
#[derive(Debug)]
pub struct Bert {
    embeddings: Embeddings,
    layers: Vec<Block>,
    /// BERT's own, with [`Pooling::Pooler`] only.
    pooler: Option<Linear>,
    pooling: Pooling,
    head: HeadForm,
    width: usize,
    frozen: FrozenLayers,
}

impl Bert {
    pub(super) fn load(
        config: &BertConfig,
        pooling: Pooling,
        weights: &mut impl Weights,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let (family, width) = (config.family(), config.hidden_size);
        let sizes = BlockSizes {
            width,
            heads: config.num_attention_heads,
            intermediate: config.intermediate_size,
            epsilon: config.layer_norm_eps,
        };
        let loader = &mut Loader::new(weights, if pooling == Pooling::Pooler { family.prefix } else { "" });
        let embeddings = Embeddings::load(config, loader)?;
        let layer = |index| Block::load(loader, &format!("{}.{index}", family.layers), family.block, sizes);
        let layers: Vec<Block> = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        let (pooler, head) = match (pooling, family.classifier) {
            (Pooling::Mean | Pooling::Cls, _) => (None, HeadForm::LINEAR),
            (Pooling::Pooler, Classifier::Pooler) => {
                (Some(loader.linear("pooler.dense", width, width)?), HeadForm::LINEAR)
            }
            (Pooling::Pooler, Classifier::Trained(head)) => (None, head),
        };
        let frozen = FrozenLayers::of(layers.iter().flat_map(Block::linears).chain(&pooler), device);
        Ok(Self { embeddings, layers, pooler, pooling, head, width, frozen })
    }

    /// Hidden states after the last layer; with `first_rows` those of each sequence's first token only.
    fn encode(&self, pass: &mut Pass<'_>, tokens: &Tokens, first_rows: bool) -> Tensor<2> {
        let mut x = self.embeddings.forward(pass, tokens);
        let Some((last, layers)) = self.layers.split_last() else { return x };
        for layer in layers {
            x = pass.layer(layer, x, Block::normalised_after);
        }
        let forward = if first_rows { Block::normalised_after_first_rows } else { Block::normalised_after };
        pass.layer(last, x, forward)
    }
}

impl Model for Bert {
    fn layers(&self) -> &FrozenLayers {
        &self.frozen
    }

    fn feature_width(&self) -> usize {
        self.width
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
        let Inputs::Tokens { tokens, lengths } = &batch.inputs else {
            panic!("an encoder of texts reads tokens, the batch has images");
        };
        let mut pass = Pass::new(lengths.clone(), adapters, dropout);
        let hidden = self.encode(&mut pass, tokens, self.pooling != Pooling::Mean);
        match (self.pooling, &self.pooler) {
            (Pooling::Mean, _) => ops::mean_rows(hidden, pass.lengths()),
            (Pooling::Pooler, Some(pooler)) => pass.linear(hidden, pooler).tanh(),
            _ => hidden,
        }
    }
}
