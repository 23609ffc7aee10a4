//! The adapter, in the spelling of PEFT's `LoraConfig`.

use fedlora_adapter::AdapterKind;
use fedlora_aggregation::Init;
use serde::{Deserialize, Deserializer, Serialize};

/// The adapter, in PEFT's spelling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Kind of adapter: `LORA` or `VERA`; by default the one that the method is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peft_type: Option<PeftType>,
    /// Rank.
    pub r: usize,
    /// Scale is `lora_alpha / r`, or `/ sqrt(r)` with `use_rslora`.
    pub lora_alpha: f64,
    /// Dropout on the input of the adapter.
    pub lora_dropout: f64,
    /// Modules to adapt: full names, last parts of names, or `all-linear`; a list or a single string.
    #[serde(deserialize_with = "one_or_many")]
    pub target_modules: Vec<String>,
    /// Rank-stabilised scaling.
    pub use_rslora: bool,
    /// First values of `A`: `default`, `orthonormal` or `pissa`.
    pub init_lora_weights: Init,
}

/// A list of strings, or one string without its brackets, as PEFT takes them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Targets {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Targets::deserialize(deserializer)? {
        Targets::One(target) => vec![target],
        Targets::Many(targets) => targets,
    })
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            peft_type: None,
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            target_modules: vec!["query".to_owned(), "value".to_owned()],
            use_rslora: false,
            init_lora_weights: Init::Default,
        }
    }
}

/// Adapter kinds, in PEFT's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PeftType {
    /// Two factors.
    Lora,
    /// Two vectors around frozen random projections.
    Vera,
}

impl From<PeftType> for AdapterKind {
    fn from(kind: PeftType) -> Self {
        match kind {
            PeftType::Lora => Self::Lora,
            PeftType::Vera => Self::Vera,
        }
    }
}
