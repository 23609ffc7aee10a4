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
    /// What the family's own class for the classification of sequences does in `transformers`. BERT: the first token's row
    /// through the checkpoint's pooler, a linear layer and a tanh. RoBERTa, XLM-R and DistilBERT: the first token's row, and
    /// a head of two layers that is trained. Decoders, which then predict labels in place of tokens: the row of the last token
    /// that is no padding, and one layer without a bias, `score`.
    Pooler,
}
