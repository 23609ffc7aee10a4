//! Texts as batches for an encoder.

use fedlora_learner::{Batch, Inputs, Targets, TextTokenizer, Tokens};

pub(crate) fn encode(tokenizer: &TextTokenizer, texts: &[String]) -> Vec<Tokens> {
    texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect()
}

pub(crate) fn ids(tokens: Vec<Tokens>) -> Vec<Vec<u32>> {
    tokens.into_iter().map(|tokens| tokens.ids).collect()
}

pub(crate) fn batch(examples: &[Tokens], labels: &[u32]) -> Batch {
    let mut tokens = Tokens::default();
    for example in examples {
        tokens.ids.extend(&example.ids);
        tokens.segments.extend(&example.segments);
    }
    let lengths = examples.iter().map(|example| example.ids.len()).collect();
    Batch { inputs: Inputs::Tokens { tokens, lengths }, targets: Targets::Labels(labels.to_vec()) }
}
