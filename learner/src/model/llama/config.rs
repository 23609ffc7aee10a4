//! `config.json` of Llama-type decoders.

mod rope;

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::rope::{Rope, RopeParameters};
use crate::{LearnerError, ops::CausalHeads};

/// How the names of `transformers`' classes for the classification of sequences end.
const CLASSIFIER: &str = "ForSequenceClassification";

/// What decides the shapes and functions of a decoder, in the names of `transformers`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) struct LlamaConfig {
    pub(in crate::model) vocab_size: usize,
    pub(in crate::model) initializer_range: f64,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    pub(super) head_dim: usize,
    pub(in crate::model) max_position_embeddings: usize,
    pub(super) rms_norm_eps: f64,
    pub(super) tie_word_embeddings: bool,
    pub(super) biases: Biases,
    pub(super) head_norms: bool,
    pub(super) rope: Rope,
    pub(super) end_tokens: Vec<u32>,
    pub(super) padding: Option<u32>,
    /// Whether the file says that the weights are those of a class for the classification of sequences.
    pub(in crate::model) classifies: bool,
    /// Attention window of each layer.
    windows: Vec<Option<usize>>,
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Biases {
    pub(super) query_key_value: bool,
    pub(super) output: bool,
    pub(super) feed_forward: bool,
}

/// What differs between the families beside names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

/// The file as it is.
#[derive(Debug, Deserialize)]
struct Raw {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    #[serde(default = "default_range")]
    initializer_range: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<RopeParameters>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "default_window")]
    sliding_window: Option<usize>,
    #[serde(default = "default_full_layers")]
    max_window_layers: usize,
    layer_types: Option<Vec<String>>,
    eos_token_id: Option<OneOrMore>,
    /// Some files have a negative number where there is none.
    pad_token_id: Option<i64>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

fn default_activation() -> String {
    "silu".to_owned()
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_range() -> f64 {
    0.02
}

/// The families with windows have this one where the key is absent; `null` is none.
#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn default_window() -> Option<usize> {
    Some(4096)
}

fn default_full_layers() -> usize {
    28
}

/// Says what is wrong with the file at hand.
#[derive(Debug, Clone, Copy)]
struct Refusal<'a>(&'a Path);

impl Refusal<'_> {
    fn of<T>(self, key: &'static str, found: impl ToString, expected: impl Into<String>) -> Result<T, LearnerError> {
        let (found, expected) = (found.to_string(), expected.into());
        Err(LearnerError::Config { file: self.0.to_owned(), key, found, expected })
    }
}

impl LlamaConfig {
    /// Values of `model_type` that this configuration knows.
    pub(in crate::model) const MODEL_TYPES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

    /// The configuration in `value`, which was read from `file`.
    ///
    /// # Errors
    /// Another architecture; an activation, a scaling of positions or a pattern of attention that is not computed here; sizes
    /// that do not fit together.
    pub(in crate::model) fn new(file: &Path, value: &Value) -> Result<Self, LearnerError> {
        let refuse = Refusal(file);
        let family = Family::of(value, refuse)?;
        let raw = Raw::deserialize(value).map_err(|source| LearnerError::Json { file: file.to_owned(), source })?;
        if raw.hidden_act != "silu" {
            return refuse.of("hidden_act", &raw.hidden_act, "silu");
        }
        let head_dim = raw.head_dim.unwrap_or(match family {
            Family::Qwen3 => 128,
            _ => raw.hidden_size / raw.num_attention_heads.max(1),
        });
        let config = Self {
            num_key_value_heads: key_value_heads(family, value, &raw, refuse)?,
            windows: windows(family, &raw, refuse)?,
            rope: rope::read(value, &raw, head_dim, refuse)?,
            biases: family.biases(&raw),
            head_norms: family == Family::Qwen3,
            end_tokens: match raw.eos_token_id {
                None => Vec::new(),
                Some(OneOrMore::One(token)) => vec![token],
                Some(OneOrMore::More(tokens)) => tokens,
            },
            padding: raw.pad_token_id.and_then(|token| token.try_into().ok()),
            classifies: raw.architectures.iter().flatten().any(|name| name.ends_with(CLASSIFIER)),
            vocab_size: raw.vocab_size,
            initializer_range: raw.initializer_range,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            head_dim,
            max_position_embeddings: raw.max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            tie_word_embeddings: raw.tie_word_embeddings,
        };
        config.check(refuse)?;
        Ok(config)
    }

