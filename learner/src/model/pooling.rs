//! How an encoder's token rows become one row of features.

use serde::{Deserialize, Serialize};

/// How the token rows of a sequence become its features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean of the last hidden rows, as sentence encoders do.
    #[default]
    Mean,
    /// The first token's last hidden row.
    Cls,
    /// The first token's row through the checkpoint's pooler, a linear layer and a tanh: the features of
    /// `BertForSequenceClassification`.
    Pooler,
}

impl Pooling {
    /// What precedes module names in the `transformers` class with this pooling, and so in adapter files.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Mean | Self::Cls => "",
            Self::Pooler => "bert.",
        }
    }
}
