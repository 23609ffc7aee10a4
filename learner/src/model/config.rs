//! `config.json` of BERT models and of those that are computed like them.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::bert::{FAMILIES, Family, Segments};
use crate::LearnerError;

const FILE: &str = "config.json";

/// What decides the shapes and functions of an encoder of BERT's kind (arXiv 1810.04805), in the names of `transformers`;
/// DistilBERT's own names for the same sizes are read too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    /// `bert`, `roberta`, `xlm-roberta` or `distilbert`.
    pub model_type: String,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of the hidden states.
    #[serde(alias = "dim")]
    pub hidden_size: usize,
    /// Layers.
    #[serde(alias = "n_layers")]
    pub num_hidden_layers: usize,
    /// Attention heads; they divide the width.
    #[serde(alias = "n_heads")]
    pub num_attention_heads: usize,
    /// Width between the two linear layers of the feed-forward part.
    #[serde(alias = "hidden_dim")]
    pub intermediate_size: usize,
    /// Rows of the position embedding; those of RoBERTa up to the padding token's id are no position's.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding, where the family has one.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to the variance in layer normalisation.
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    /// Id of the padding token, behind which RoBERTa's positions begin.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
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
        let expect = |key: &'static str, expected: Value| match value.get(key) {
            Some(found) if *found != expected => {
                let (found, expected) = (found.to_string(), expected.to_string());
                Err(LearnerError::Config { file: file.clone(), key, found, expected })
            }
            _ => Ok(()),
        };
        if value.get("model_type").and_then(Value::as_str).and_then(Family::find).is_none() {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            let found = value.get("model_type").map_or_else(|| "absent".to_owned(), Value::to_string);
            let expected = format!("one of {}", names.join(", "));
            return Err(LearnerError::Config { file, key: "model_type", found, expected });
        }
        expect("hidden_act", "gelu".into())?;
        expect("activation", "gelu".into())?;
        expect("position_embedding_type", "absolute".into())?;
        expect("is_decoder", false.into())?;
        let config: Self = serde_json::from_value(value.clone()).map_err(json)?;
        config.check(&file)?;
        Ok(config)
    }

    /// The family that `model_type` names; BERT's own where it names none.
    pub(super) fn family(&self) -> &'static Family {
        Family::find(&self.model_type).unwrap_or(FAMILIES[0])
    }

    /// The longest sequence.
    pub(super) fn positions(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.padding().map_or(0, |padding| padding as usize + 1))
    }

    /// The padding token, behind whose id positions begin; none where they begin at 0.
    pub(super) fn padding(&self) -> Option<u32> {
        self.family().padding.map(|default| self.pad_token_id.unwrap_or(default))
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
            ("type_vocab_size", if self.family().segments == Segments::None { 1 } else { self.type_vocab_size }),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return refuse(key, 0, "at least 1".to_owned());
        }
        if self.positions() == 0 {
            let expected = format!("at least {}", self.padding().map_or(0, |padding| padding as usize + 1) + 1);
            return refuse("max_position_embeddings", self.max_position_embeddings, expected);
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of the hidden size {}", self.hidden_size);
            return refuse("num_attention_heads", self.num_attention_heads, expected);
        }
        Ok(())
    }
}
