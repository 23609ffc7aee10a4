//! Models and tokenizers from Hugging Face directories.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use fedlora_adapter::Seed;

use super::{
    Bert, BertConfig, Model, Pooling,
    weights::{Checkpoint, Deviation, RandomWeights, Weights},
};
use crate::{LearnerError, TextTokenizer};

pub(super) const TOKENIZER: &str = "tokenizer.json";

/// A model and its tokenizer from a directory with `config.json` (BERT, RoBERTa, XLM-R or DistilBERT), `model.safetensors` (or its shards) and
/// `tokenizer.json`. The weights are read once and become f32 on the device.
///
/// # Errors
/// Names the file and the key, tensor or token that is missing or does not fit.
pub fn load_pretrained(
    directory: &Path,
    pooling: Pooling,
    device: &Device,
) -> Result<(Arc<dyn Model>, TextTokenizer), LearnerError> {
    let config = BertConfig::from_directory(directory)?;
    assemble(directory, &config, pooling, &mut Checkpoint::open(directory, device)?, device)
}

/// The same architecture with random weights of the configured deviation, and the same tokenizer: what a model knows
/// before pretraining.
///
/// # Errors
/// As [`load_pretrained`]; weights files are neither needed nor read.
pub fn random_pretrained(
    directory: &Path,
    pooling: Pooling,
    seed: Seed,
    device: &Device,
) -> Result<(Arc<dyn Model>, TextTokenizer), LearnerError> {
    let config = BertConfig::from_directory(directory)?;
    let mut weights =
        RandomWeights { seed, deviation: Deviation::Fixed(config.initializer_range), device: device.clone() };
    assemble(directory, &config, pooling, &mut weights, device)
}

fn assemble(
    directory: &Path,
    config: &BertConfig,
    pooling: Pooling,
    weights: &mut impl Weights,
    device: &Device,
) -> Result<(Arc<dyn Model>, TextTokenizer), LearnerError> {
    // The tokenizer first: a wrong one is found before the large files are read.
    let tokenizer = TextTokenizer::from_file(&directory.join(TOKENIZER))?;
    tokenizer.check(config.vocab_size)?;
    let tokenizer = tokenizer.within(config.positions())?;
    let model = Bert::load(config, pooling, weights, device)?;
    Ok((Arc::new(model), tokenizer))
}
