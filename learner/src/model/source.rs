//! How a configuration names its base model, and which files that model is.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::Device;
use fedlora_adapter::{Digest, PeftOptions, Seed};
use serde::{Deserialize, Serialize};

use super::{
    Model, Pooling, Precision,
    pretrained::{Kind, Values, load},
    weights::weights_files,
};
use crate::{
    LearnerError, Preprocessor,
    hub::{Hub, HubName, HubSettings},
};

/// The branch that a repository's page shows.
const MAIN: &str = "main";

/// The base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelConfig {
    /// A Hugging Face directory: `config.json`, safetensors, and `tokenizer.json` or, for models of images,
    /// `preprocessor_config.json`; or a model of the Hugging Face Hub, `hf:org/name` or, where there is no such directory,
    /// `org/name`; or, in the simulator, `builtin:digits-vit`, the small vision transformer that is pretrained on the spot.
    pub path: PathBuf,
    /// Branch, tag or commit of a model of the Hub; by default `main`. It says nothing to a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How token or patch states become one vector: `mean`, `cls` or `pooler`; by default `cls` for vision transformers
    /// and `mean` for all others. Decoders predict each next token, and with `pooler` labels by the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Ignore the checkpoint's values and draw random ones: the control of every claim about pretraining.
    #[serde(default)]
    pub random_weights: bool,
    /// In which type the matrices are kept: `float32`, `bfloat16` or `float16`. The shorter ones take half the memory, and
    /// what is trained is `float32` all the same.
    #[serde(default)]
    pub dtype: Precision,
}

/// A base model whose files are here.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseModel {
    directory: PathBuf,
    /// What PEFT files call it: a directory as it was given, or its name on the Hub.
    name: String,
    pooling: Option<Pooling>,
    random_weights: bool,
    precision: Precision,
}

impl ModelConfig {
    /// Finds the model's files: in the directory, or in the cache of the Hugging Face Hub, to which what is missing is
    /// brought. What the environment says of the Hub counts (see [`HubSettings`]).
    ///
    /// # Errors
    /// [`LearnerError::Hub`] for a model of the Hub that cannot be brought here. A directory is not looked into.
    pub fn locate(&self) -> Result<BaseModel, LearnerError> {
        let hub = || Hub::new(HubSettings::from_environment());
        let (directory, name) = match HubName::of(&self.path) {
            None => (self.path.clone(), self.path.display().to_string()),
            Some(name) => {
                let revision = self.revision.as_deref().unwrap_or(MAIN);
                (hub()?.fetch(&name, revision, !self.random_weights)?, name.to_string())
            }
        };
        let Self { pooling, random_weights, dtype: precision, .. } = *self;
        Ok(BaseModel { directory, name, pooling, random_weights, precision })
    }
}

impl BaseModel {
    /// The model and what prepares its inputs; the seed counts only where the weights are random.
    ///
    /// # Errors
    /// As [`load_pretrained`](crate::load_pretrained), and [`DeviceError::Precision`](crate::DeviceError::Precision) where the device lacks the type.
    pub fn load(&self, seed: Seed, device: &Device) -> Result<(Arc<dyn Model>, Preprocessor), LearnerError> {
        let values = if self.random_weights { Values::Random(seed) } else { Values::Checkpoint };
        load(&self.directory, self.pooling, values, self.precision, device)
    }

    /// What prepares the model's inputs, without the model.
    ///
    /// # Errors
    /// As [`load_pretrained`](crate::load_pretrained); weights files are neither needed nor read.
    pub fn preprocessor(&self) -> Result<Preprocessor, LearnerError> {
        Kind::of(&self.directory, self.pooling)?.preprocessor(&self.directory)
    }

    /// Identity of everything that decides what the model computes: names and bytes of its files, and the pooling.
    ///
    /// Where the files lie does not count, so that two sites with the same download have the same digest.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn digest(&self) -> Result<Digest, LearnerError> {
        let kind = Kind::of(&self.directory, self.pooling)?;
        let mut files = kind.files(&self.directory);
        files.extend(weights_files(&self.directory)?);
        files.sort();
        let pooling = kind.pooling(self.pooling).map(|pooling| format!("pooling {pooling:?}\n"));
        let mut lines: Vec<String> = pooling.into_iter().collect();
        for file in files {
            let name = file.file_name().unwrap_or_default().display();
            lines.push(format!("{name} {}\n", digest_of(&file)?.to_hex()));
        }
        Ok(Digest::of(lines.concat().as_bytes()))
    }

    /// What PEFT files say about the base model.
    #[must_use]
    pub fn peft(&self, dropout: f64) -> PeftOptions {
        // A model that cannot be read is found when it is loaded.
        let task_type = Kind::of(&self.directory, self.pooling).ok().and_then(|kind| kind.task_type(self.pooling));
        let (base_model, task_type) = (self.name.clone(), task_type.map(str::to_owned));
        PeftOptions { base_model, task_type, dropout }
    }
}

fn digest_of(file: &Path) -> Result<Digest, LearnerError> {
    let bytes = fs::read(file).map_err(|source| LearnerError::Io { file: file.to_owned(), source })?;
    Ok(Digest::of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY_BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny_bert");

    fn base(path: &Path, pooling: Pooling) -> BaseModel {
        let path = path.to_owned();
        let pooling = Some(pooling);
        ModelConfig { path, revision: None, pooling, random_weights: false, dtype: Precision::Float32 }
            .locate()
            .unwrap()
    }

    #[test]
    fn a_digest_follows_the_files_and_the_pooling_and_not_the_place() {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(TINY_BERT).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let original = base(Path::new(TINY_BERT), Pooling::Mean).digest().unwrap();
        let copied = base(copy.path(), Pooling::Mean);
        assert_eq!(copied.digest().unwrap(), original);
        assert_ne!(base(copy.path(), Pooling::Cls).digest().unwrap(), original);
        let shard = copy.path().join("model-00002-of-00003.safetensors");
        let mut bytes = fs::read(&shard).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&shard, bytes).unwrap();
        assert_ne!(copied.digest().unwrap(), original);
        fs::remove_file(&shard).unwrap();
        assert!(copied.digest().unwrap_err().to_string().contains("model-00002-of-00003"));
    }
}
