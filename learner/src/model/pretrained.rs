//! Models and what prepares their inputs, from Hugging Face directories.

use std::{fs, path::Path, sync::Arc};

use burn::tensor::Device;
use fedlora_adapter::Seed;
use serde_json::{Map, Value};

use super::{
    Bert, BertConfig, Model, Pooling, VisionConfig,
    weights::{Checkpoint, Deviation, RandomWeights, Weights},
};
use crate::{ImageProcessor, LearnerError, Preprocessor, TextTokenizer};

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const CONFIG: &str = "config.json";

/// A model and what makes rows of data into its inputs, from a directory with `config.json`, `model.safetensors` (or its
/// shards) and, for models that read texts, `tokenizer.json`; for those that read images, `preprocessor_config.json`
/// where there is one. The weights are read once and become f32 on the device.
///
/// Without a pooling it is the family's own: the class token of vision transformers, else the mean.
///
/// # Errors
/// Names the file and the key, tensor or token that is missing or does not fit.
pub fn load_pretrained(
    directory: &Path,
    pooling: impl Into<Option<Pooling>>,
    device: &Device,
) -> Result<(Arc<dyn Model>, Preprocessor), LearnerError> {
    let family = Family::of(directory)?;
    // What is small first: a wrong tokenizer is found before the large files are read.
    let preprocessor = family.preprocessor(directory)?;
    let model = family.load(directory, pooling.into(), &mut Checkpoint::open(directory, device)?, device)?;
    Ok((model, preprocessor))
}

/// The same architecture with random weights and the same preparation of inputs: what a model knows before pretraining.
///
/// # Errors
/// As [`load_pretrained`]; weights files are neither needed nor read.
pub fn random_pretrained(
    directory: &Path,
    pooling: impl Into<Option<Pooling>>,
    seed: Seed,
    device: &Device,
) -> Result<(Arc<dyn Model>, Preprocessor), LearnerError> {
    let family = Family::of(directory)?;
    let preprocessor = family.preprocessor(directory)?;
    let mut weights = RandomWeights { seed, deviation: family.deviation(), device: device.clone() };
    Ok((family.load(directory, pooling.into(), &mut weights, device)?, preprocessor))
}

/// Which kind of model a directory holds.
#[derive(Debug)]
pub(super) enum Family {
    Bert(BertConfig),
    Vision(VisionConfig),
}

impl Family {
    /// The kind that `config.json` names.
    pub(super) fn of(directory: &Path) -> Result<Self, LearnerError> {
        let file = directory.join(CONFIG);
        let text = fs::read_to_string(&file).map_err(|source| LearnerError::Io { file: file.clone(), source })?;
        let json: Map<String, Value> =
            serde_json::from_str(&text).map_err(|source| LearnerError::Json { file: file.clone(), source })?;
        match VisionConfig::from_json(&file, &json)? {
            Some(config) => Ok(Self::Vision(config)),
            None => BertConfig::from_directory(directory).map(Self::Bert),
        }
    }

    /// The pooling that is asked for, or the family's own.
    pub(super) fn pooling(&self, asked: Option<Pooling>) -> Pooling {
        asked.unwrap_or(match self {
            Self::Bert(_) => Pooling::Mean,
            Self::Vision(config) => config.usual_pooling(),
        })
    }

    /// Whether the model reads images.
    pub(super) fn reads_images(&self) -> bool {
        matches!(self, Self::Vision(_))
    }

    /// What makes rows of data into the model's inputs.
    pub(super) fn preprocessor(&self, directory: &Path) -> Result<Preprocessor, LearnerError> {
        match self {
            Self::Bert(config) => {
                let tokenizer = TextTokenizer::from_file(&directory.join(TOKENIZER))?;
                tokenizer.check(config.vocab_size)?;
                Ok(Preprocessor::Text(Box::new(tokenizer)))
            }
            Self::Vision(config) => {
                ImageProcessor::from_directory(directory, config.channels(), config.side()).map(Preprocessor::Images)
            }
        }
    }

    /// How much random weights vary.
    fn deviation(&self) -> Deviation {
        match self {
            Self::Bert(config) => Deviation::Fixed(config.initializer_range),
            Self::Vision(_) => Deviation::FanIn,
        }
    }

    fn load(
        &self,
        directory: &Path,
        pooling: Option<Pooling>,
        weights: &mut impl Weights,
        device: &Device,
    ) -> Result<Arc<dyn Model>, LearnerError> {
        let pooling = self.pooling(pooling);
        match self {
            Self::Bert(config) => Ok(Arc::new(Bert::load(config, pooling, weights, device)?)),
            Self::Vision(config) => config.load(&directory.join(CONFIG), pooling, weights, device),
        }
    }
}
