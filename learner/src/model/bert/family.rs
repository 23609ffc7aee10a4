//! The encoders that are computed as BERT is: what each calls its parts, and the small facts in which it differs.

use crate::model::{
    HeadForm,
    block::{BlockNames, InputNames},
};

/// One architecture. A new one is a new row of [`FAMILIES`].
#[derive(Debug, PartialEq, Eq)]
pub(in crate::model) struct Family {
    /// `model_type` in `config.json`.
    pub(in crate::model) model_type: &'static str,
    /// What precedes the encoder's names in the `transformers` class for the classification of sequences.
    pub(in crate::model) prefix: &'static str,
    /// What precedes a layer's number.
    pub(in crate::model) layers: &'static str,
    /// Parts of a layer.
    pub(in crate::model) block: BlockNames,
    /// Which row of the segment embedding a token gets.
    pub(in crate::model) segments: Segments,
    /// Whether the first position is the one behind the padding token's id, as in fairseq: that id by default.
    pub(in crate::model) padding: Option<u32>,
    /// What makes the logits with `pooling = "pooler"`.
    pub(in crate::model) classifier: Classifier,
}

/// Segment embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Segments {
    /// That of the token's text in a pair.
    OfToken,
    /// The first one, whatever the token: the family's tokenizers tell no segments.
    First,
    /// There are none.
    None,
}

/// How a family's own class makes logits from the first token's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Classifier {
    /// The frozen, pretrained pooler, and one trained layer.
    Pooler,
    /// Two trained layers, of which no checkpoint of a bare encoder has any.
    Trained(HeadForm),
}

const BERT: Family = Family {
    model_type: "bert",
    prefix: "bert.",
    layers: "encoder.layer",
    block: BlockNames {
        inputs: InputNames::Apart(["attention.self.query", "attention.self.key", "attention.self.value"]),
        output: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        up: "intermediate.dense",
        down: "output.dense",
        output_norm: "output.LayerNorm",
    },
    segments: Segments::OfToken,
    padding: None,
    classifier: Classifier::Pooler,
};

/// arXiv 1907.11692.
const ROBERTA: Family = Family {
    model_type: "roberta",
    prefix: "roberta.",
    segments: Segments::First,
    padding: Some(1),
    classifier: Classifier::Trained(HeadForm::ROBERTA),
    ..BERT
};

/// arXiv 1911.02116: RoBERTa with another tokenizer.
const XLM_ROBERTA: Family = Family { model_type: "xlm-roberta", ..ROBERTA };

/// arXiv 1910.01108.
const DISTILBERT: Family = Family {
    model_type: "distilbert",
    prefix: "distilbert.",
    layers: "transformer.layer",
    block: BlockNames {
        inputs: InputNames::Apart(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
        output: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        up: "ffn.lin1",
        down: "ffn.lin2",
        output_norm: "output_layer_norm",
    },
    segments: Segments::None,
    padding: None,
    classifier: Classifier::Trained(HeadForm::DISTILBERT),
};

/// Every family.
pub(in crate::model) const FAMILIES: &[&Family] = &[&BERT, &ROBERTA, &XLM_ROBERTA, &DISTILBERT];

impl Family {
    /// The family of a `model_type`.
    pub(in crate::model) fn find(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().copied().find(|family| family.model_type == model_type)
    }
}
