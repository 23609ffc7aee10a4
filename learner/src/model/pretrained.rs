//! Models and what prepares their inputs, from Hugging Face directories.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::Device;
use fedlora_adapter::Seed;
use serde_json::Value;

use super::{
    Bert, BertConfig, Llama, Model, Pooling, Precision, VisionConfig,
    bert::{FAMILIES, Family},
    llama::LlamaConfig,
    precision::Rounded,
    weights::{Checkpoint, Deviation, RandomWeights, Weights},
};
use crate::{
    ImageProcessor, LearnerError, Preprocessor, TextTokenizer,
    images::PREPROCESSOR,
    tokenizer::{CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG},
};

/// What kind of model a directory holds.
pub(crate) const CONFIG: &str = "config.json";

/// A model and what makes rows of data into its inputs, from a directory with `config.json` (BERT, RoBERTa, XLM-R,
/// DistilBERT, a decoder of Llama's kind, a vision transformer or an MLP-Mixer), `model.safetensors` (or its shards) and,
/// for models that read texts, `tokenizer.json`; for those that read images, `preprocessor_config.json` where there is one.
/// The weights are read once and become f32 on the device.
///
/// Without a pooling it is the family's own: the class token of vision transformers, else the mean. Decoders predict tokens,
/// or labels with [`Pooling::Pooler`] and where `config.json` names a class that does.
///
/// # Errors
/// Names the file and the key, tensor or token that is missing or does not fit; a `model_type` of none of the families.
pub fn load_pretrained(
    directory: &Path,
    pooling: impl Into<Option<Pooling>>,
    device: &Device,
) -> Result<(Arc<dyn Model>, Preprocessor), LearnerError> {
    load(directory, pooling.into(), Values::Checkpoint, Precision::Float32, device)
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
    load(directory, pooling.into(), Values::Random(seed), Precision::Float32, device)
}

/// Where a model's weights have their values from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values {
    Checkpoint,
    /// Drawn from a seed.
    Random(Seed),
}

/// A directory's model with matrices of a precision, and what prepares its inputs.
pub(super) fn load(
    directory: &Path,
    pooling: Option<Pooling>,
    values: Values,
    precision: Precision,
    device: &Device,
) -> Result<(Arc<dyn Model>, Preprocessor), LearnerError> {
    precision.check(device)?;
    let kind = Kind::of(directory, pooling)?;
    // What is small first: a wrong tokenizer is found before the large files are read.
    let preprocessor = kind.preprocessor(directory)?;
    let kind = kind.ending_with(&preprocessor);
    let model = match values {
        Values::Checkpoint => {
            let weights = Checkpoint::open(directory, device)?;
            kind.load(directory, pooling, &mut Rounded { weights, precision }, device)?
        }
        Values::Random(seed) => {
            let weights = RandomWeights { seed, deviation: kind.deviation(), device: device.clone() };
            kind.load(directory, pooling, &mut Rounded { weights, precision }, device)?
        }
    };
    Ok((model, preprocessor))
}

/// A model before its weights.
#[derive(Debug)]
pub(super) enum Kind {
    Bert(BertConfig),
    /// A decoder that predicts tokens.
    Llama(LlamaConfig),
    /// A decoder that predicts labels.
    LlamaClassifier(LlamaConfig),
    Vision(VisionConfig),
}

impl Kind {
    /// The family that a directory's `config.json` names, and its configuration. A decoder predicts labels where the pooling
    /// asked for is that of the classes that do, or where the file names one and nothing else is asked for.
    pub(super) fn of(directory: &Path, asked: Option<Pooling>) -> Result<Self, LearnerError> {
        let file = directory.join(CONFIG);
        let text = fs::read_to_string(&file).map_err(|source| LearnerError::Io { file: file.clone(), source })?;
        let value: Value =
            serde_json::from_str(&text).map_err(|source| LearnerError::Json { file: file.clone(), source })?;
        if let Some(config) = VisionConfig::from_json(&file, &value)? {
            return Ok(Self::Vision(config));
        }
        match value.get("model_type").and_then(Value::as_str) {
            Some(name) if Family::find(name).is_some() => BertConfig::from_directory(directory).map(Self::Bert),
            Some(name) if LlamaConfig::MODEL_TYPES.contains(&name) => {
                let config = LlamaConfig::new(&file, &value)?;
                let classifies = asked.map_or(config.classifies, |pooling| pooling == Pooling::Pooler);
                Ok(if classifies { Self::LlamaClassifier(config) } else { Self::Llama(config) })
            }
            found => {
                let found = found.unwrap_or("absent").to_owned();
                let known = FAMILIES.iter().map(|family| family.model_type).chain(LlamaConfig::MODEL_TYPES);
                let known: Vec<&str> = known.chain([VisionConfig::MODEL_TYPE]).collect();
                let expected = format!("one of {}", known.join(", "));
                Err(LearnerError::Config { file, key: "model_type", found, expected })
            }
        }
    }

