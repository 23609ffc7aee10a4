//! `config.json` of BERT models.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::LearnerError;

const FILE: &str = "config.json";

/// What decides the shapes and functions of a BERT encoder (arXiv 1810.04805), in the names of `transformers`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they divide the width.
    pub num_attention_heads: usize,
    /// Width between the two linear layers of the feed-forward part.
    pub intermediate_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to the variance in layer normalisation.
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    /// Standard deviation of random weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
}

fn two() -> usize {
    2
}

fn default_epsilon() -> f64 {
    1e-12
}

fn default_range() -> f64 {
    0.02
}

impl BertConfig {
    /// Reads `config.json` of a model directory.
    ///
    /// # Errors
    /// A file that cannot be read; another architecture; an activation or position embedding that is not BERT's own;
    /// sizes that do not fit together.
    pub fn from_directory(directory: &Path) -> Result<Self, LearnerError> {
        let file = directory.join(FILE);
        let text = fs::read_to_string(&file).map_err(|source| LearnerError::Io { file: file.clone(), source })?;
        let json = |source| LearnerError::Json { file: file.clone(), source };
        let value: Value = serde_json::from_str(&text).map_err(json)?;
        let expect = |key: &'static str, expected: Value, absent_is_fine: bool| match value.get(key) {
            None if absent_is_fine => Ok(()),
            Some(found) if *found == expected => Ok(()),
            found => {
                let found = found.map_or_else(|| "absent".to_owned(), Value::to_string);
                Err(LearnerError::Config { file: file.clone(), key, found, expected: expected.to_string() })
            }
        };
        expect("model_type", "bert".into(), false)?;
        expect("hidden_act", "gelu".into(), true)?;
        expect("position_embedding_type", "absolute".into(), true)?;
        expect("is_decoder", false.into(), true)?;
        let config: Self = serde_json::from_value(value.clone()).map_err(json)?;
        config.check(&file)?;
        Ok(config)
    }

    fn check(&self, file: &Path) -> Result<(), LearnerError> {
        let refuse = |key, found: usize, expected: String| {
            Err(LearnerError::Config { file: file.into(), key, found: found.to_string(), expected })
        };
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return refuse(key, 0, "at least 1".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of the hidden size {}", self.hidden_size);
            return refuse("num_attention_heads", self.num_attention_heads, expected);
        }
        Ok(())
    }
}
