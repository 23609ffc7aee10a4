//! Llama-type decoders (arXiv 2302.13971): Llama, Mistral (arXiv 2310.06825), Qwen2 (arXiv 2407.10671) and Qwen3 (arXiv
//! 2505.09388), on token sequences without padding.

mod config;
mod layer;
mod rope;

use burn::tensor::{Device, Tensor};

use self::layer::Layer;
use super::{
    Decoder, KeyValueCache, Model,
    linear::FrozenLayers,
    pass::{Pass, select},
    weights::{Loader, RmsNorm, Weights},
};
use crate::{
    Batch, DropoutMasks, GroupedAdapter, Inputs, LearnerError, NextTokens, Targets,
    ops::{self, FrozenWeight},
};

pub(super) use config::LlamaConfig;

/// A frozen decoder. Its modules have the names of `transformers`' classes for causal language models.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    /// `[vocab_size, hidden_size]`.
    embedding: Tensor<2>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `[vocab_size, hidden_size]`; the embedding itself if the two are tied.
    output: FrozenWeight,
    frozen: FrozenLayers,
}

impl Llama {
    pub(super) fn load<W: Weights>(
        config: LlamaConfig,
        weights: &mut W,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let (vocabulary, width) = (config.vocab_size, config.hidden_size);
        let loader = &mut Loader::new(weights, "");
        let embedding = loader.tensor("model.embed_tokens.weight", [vocabulary, width])?;
        let layers: Vec<Layer> =
            (0..config.num_hidden_layers).map(|index| Layer::load(loader, &config, index)).collect::<Result<_, _>>()?;
        let norm = loader.rms_norm("model.norm", width, config.rms_norm_eps)?;
        let output = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            loader.tensor("lm_head.weight", [vocabulary, width])?
        };
        let frozen = FrozenLayers::of(layers.iter().flat_map(Layer::linears), device);
        Ok(Self { config, embedding, layers, norm, output: output.into(), frozen })
    }

    /// Hidden states of the rows that predict, `[predictions, hidden_size]`.
    fn encode(&self, pass: &mut Pass<'_>, tokens: &[u32], next: &NextTokens) -> Tensor<2> {
        let longest = pass.lengths().iter().copied().max().unwrap_or(0);
        let positions = pass.lengths().iter().flat_map(|&length| 0..length as i32).collect();
        let angles = self.config.rope.angles(0..longest, &self.device()).at(positions);
        let mut x = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut mixed = layer.attend(pass, &x, &angles);
            if index + 1 == self.layers.len() {
                // Nobody looks at the other rows any more.
                let kept = pass.keep_rows(&next.rows, next.counts.clone());
                (x, mixed) = (kept.of(x), kept.of(mixed));
            }
            x = layer.finish(pass, x, mixed);
        }
        self.norm.apply(x)
    }

    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        select(&self.embedding, tokens.iter().map(|id| id.cast_signed()).collect())
    }
}

impl Model for Llama {
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
        let Inputs::Tokens { tokens, lengths } = &batch.inputs else {
            panic!("a language model reads tokens, the batch has images");
        };
        let Targets::Tokens(next) = &batch.targets else {
            panic!("a language model predicts tokens, the batch has labels");
        };
        self.encode(&mut Pass::new(lengths.clone(), adapters, dropout), &tokens.ids, next)
    }

    fn decoder(&self) -> Option<&dyn Decoder> {
        Some(self)
    }
}

impl Decoder for Llama {
    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn longest(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn end_tokens(&self) -> &[u32] {
        &self.config.end_tokens
    }

    fn cached_values(&self) -> usize {
        self.config.cached_values()
    }

    fn logits(&self, features: Tensor<2>) -> Tensor<2> {
        ops::linear(features, self.output.clone(), None)
    }

    fn next(&self, tokens: &[&[u32]], cache: &mut KeyValueCache, adapters: Option<&GroupedAdapter>) -> Tensor<2> {
        let places = cache.make_room(tokens);
        assert!(!places.is_empty(), "no token precedes the next one");
        let adapters = adapters.map(|adapters| adapters.clone().with_examples(vec![places.len()]));
        let mut pass = Pass::new(places.iter().map(|place| place.queries).collect(), adapters.as_ref(), None);
        let positions = places.iter().flat_map(|place| place.keys - place.queries..place.keys);
        let angles = self.config.rope.angles(positions, &self.device());
        let mut x = self.embed(&tokens.concat());
        for (index, layer) in self.layers.iter().enumerate() {
            let extend = |rows| cache.extend(index, rows, &places);
            let mut mixed = layer.attend_with(&mut pass, &x, &angles, &places, extend);
            if index + 1 == self.layers.len() {
                let last = pass.keep_last_rows();
                (x, mixed) = (last.of(x), last.of(mixed));
            }
            x = layer.finish(&mut pass, x, mixed);
        }
        Decoder::logits(self, self.norm.apply(x))
    }
}
