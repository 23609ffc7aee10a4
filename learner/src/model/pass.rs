//! One forward pass: which adapters apply to which rows.

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::{linear::Linear, weights::Norm};
use crate::{
    DropoutMasks, GroupedAdapter,
    grouped::{Checkpointing, without_graph},
    ops,
};

/// What the layers of one forward pass share.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    adapters: Option<&'a GroupedAdapter>,
    dropout: Option<&'a mut DropoutMasks>,
    /// Rows of each example.
    lengths: Vec<usize>,
    /// Rows of each group of examples.
    rows: Vec<usize>,
    /// Whether gradients reach the weights; frozen weights, the rule, go through the fused operations.
    trains_weights: bool,
    /// Where layers are noted whose inputs alone are kept.
    checkpointing: Option<Checkpointing>,
    /// Whether an adapter has had a part in it so far.
    adapted: bool,
}

impl<'a> Pass<'a> {
    /// A pass over examples with the given numbers of rows.
    ///
    /// # Panics
    /// If the adapters' examples do not sum to the number of lengths.
    pub(super) fn new(
        lengths: Vec<usize>,
        adapters: Option<&'a GroupedAdapter>,
        dropout: Option<&'a mut DropoutMasks>,
    ) -> Self {
        let mut pass = Self {
            adapters,
            dropout,
            lengths: Vec::new(),
            rows: Vec::new(),
            trains_weights: false,
            checkpointing: adapters.and_then(GroupedAdapter::checkpointing),
            adapted: false,
        };
        pass.set_lengths(lengths);
        pass
    }

    /// A pass without adapters in which the weights themselves get gradients.
    pub(super) fn training_weights(lengths: Vec<usize>) -> Self {
        Self { trains_weights: true, ..Self::new(lengths, None, None) }
    }

    /// Rows of each example.
    pub(super) fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// A layer of the model. Under gradient checkpointing it is computed without a graph, and once more, with one, when
    /// gradients are taken: what follows must see nothing of it but the output.
    ///
    /// Layers below the first adapted one need no gradients and are computed once.
    pub(super) fn layer<L: Clone + Send + 'static>(
        &mut self,
        layer: &L,
        x: Tensor<2>,
        forward: impl Fn(&L, &mut Pass<'_>, Tensor<2>) -> Tensor<2> + Send + 'static,
    ) -> Tensor<2> {
        let Some(Checkpointing { checkpoints, trained, constant }) = self.checkpointing.clone() else {
            return forward(layer, self, x);
        };
        let (lengths, mut dropout) = (self.lengths.clone(), self.dropout.as_deref().cloned());
        let y = self.with_adapters(&constant, |pass| forward(layer, pass, without_graph(x.clone())));
        if !self.adapted {
            return y;
        }
        let layer = layer.clone();
        checkpoints.keep(y, move || forward(&layer, &mut Pass::new(lengths, Some(&trained), dropout.as_mut()), deep(x)))
    }

