//! Models that predict the next token by themselves.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::GroupedAdapter;

/// What a language model offers beside [`Model`](super::Model): its own output layer stands in for a head.
pub trait Decoder: Debug + Send + Sync {
    /// Number of tokens that it knows, one logit each.
    fn vocabulary(&self) -> usize;

    /// Tokens of the longest sequence that it was made for.
    fn longest(&self) -> usize;

    /// Tokens that end a text, as the model's configuration names them.
    fn end_tokens(&self) -> &[u32];

    /// Logits `[rows, vocabulary]` of features `[rows, width]`, by the output layer.
    fn logits(&self, features: Tensor<2>) -> Tensor<2>;

    /// Logits `[1, vocabulary]` of the token behind `tokens`, which follow those that the cache has seen; it then has seen
    /// these too.
    ///
    /// The cache must have been used with this model and these adapters only; of the adapters there is one group.
    ///
    /// # Panics
    /// If there are no tokens, or one is beyond the vocabulary.
    fn next(&self, tokens: &[u32], cache: &mut KeyValueCache, adapters: Option<&GroupedAdapter>) -> Tensor<2>;
}

/// Keys and values of the tokens of one sequence, layer by layer, so that each token goes through the model once.
#[derive(Debug, Clone, Default)]
pub struct KeyValueCache {
    /// `[tokens, key heads · d_head]` each.
    layers: Vec<[Tensor<2>; 2]>,
    tokens: usize,
}

impl KeyValueCache {
    /// Number of tokens seen.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Counts tokens that all layers have seen.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.tokens += tokens;
    }

    /// Adds keys and values of new tokens to those of a layer, and returns all of them. Layers come in order.
    pub(super) fn extend(&mut self, layer: usize, keys: Tensor<2>, values: Tensor<2>) -> [Tensor<2>; 2] {
        if let Some(all) = self.layers.get_mut(layer) {
            let [old_keys, old_values] = all.clone();
            *all = [Tensor::cat(vec![old_keys, keys], 0), Tensor::cat(vec![old_values, values], 0)];
            return all.clone();
        }
        self.layers.push([keys.clone(), values.clone()]);
        [keys, values]
    }
}
