//! BERT encoders (arXiv 1810.04805), on token sequences without padding.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use fedlora_adapter::{ModuleName, ModuleSpec, Tensor as HostTensor};

use super::{
    BertConfig, Model, Pooling,
    block::{Block, BlockNames, BlockSizes},
    linear::{Linear, Linears},
    pass::{Pass, select},
    weights::{Loader, Norm, Weights},
};
use crate::{Batch, DropoutMasks, GroupedAdapter, Inputs, LearnerError, Tokens, ops};

const NAMES: BlockNames = BlockNames {
    attention: "attention.self",
    attention_norm: "attention.output.LayerNorm",
    output_norm: "output.LayerNorm",
};

/// A frozen BERT encoder.
#[derive(Debug)]
pub struct Bert {
    embeddings: Embeddings,
    layers: Vec<Block>,
    /// Present with [`Pooling::Pooler`] only.
    pooler: Option<Linear>,
    pooling: Pooling,
    width: usize,
    linears: Linears,
    device: Device,
}

#[derive(Debug)]
struct Embeddings {
    /// `[vocab_size, hidden_size]`.
    word: Tensor<2>,
    /// `[max_position_embeddings, hidden_size]`.
    position: Tensor<2>,
    /// `[type_vocab_size, hidden_size]`.
    segment: Tensor<2>,
    norm: Norm,
}

impl Bert {
    pub(super) fn load(
        config: &BertConfig,
        pooling: Pooling,
        weights: &mut impl Weights,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let width = config.hidden_size;
        let sizes = BlockSizes {
            width,
            heads: config.num_attention_heads,
            intermediate: config.intermediate_size,
            epsilon: config.layer_norm_eps,
        };
        let loader = &mut Loader::new(weights, pooling.prefix());
        let embeddings = Embeddings::load(config, loader)?;
        let layer = |index| Block::load(loader, &format!("encoder.layer.{index}"), NAMES, sizes);
        let layers: Vec<Block> = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        let pooler = match pooling {
            Pooling::Pooler => Some(loader.linear("pooler.dense", width, width)?),
            Pooling::Mean | Pooling::Cls => None,
        };
        let linears = Linears::new(layers.iter().flat_map(Block::linears).chain(&pooler));
        Ok(Self { embeddings, layers, pooler, pooling, width, linears, device: device.clone() })
    }

    /// Hidden states after the last layer; with `first_rows` those of each sequence's first token only.
    fn encode(&self, pass: &mut Pass<'_>, tokens: &Tokens, first_rows: bool) -> Tensor<2> {
        let mut x = self.embeddings.forward(pass, tokens);
        let Some((last, layers)) = self.layers.split_last() else { return x };
        for layer in layers {
            x = layer.normalised_after(pass, x);
        }
        if first_rows { last.normalised_after_first_rows(pass, x) } else { last.normalised_after(pass, x) }
    }
}

impl Embeddings {
    fn load<W: Weights>(config: &BertConfig, loader: &mut Loader<'_, W>) -> Result<Self, LearnerError> {
        let width = config.hidden_size;
        let mut table =
            |name: &str, rows| loader.tensor(&format!("embeddings.{name}_embeddings.weight"), [rows, width]);
        Ok(Self {
            word: table("word", config.vocab_size)?,
            position: table("position", config.max_position_embeddings)?,
            segment: table("token_type", config.type_vocab_size)?,
            norm: loader.norm("embeddings.LayerNorm", width, config.layer_norm_eps)?,
        })
    }

    fn forward(&self, pass: &Pass<'_>, tokens: &Tokens) -> Tensor<2> {
        let word = select(&self.word, tokens.ids.iter().map(|&id| id.cast_signed()).collect());
        let positions = pass.lengths().iter().flat_map(|&length| 0..length as i32).collect();
        let segments = tokens.segments.iter().map(|&segment| i32::from(segment)).collect();
        let place = select(&self.position, positions) + select(&self.segment, segments);
        pass.add_norm(word, place, &self.norm)
    }
}

impl Model for Bert {
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
        self.width
    }

    fn features(
        &self,
        batch: &Batch,
        adapters: Option<&GroupedAdapter>,
        dropout: Option<&mut DropoutMasks>,
    ) -> Tensor<2> {
        let Inputs::Tokens { tokens, lengths } = &batch.inputs else {
            panic!("a BERT model reads tokens, the batch has images");
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