    /// Does a part of the pass with these adapters, which have as many groups and examples as the pass's own.
    fn with_adapters<T>(&mut self, adapters: &GroupedAdapter, part: impl FnOnce(&mut Pass<'_>) -> T) -> T {
        let mut pass = Pass {
            adapters: Some(adapters),
            dropout: self.dropout.as_deref_mut(),
            lengths: std::mem::take(&mut self.lengths),
            rows: std::mem::take(&mut self.rows),
            trains_weights: false,
            checkpointing: None,
            adapted: self.adapted,
        };
        let result = part(&mut pass);
        (self.lengths, self.rows, self.adapted) = (pass.lengths, pass.rows, pass.adapted);
        result
    }

    /// The layer, with its adapter if it has one.
    pub(super) fn linear(&mut self, x: Tensor<2>, layer: &Linear) -> Tensor<2> {
        if self.trains_weights {
            let y = x.matmul(layer.weight.tensor().clone().transpose());
            return layer.bias.iter().fold(y, |y, bias| y + bias.clone().unsqueeze());
        }
        let bias = layer.bias.clone();
        let Some(adapters) = self.adapters.filter(|adapters| adapters.adapts(&layer.name)) else {
            return ops::linear(x, layer.weight.clone(), bias);
        };
        self.adapted = true;
        adapters.see(&layer.name, &x);
        let weight = layer.base(adapters.spec());
        let width = x.dims()[1];
        let mask = self.dropout.as_mut().and_then(|masks| masks.next(&self.lengths, width, &x.device()));
        match (adapters.lora(&layer.name, &self.rows, mask), adapters.magnitude(&layer.name)) {
            (Some(lora), Some(magnitude)) => ops::linear_dora(x, weight, bias, lora, magnitude),
            (Some(lora), None) => ops::linear_lora(x, weight, bias, lora),
            (None, _) => ops::linear(x, weight, bias),
        }
    }

    /// `x` normalised row by row.
    pub(super) fn norm(&self, x: Tensor<2>, norm: &Norm) -> Tensor<2> {
        let Norm { gamma, beta, epsilon } = norm.clone();
        if self.trains_weights {
            return ops::composite_layer_norm(x, gamma, beta, epsilon);
        }
        ops::layer_norm(x, gamma, beta, epsilon)
    }

    /// `x + residual` normalised row by row.
    pub(super) fn add_norm(&self, x: Tensor<2>, residual: Tensor<2>, norm: &Norm) -> Tensor<2> {
        if self.trains_weights {
            return self.norm(x + residual, norm);
        }
        let Norm { gamma, beta, epsilon } = norm.clone();
        ops::add_layer_norm(x, residual, gamma, beta, epsilon)
    }

    /// Does a part of the pass in which examples have other numbers of rows.
    pub(super) fn with_lengths<T>(&mut self, lengths: Vec<usize>, part: impl FnOnce(&mut Self) -> T) -> T {
        let own = std::mem::take(&mut self.lengths);
        self.set_lengths(lengths);
        let result = part(self);
        self.set_lengths(own);
        result
    }

    /// From here on, each example is its first row only. Returns the selection to apply to the activations.
    pub(super) fn keep_first_rows(&mut self) -> KeptRows {
        let starts = self.lengths.iter().scan(0, |start, &length| {
            let this = *start;
            *start += length;
            Some(this)
        });
        let starts: Vec<u32> = starts.map(|start| start as u32).collect();
        self.keep_rows(&starts, vec![1; self.lengths.len()])
    }

    /// From here on, each example is its last row only. Returns the selection to apply to the activations.
    pub(super) fn keep_last_rows(&mut self) -> KeptRows {
        let ends = self.lengths.iter().scan(0, |end, &length| {
            *end += length;
            Some(*end)
        });
        let last: Vec<u32> = ends.map(|end: usize| end.saturating_sub(1) as u32).collect();
        self.keep_rows(&last, vec![1; self.lengths.len()])
    }

    /// From here on, each example is some of its rows only: `rows` are their places among all rows, `counts` their number in
    /// each example. Returns the selection to apply to the activations.
    ///
    /// # Panics
    /// If a row is not its example's: what one client trains on must not reach another.
    pub(super) fn keep_rows(&mut self, rows: &[u32], counts: Vec<usize>) -> KeptRows {
        let (mut rest, mut start) = (rows, 0);
        for (&length, &count) in self.lengths.iter().zip(&counts) {
            let (own, later) = rest.split_at(count);
            let example = start..start + length;
            assert!(own.iter().all(|&row| example.contains(&(row as usize))), "a row of another example is kept");
            (rest, start) = (later, example.end);
        }
        assert!(rest.is_empty(), "every example needs its number of kept rows");
        self.set_lengths(counts);
        KeptRows(rows.iter().map(|row| row.cast_signed()).collect())
    }

    fn set_lengths(&mut self, lengths: Vec<usize>) {
        let mut rest = lengths.as_slice();
        let mut rows = Vec::new();
        for &examples in self.adapters.map_or(&[lengths.len()][..], GroupedAdapter::examples) {
            assert!(examples <= rest.len(), "the groups have more examples than the batch");
            let (own, later) = rest.split_at(examples);
            rows.push(own.iter().sum());
            rest = later;
        }
        assert!(rest.is_empty(), "the groups have fewer examples than the batch");
        (self.lengths, self.rows) = (lengths, rows);
    }
}

/// The same values farther from the leaves of their graph than any factor of an adapter is. burn adds gradients up in the
/// order of that distance: a layer by itself must add as it does behind others.
fn deep(x: Tensor<2>) -> Tensor<2> {
    let [rows, width] = x.dims();
    x.reshape([1, rows, width]).reshape([rows, width])
}

/// Places of the rows that a pass goes on with.
#[derive(Debug, Clone)]
pub(super) struct KeptRows(Vec<i32>);

impl KeptRows {
    /// Those rows of the activations.
    pub(super) fn of(&self, x: Tensor<2>) -> Tensor<2> {
        select(&x, self.0.clone())
    }
}

/// Rows of a table in f32, in the given order, with repetition.
pub(super) fn select(table: &Tensor<2>, rows: Vec<i32>) -> Tensor<2> {
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &table.device().inner());
    table.clone().select(0, rows).cast(DType::F32)
}
