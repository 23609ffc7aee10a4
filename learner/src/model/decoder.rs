//! Models that predict the next token by themselves.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::{GroupedAdapter, ops::CachedKeys};

/// Rows by which a cache grows at least.
const ROOM: usize = 64;

/// What a language model offers beside [`Model`](super::Model): its own output layer stands in for a head.
pub trait Decoder: Debug + Send + Sync {
    /// Number of tokens that it knows, one logit each.
    fn vocabulary(&self) -> usize;

    /// Tokens of the longest sequence that it was made for.
    fn longest(&self) -> usize;

    /// Tokens that end a text, ascending: those that `config.json` and `generation_config.json` name, the one that a
    /// response ends with in training, and the one that ends a turn of the chat template.
    fn end_tokens(&self) -> &[u32];

    /// Values that a [`KeyValueCache`] keeps of each token.
    fn cached_values(&self) -> usize;

    /// Logits `[rows, vocabulary]` of features `[rows, width]`, by the output layer.
    fn logits(&self, features: Tensor<2>) -> Tensor<2>;

    /// Logits `[sequences, vocabulary]` of the tokens behind `tokens`, which hold for each sequence of the cache those that
    /// follow what it has seen; it then has seen these too. Sequences without tokens are passed over, and have no row.
    ///
    /// A sequence's logits do not depend on those beside it. The cache must have been used with this model and these adapters
    /// only; of the adapters there is one group.
    ///
    /// # Panics
    /// If there are no tokens at all, if one is beyond the vocabulary, or if the cache is for another number of sequences.
    fn next(&self, tokens: &[&[u32]], cache: &mut KeyValueCache, adapters: Option<&GroupedAdapter>) -> Tensor<2>;
}

/// Keys and values of the tokens of some sequences, layer by layer, so that each token goes through the model once.
#[derive(Debug, Clone)]
pub struct KeyValueCache {
    /// Keys and values, `[sequences · room, key heads · d_head]` each.
    layers: Vec<[Tensor<2>; 2]>,
    /// Tokens seen of each sequence.
    seen: Vec<usize>,
    /// Rows of each sequence.
    room: usize,
}

impl KeyValueCache {
    /// A cache of so many sequences that have seen nothing yet.
    #[must_use]
    pub fn new(sequences: usize) -> Self {
        Self { layers: Vec::new(), seen: vec![0; sequences], room: 0 }
    }

    /// Number of tokens seen of each sequence.
    #[must_use]
    pub fn seen(&self) -> &[usize] {
        &self.seen
    }

    /// Lets another sequence begin in the place of one.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn forget(&mut self, sequence: usize) {
        self.seen[sequence] = 0;
    }

    /// Counts tokens that all layers are about to see, and says where those of each sequence will be that has any.
    pub(super) fn make_room(&mut self, tokens: &[&[u32]]) -> Vec<CachedKeys> {
        assert_eq!(tokens.len(), self.seen.len(), "every sequence of the cache has its tokens, or none");
        for (seen, own) in self.seen.iter_mut().zip(tokens) {
            *seen += own.len();
        }
        let needed = self.seen.iter().copied().max().unwrap_or(0);
        if needed > self.room {
            self.grow(needed.next_multiple_of(ROOM).max(2 * self.room));
        }
        let places = tokens.iter().zip(&self.seen).enumerate().filter(|(_, (own, _))| !own.is_empty());
        let place = |(sequence, (own, &keys)): (usize, (&&[u32], &usize))| CachedKeys {
            queries: own.len(),
            first: sequence * self.room,
            keys,
        };
        places.map(place).collect()
    }

    /// Adds keys and values of new tokens, the last ones at `places`, to those of a layer, and returns all of them. Layers
    /// come in order.
    pub(super) fn extend(&mut self, layer: usize, rows: [Tensor<2>; 2], places: &[CachedKeys]) -> [Tensor<2>; 2] {
        if self.layers.len() == layer {
            let height = self.seen.len() * self.room;
            self.layers.push(rows.each_ref().map(|rows| Tensor::zeros([height, rows.dims()[1]], &rows.device())));
        }
        let tables = &mut self.layers[layer];
        for (table, rows) in tables.iter_mut().zip(rows) {
            // Taken out of its place: a table that nobody else holds is written to where it is.
            let taken = std::mem::replace(table, rows.clone());
            *table = written(taken, &rows, places);
        }
        tables.clone()
    }

    fn grow(&mut self, room: usize) {
        let sequences = self.seen.len();
        for table in self.layers.iter_mut().flatten() {
            let width = table.dims()[1];
            let more = Tensor::zeros([sequences, room - self.room, width], &table.device());
            let whole = Tensor::cat(vec![table.clone().reshape([sequences, self.room, width]), more], 1);
            *table = whole.reshape([sequences * room, width]);
        }
        self.room = room;
    }
}

/// A table with new rows, the last ones at `places`.
fn written(mut table: Tensor<2>, rows: &Tensor<2>, places: &[CachedKeys]) -> Tensor<2> {
    let (width, mut start) = (rows.dims()[1], 0);
    for place in places {
        let end = place.first + place.keys;
        let own = rows.clone().narrow(0, start, place.queries);
        table = table.slice_assign([end - place.queries..end, 0..width], own);
        start += place.queries;
    }
    table
}
