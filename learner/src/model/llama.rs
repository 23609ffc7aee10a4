//! Llama-type decoders (arXiv 2302.13971): Llama, Mistral (arXiv 2310.06825), Qwen2 (arXiv 2407.10671) and Qwen3 (arXiv
//! 2505.09388), on token sequences without padding.

mod config;
mod layer;
mod rope;

use burn::tensor::{Device, Tensor};

use self::layer::Layer;
use super::{
    Decoder, HeadForm, KeyValueCache, Model,
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
    output: Output,
    frozen: FrozenLayers,
}

/// What a decoder predicts.
#[derive(Debug)]
enum Output {
    /// Tokens, by `[vocab_size, hidden_size]`; the embedding itself if the two are tied.
    Tokens(Box<FrozenWeight>),
    /// Labels, by a head that is part of the adapters.
    Labels,
}

impl Llama {
    /// A model that predicts tokens, or labels if it `classifies`.
    pub(super) fn load<W: Weights>(
        config: LlamaConfig,
        classifies: bool,
        weights: &mut W,
        device: &Device,
    ) -> Result<Self, LearnerError> {
        let (vocabulary, width) = (config.vocab_size, config.hidden_size);
        let loader = &mut Loader::new(weights, "");
        let embedding = loader.tensor("model.embed_tokens.weight", [vocabulary, width])?;
        let layers: Vec<Layer> =
            (0..config.num_hidden_layers).map(|index| Layer::load(loader, &config, index)).collect::<Result<_, _>>()?;
        let norm = loader.rms_norm("model.norm", width, config.rms_norm_eps)?;
        let output = match (classifies, config.tie_word_embeddings) {
            (true, _) => Output::Labels,
            (false, true) => Output::Tokens(Box::new(embedding.clone().into())),
            (false, false) => Output::Tokens(Box::new(loader.tensor("lm_head.weight", [vocabulary, width])?.into())),
        };
        let frozen = FrozenLayers::of(layers.iter().flat_map(Layer::linears), device);
        Ok(Self { config, embedding, layers, norm, output, frozen })
    }

    /// Hidden states of the rows that predict, `[predictions, hidden_size]`: their places, and their number in each sequence.
    fn encode(&self, pass: &mut Pass<'_>, tokens: &[u32], rows: &[u32], counts: Vec<usize>) -> Tensor<2> {
        let longest = pass.lengths().iter().copied().max().unwrap_or(0);
        let positions = pass.lengths().iter().flat_map(|&length| 0..length as i32).collect();
        let angles = self.config.rope.angles(0..longest, &self.device()).at(positions);
        let mut x = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            // Behind the last layer nobody looks at the other rows any more.
            let kept = (index + 1 == self.layers.len()).then(|| (rows.to_vec(), counts.clone()));
            let angles = angles.clone();
            x = pass.layer(layer, x, move |layer, pass, mut x| {
                let mut mixed = layer.attend(pass, &x, &angles);
                if let Some((rows, counts)) = &kept {
                    let kept = pass.keep_rows(rows, counts.clone());
                    (x, mixed) = (kept.of(x), kept.of(mixed));
                }
                layer.finish(pass, x, mixed)
            });
        }
        self.norm.apply(x)
    }

    /// The place of each sequence's last token that is no padding, among all; a sequence of nothing else has its first one.
    fn last_tokens(&self, tokens: &[u32], lengths: &[usize]) -> Vec<u32> {
        let (mut rest, mut start) = (tokens, 0);
        let place = |&length: &usize| {
            let (own, later) = rest.split_at(length);
            let last = own.iter().rposition(|token| Some(*token) != self.config.padding).unwrap_or(0);
            let place = start + last;
            (rest, start) = (later, start + length);
            place as u32
        };
        lengths.iter().map(place).collect()
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
        let (rows, counts) = match (&self.output, &batch.targets) {
            (Output::Tokens(_), Targets::Tokens(NextTokens { rows, counts, .. })) => (rows.clone(), counts.clone()),
            (Output::Labels, Targets::Labels(_)) => (self.last_tokens(&tokens.ids, lengths), vec![1; lengths.len()]),
            (Output::Tokens(_), Targets::Labels(_)) => panic!("a language model predicts tokens, the batch has labels"),
            (Output::Labels, Targets::Tokens(_)) => panic!("the model predicts labels, the batch asks for tokens"),
        };
        self.encode(&mut Pass::new(lengths.clone(), adapters, dropout), &tokens.ids, &rows, counts)
    }

    fn decoder(&self) -> Option<&dyn Decoder> {
        match self.output {
            Output::Tokens(_) => Some(self),
            Output::Labels => None,
        }
    }

    fn head(&self) -> HeadForm {
        HeadForm::DECODER
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
        match &self.output {
            Output::Tokens(weight) => ops::linear(features, FrozenWeight::clone(weight), None),
            // Nobody gets a decoder of such a model.
            Output::Labels => panic!("a model that predicts labels has no output layer for tokens"),
        }
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