    /// Heads and window of a layer.
    pub(super) fn heads(&self, layer: usize) -> CausalHeads {
        CausalHeads {
            query: self.num_attention_heads,
            key_value: self.num_key_value_heads,
            window: self.windows.get(layer).copied().flatten(),
        }
    }

    /// The same for texts that end with these tokens too.
    pub(in crate::model) fn ending_with(mut self, tokens: &[u32]) -> Self {
        self.end_tokens.extend_from_slice(tokens);
        self.end_tokens.sort_unstable();
        self.end_tokens.dedup();
        self
    }

    /// Values that a cache keeps of a token: keys and values of all layers.
    pub(super) fn cached_values(&self) -> usize {
        2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
    }

    fn check(&self, refuse: Refusal<'_>) -> Result<(), LearnerError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.windows.iter().flatten().copied().min().unwrap_or(1)),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return refuse.of(key, 0, "at least 1");
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of the {} attention heads", self.num_attention_heads);
            return refuse.of("num_key_value_heads", self.num_key_value_heads, expected);
        }
        if !self.head_dim.is_multiple_of(2) {
            return refuse.of("head_dim", self.head_dim, "an even number, as rotary positions need");
        }
        Ok(())
    }
}

impl Family {
    fn of(value: &Value, refuse: Refusal<'_>) -> Result<Self, LearnerError> {
        match value.get("model_type").and_then(Value::as_str) {
            Some("llama") => Ok(Self::Llama),
            Some("mistral") => Ok(Self::Mistral),
            Some("qwen2") => Ok(Self::Qwen2),
            Some("qwen3") => Ok(Self::Qwen3),
            found => refuse.of("model_type", found.unwrap_or("absent"), LlamaConfig::MODEL_TYPES.join(", ")),
        }
    }

    fn biases(self, raw: &Raw) -> Biases {
        let biases = |query_key_value, output, feed_forward| Biases { query_key_value, output, feed_forward };
        let attention = raw.attention_bias == Some(true);
        match self {
            Self::Llama => biases(attention, attention, raw.mlp_bias == Some(true)),
            Self::Mistral => biases(false, false, false),
            Self::Qwen2 => biases(true, false, false),
            Self::Qwen3 => biases(attention, attention, false),
        }
    }
}

/// One for each attention head where the file says nothing; families whose own default is another number must say it.
fn key_value_heads(family: Family, value: &Value, raw: &Raw, refuse: Refusal<'_>) -> Result<usize, LearnerError> {
    if family != Family::Llama && value.get("num_key_value_heads").is_none() {
        return refuse.of("num_key_value_heads", "absent", "a number");
    }
    Ok(raw.num_key_value_heads.unwrap_or(raw.num_attention_heads))
}

/// The attention window of each layer.
fn windows(family: Family, raw: &Raw, refuse: Refusal<'_>) -> Result<Vec<Option<usize>>, LearnerError> {
    let all = |window| vec![window; raw.num_hidden_layers];
    match (family, raw.sliding_window.filter(|_| family == Family::Mistral || raw.use_sliding_window)) {
        (Family::Llama, _) | (_, None) => Ok(all(None)),
        (Family::Mistral, window) => Ok(all(window)),
        (Family::Qwen2 | Family::Qwen3, window) => {
            let Some(types) = &raw.layer_types else {
                return Ok((0..raw.num_hidden_layers)
                    .map(|layer| window.filter(|_| layer >= raw.max_window_layers))
                    .collect());
            };
            let one = |kind: &String| match kind.as_str() {
                "sliding_attention" => Ok(window),
                "full_attention" => Ok(None),
                other => refuse.of("layer_types", other, "full_attention or sliding_attention"),
            };
            if types.len() != raw.num_hidden_layers {
                return refuse.of(
                    "layer_types",
                    types.len(),
                    format!("one for each of {} layers", raw.num_hidden_layers),
                );
            }
            types.iter().map(one).collect()
        }
    }
}
