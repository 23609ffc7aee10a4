//! One transformer layer, normalised after its parts (BERT) or before them (ViT).

use burn::tensor::Tensor;

use super::{
    linear::Linear,
    pass::Pass,
    weights::{Loader, Norm, Weights},
};
use crate::{LearnerError, ops};

/// Attention and feed-forward part of one layer.
#[derive(Debug, Clone)]
pub(super) struct Block {
    inputs: Inputs,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
    heads: usize,
}

/// What makes queries, keys and values.
#[derive(Debug, Clone)]
enum Inputs {
    /// A layer for each.
    Apart(Box<[Linear; 3]>),
    /// One layer, whose columns are those of queries, then of keys, then of values.
    Together(Box<Linear>),
}

/// Names of the layers that make queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputNames {
    /// One for each.
    Apart([&'static str; 3]),
    /// One for all.
    Together(&'static str),
}

/// Names of a layer's parts, behind the layer's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockNames {
    pub(super) inputs: InputNames,
    pub(super) output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) output_norm: &'static str,
}

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSizes {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) epsilon: f64,
}

impl Block {
    /// The layer whose weights' names start with `name`.
    pub(super) fn load<W: Weights>(
        loader: &mut Loader<'_, W>,
        name: &str,
        names: BlockNames,
        sizes: BlockSizes,
    ) -> Result<Self, LearnerError> {
        let BlockSizes { width, heads, intermediate, epsilon } = sizes;
        let mut linear = |part, d_in, d_out| loader.linear(&format!("{name}.{part}"), d_in, d_out);
        let inputs = match names.inputs {
            InputNames::Apart([query, key, value]) => {
                let [query, key, value] = [query, key, value].map(|part| linear(part, width, width));
                Inputs::Apart(Box::new([query?, key?, value?]))
            }
            InputNames::Together(part) => Inputs::Together(Box::new(linear(part, width, 3 * width)?)),
        };
        let output = linear(names.output, width, width)?;
        let (up, down) = (linear(names.up, width, intermediate)?, linear(names.down, intermediate, width)?);
        let mut norm = |part| loader.norm(&format!("{name}.{part}"), width, epsilon);
        let (attention_norm, output_norm) = (norm(names.attention_norm)?, norm(names.output_norm)?);
        Ok(Self { inputs, output, attention_norm, up, down, output_norm, heads })
    }

    /// Its linear layers, which adapters can wrap.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let inputs = match &self.inputs {
            Inputs::Apart(layers) => layers.as_slice(),
            Inputs::Together(layer) => std::slice::from_ref(&**layer),
        };
        inputs.iter().chain([&self.output, &self.up, &self.down])
    }

    /// BERT's layer: each part is added to its input and the sum normalised.
    pub(super) fn normalised_after(&self, pass: &mut Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        let mixed = self.attend(pass, &x);
        self.finish_after(pass, x, mixed)
    }

    /// The same for the first row of each example only, when nobody looks at the others any more.
    pub(super) fn normalised_after_first_rows(&self, pass: &mut Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        let mixed = self.attend(pass, &x);
        let first = pass.keep_first_rows();
        self.finish_after(pass, first.of(x), first.of(mixed))
    }

    /// `ViT`'s layer: each part sees its input normalised and is added to it (pre-norm).
    pub(super) fn normalised_before(&self, pass: &mut Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        let normal = pass.norm(x.clone(), &self.attention_norm);
        let mixed = self.attend(pass, &normal);
        self.finish_before(pass, x, mixed)
    }

    /// The same for the first row of each example only.
    pub(super) fn normalised_before_first_rows(&self, pass: &mut Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        let normal = pass.norm(x.clone(), &self.attention_norm);
        let mixed = self.attend(pass, &normal);
        let first = pass.keep_first_rows();
        self.finish_before(pass, first.of(x), first.of(mixed))
    }

    fn finish_before(&self, pass: &mut Pass<'_>, x: Tensor<2>, mixed: Tensor<2>) -> Tensor<2> {
        let x = x + pass.linear(mixed, &self.output);
        let normal = pass.norm(x.clone(), &self.output_norm);
        x + self.feed_forward(pass, normal)
    }

    fn attend(&self, pass: &mut Pass<'_>, x: &Tensor<2>) -> Tensor<2> {
        let [q, k, v] = match &self.inputs {
            Inputs::Apart(layers) => layers.each_ref().map(|layer| pass.linear(x.clone(), layer)),
            Inputs::Together(layer) => {
                let (all, width) = (pass.linear(x.clone(), layer), x.dims()[1]);
                [0, 1, 2].map(|part| all.clone().narrow(1, part * width, width))
            }
        };
        ops::attention(q, k, v, self.heads, pass.lengths())
    }

    fn finish_after(&self, pass: &mut Pass<'_>, x: Tensor<2>, mixed: Tensor<2>) -> Tensor<2> {
        let mixed = pass.linear(mixed, &self.output);
        let x = pass.add_norm(mixed, x, &self.attention_norm);
        let forward = self.feed_forward(pass, x.clone());
        pass.add_norm(forward, x, &self.output_norm)
    }

    fn feed_forward(&self, pass: &mut Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        let hidden = ops::gelu(pass.linear(x, &self.up));
        pass.linear(hidden, &self.down)
    }
}
