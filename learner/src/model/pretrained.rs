//! Models and tokenizers from Hugging Face directories.

use std::{fs, path::Path, sync::Arc};

use burn::tensor::Device;
use fedlora_adapter::Seed;
use serde_json::Value;

use super::{
    Bert, BertConfig, Llama, Model, Pooling,
    bert::{FAMILIES, Family},
    llama::LlamaConfig,
    weights::{Checkpoint, Deviation, RandomWeights, Weights},
};
use crate::{LearnerError, TextTokenizer};

const CONFIG: &str = "config.json";

/// A model and its tokenizer from a directory with `config.json` (BERT, RoBERTa, XLM-R, DistilBERT, or a decoder of Llama's
/// kind), `model.safetensors` (or its shards) and `tokenizer.json`. The weights are read once and become f32 on the device.
///
/// Decoders have no pooling: `pooling` says nothing to them.
///
/// # Errors
/// Names the file and the key, tensor or token that is missing or does not fit; a `model_type` of none of the families.
pub fn load_pretrained(
    directory: &Path,
    pooling: Pooling,
    device: &Device,
) -> Result<(Arc<dyn Model>, TextTokenizer), LearnerError> {
    Architecture::read(directory, pooling)?.assemble(directory, |_| Checkpoint::open(directory, device), device)
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
    let random = |deviation| Ok(RandomWeights { seed, deviation: Deviation::Fixed(deviation), device: device.clone() });
    Architecture::read(directory, pooling)?.assemble(directory, random, device)
}

/// Whether a directory's model is a decoder, told from its configuration alone.
pub(super) fn is_decoder(directory: &Path) -> Result<bool, LearnerError> {
    Ok(matches!(Architecture::read(directory, Pooling::default())?, Architecture::Llama(_)))
}

/// A model before its weights.
#[derive(Debug)]
enum Architecture {
    Bert(BertConfig, Pooling),
    Llama(LlamaConfig),
}

impl Architecture {
    /// The family that a directory's `model_type` names, and its configuration.
    fn read(directory: &Path, pooling: Pooling) -> Result<Self, LearnerError> {
        let file = directory.join(CONFIG);
        let text = fs::read_to_string(&file).map_err(|source| LearnerError::Io { file: file.clone(), source })?;
        let json = |source| LearnerError::Json { file: file.clone(), source };
        let value: Value = serde_json::from_str(&text).map_err(json)?;
        match value.get("model_type").and_then(Value::as_str) {
            Some(kind) if Family::find(kind).is_some() => {
                Ok(Self::Bert(BertConfig::from_directory(directory)?, pooling))
            }
            Some(kind) if LlamaConfig::MODEL_TYPES.contains(&kind) => Ok(Self::Llama(LlamaConfig::new(&file, &value)?)),
            found => {
                let found = found.unwrap_or("absent").to_owned();
                let known = FAMILIES.iter().map(|family| family.model_type).chain(LlamaConfig::MODEL_TYPES);
                let expected = format!("one of {}", known.collect::<Vec<_>>().join(", "));
                Err(LearnerError::Config { file, key: "model_type", found, expected })
            }
        }
    }

    fn vocabulary(&self) -> usize {
        match self {
            Self::Bert(config, _) => config.vocab_size,
            Self::Llama(config) => config.vocab_size,
        }
    }

    /// Standard deviation of random weights.
    fn deviation(&self) -> f64 {
        match self {
            Self::Bert(config, _) => config.initializer_range,
            Self::Llama(config) => config.initializer_range,
        }
    }

    fn assemble<W: Weights>(
        self,
        directory: &Path,
        weights: impl FnOnce(f64) -> Result<W, LearnerError>,
        device: &Device,
    ) -> Result<(Arc<dyn Model>, TextTokenizer), LearnerError> {
        // The tokenizer first: a wrong one is found before the large files are read.
        let tokenizer = TextTokenizer::from_directory(directory)?;
        tokenizer.check(self.vocabulary())?;
        let tokenizer = match &self {
            Self::Bert(config, _) => tokenizer.within(config.positions())?,
            Self::Llama(_) => tokenizer,
        };
        let weights = &mut weights(self.deviation())?;
        let model: Arc<dyn Model> = match self {
            Self::Bert(config, pooling) => Arc::new(Bert::load(&config, pooling, weights, device)?),
            Self::Llama(config) => Arc::new(Llama::load(config, weights, device)?),
        };
        Ok((model, tokenizer))
    }
}
