//! One layer of a decoder.

use burn::tensor::Tensor;

use super::{
    super::{
        linear::Linear,
        pass::Pass,
        weights::{Loader, RmsNorm, Weights},
    },
    LlamaConfig,
    rope::Angles,
};
use crate::{
    LearnerError,
    ops::{self, CachedKeys, CausalHeads},
};

/// Attention and feed-forward part, each of which sees its input normalised and is added to it.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Qwen3's normalisations of every head's queries and keys.
    head_norms: Option<[RmsNorm; 2]>,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    heads: CausalHeads,
}

impl RmsNorm {
    /// `x` normalised row by row.
    pub(super) fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        ops::rms_norm(x, self.gamma.clone(), self.epsilon)
    }

    /// `x` normalised head by head.
    fn apply_to_heads(&self, x: Tensor<2>) -> Tensor<2> {
        let ([rows, width], [head]) = (x.dims(), self.gamma.dims());
        self.apply(x.reshape([rows * (width / head), head])).reshape([rows, width])
    }
}

impl Layer {
    pub(super) fn load<W: Weights>(
        loader: &mut Loader<'_, W>,
        config: &LlamaConfig,
        index: usize,
    ) -> Result<Self, LearnerError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let (width, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let heads = config.heads(index);
        let (queries, keys) = (heads.query * config.head_dim, heads.key_value * config.head_dim);
        let biases = config.biases;
        let attention_norm = loader.rms_norm(&name("input_layernorm"), width, epsilon)?;
        let mut linear = |part: &str, d_in, d_out, bias| {
            let name = name(part);
            if bias { loader.linear(&name, d_in, d_out) } else { loader.linear_without_bias(&name, d_in, d_out) }
        };
        Ok(Self {
            attention_norm,
            query: linear("self_attn.q_proj", width, queries, biases.query_key_value)?,
            key: linear("self_attn.k_proj", width, keys, biases.query_key_value)?,
            value: linear("self_attn.v_proj", width, keys, biases.query_key_value)?,
            output: linear("self_attn.o_proj", queries, width, biases.output)?,
            gate: linear("mlp.gate_proj", width, inner, biases.feed_forward)?,
            up: linear("mlp.up_proj", width, inner, biases.feed_forward)?,
            down: linear("mlp.down_proj", inner, width, biases.feed_forward)?,
            head_norms: head_norms(loader, config, name)?,
            feed_forward_norm: loader.rms_norm(&name("post_attention_layernorm"), width, epsilon)?,
            heads,
        })
    }

    /// Its linear layers, which adapters can wrap.
    pub(super) fn linears(&self) -> [&Linear; 7] {
        [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down]
    }

    /// What the heads of whole sequences found, before the output layer.
    pub(super) fn attend(&self, pass: &mut Pass<'_>, x: &Tensor<2>, angles: &Angles) -> Tensor<2> {
        let [q, k, v] = self.project(pass, x, angles);
        ops::causal_attention(q, k, v, self.heads, pass.lengths())
    }

    /// The same for the last tokens of sequences whose keys and values will be at `places` of what `extend` returns: it adds
    /// those of these tokens to those of the tokens before.
    pub(super) fn attend_with(
        &self,
        pass: &mut Pass<'_>,
        x: &Tensor<2>,
        angles: &Angles,
        places: &[CachedKeys],
        extend: impl FnOnce([Tensor<2>; 2]) -> [Tensor<2>; 2],
    ) -> Tensor<2> {
        let [q, k, v] = self.project(pass, x, angles);
        let [k, v] = extend([k, v]);
        ops::causal_attention_of_cached(q, k, v, self.heads, places)
    }

    /// The layer's output from its input and what its heads found.
    pub(super) fn finish(&self, pass: &mut Pass<'_>, x: Tensor<2>, mixed: Tensor<2>) -> Tensor<2> {
        let x = x + pass.linear(mixed, &self.output);
        let normal = self.feed_forward_norm.apply(x.clone());
        let gate = pass.linear(normal.clone(), &self.gate);
        let up = pass.linear(normal, &self.up);
        x + pass.linear(ops::silu_gate(gate, up), &self.down)
    }

    /// Queries and keys, turned by their positions' angles, and values.
    fn project(&self, pass: &mut Pass<'_>, x: &Tensor<2>, angles: &Angles) -> [Tensor<2>; 3] {
        let x = self.attention_norm.apply(x.clone());
        let (mut q, mut k) = (pass.linear(x.clone(), &self.query), pass.linear(x.clone(), &self.key));
        if let Some([query, key]) = &self.head_norms {
            (q, k) = (query.apply_to_heads(q), key.apply_to_heads(k));
        }
        [angles.turn(q), angles.turn(k), pass.linear(x, &self.value)]
    }
}

fn head_norms<W: Weights>(
    loader: &mut Loader<'_, W>,
    config: &LlamaConfig,
    name: impl Fn(&str) -> String,
) -> Result<Option<[RmsNorm; 2]>, LearnerError> {
    if !config.head_norms {
        return Ok(None);
    }
    let mut norm = |part: &str| loader.rms_norm(&name(part), config.head_dim, config.rms_norm_eps);
    Ok(Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?]))
}