    /// The same; a language model stops to write where its tokenizer's directory says that texts end.
    fn ending_with(self, preprocessor: &Preprocessor) -> Self {
        match (self, preprocessor) {
            (Self::Llama(config), Preprocessor::Passages { tokenizer, .. }) => {
                Self::Llama(config.ending_with(tokenizer.ends()))
            }
            (other, _) => other,
        }
    }

    /// How rows become features: as is asked for, or as is usual for the family; none for decoders.
    pub(super) fn pooling(&self, asked: Option<Pooling>) -> Option<Pooling> {
        match self {
            Self::Bert(_) => Some(asked.unwrap_or_default()),
            Self::Llama(_) => None,
            Self::LlamaClassifier(_) => Some(Pooling::Pooler),
            Self::Vision(config) => Some(asked.unwrap_or(config.usual_pooling())),
        }
    }

    /// PEFT's name for what the model is used for; it has none for images.
    pub(super) fn task_type(&self, asked: Option<Pooling>) -> Option<&'static str> {
        match (self, asked) {
            (Self::Bert(_), Some(Pooling::Pooler)) | (Self::LlamaClassifier(_), _) => Some("SEQ_CLS"),
            (Self::Bert(_), _) => Some("FEATURE_EXTRACTION"),
            (Self::Llama(_), _) => Some("CAUSAL_LM"),
            (Self::Vision(_), _) => None,
        }
    }

    /// The files beside the weights that decide what the model computes of a row.
    pub(super) fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let (needed, optional): (&[&str], &[&str]) = match self {
            Self::Bert(_) | Self::LlamaClassifier(_) => (&[CONFIG, TOKENIZER], &[]),
            // The others decide what a response is.
            Self::Llama(_) => (&[CONFIG, TOKENIZER], &[TOKENIZER_CONFIG, CHAT_TEMPLATE]),
            Self::Vision(_) => (&[CONFIG], &[PREPROCESSOR]),
        };
        let optional = optional.iter().map(|name| directory.join(name)).filter(|file| file.exists());
        needed.iter().map(|name| directory.join(name)).chain(optional).collect()
    }

    /// What makes rows of data into the model's inputs.
    pub(super) fn preprocessor(&self, directory: &Path) -> Result<Preprocessor, LearnerError> {
        let tokenizer = |vocabulary| {
            let tokenizer = TextTokenizer::from_directory(directory)?;
            tokenizer.check(vocabulary)?;
            Ok::<_, LearnerError>(tokenizer)
        };
        match self {
            Self::Bert(config) => {
                Ok(Preprocessor::Text(Box::new(tokenizer(config.vocab_size)?.within(config.positions())?)))
            }
            Self::LlamaClassifier(config) => {
                let tokenizer = tokenizer(config.vocab_size)?.within(config.max_position_embeddings)?;
                Ok(Preprocessor::Text(Box::new(tokenizer)))
            }
            Self::Llama(config) => {
                let longest = config.max_position_embeddings;
                Ok(Preprocessor::Passages { tokenizer: Box::new(tokenizer(config.vocab_size)?), longest })
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
            Self::Llama(config) | Self::LlamaClassifier(config) => Deviation::Fixed(config.initializer_range),
            Self::Vision(_) => Deviation::FanIn,
        }
    }

    fn load(
        self,
        directory: &Path,
        asked: Option<Pooling>,
        weights: &mut impl Weights,
        device: &Device,
    ) -> Result<Arc<dyn Model>, LearnerError> {
        let pooling = self.pooling(asked).unwrap_or_default();
        match self {
            Self::Bert(config) => Ok(Arc::new(Bert::load(&config, pooling, weights, device)?)),
            Self::Llama(config) => Ok(Arc::new(Llama::load(config, false, weights, device)?)),
            Self::LlamaClassifier(config) => Ok(Arc::new(Llama::load(config, true, weights, device)?)),
            Self::Vision(config) => config.load(&directory.join(CONFIG), pooling, weights, device),
        }
    }
}
