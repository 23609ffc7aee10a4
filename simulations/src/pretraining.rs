//! A base model of one's own: central training of a small vision model on images, to a directory that runs then adapt.

use std::path::{Path, PathBuf};

use fedlora_adapter::Seed;
use fedlora_coordinator::config::{ConfigError, explain, read_table};
use fedlora_learner::{
    DataConfig, Device, ImageProcessor, LoadedData, MixerConfig, Preprocessor, Pretraining, Progress, VisionConfig,
    VitConfig, pretrain,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::SimulationError;

/// What is trained, and on what.
#[derive(Debug, Clone, PartialEq)]
pub struct PretrainConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// The architecture.
    pub model: VisionConfig,
    /// The images.
    pub data: DataConfig,
    /// How to train.
    pub training: Pretraining,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pretrained {
    /// The directory.
    pub directory: PathBuf,
    /// Values of all weights, the classifier's included.
    pub parameters: usize,
    /// Images trained on.
    pub examples: usize,
    /// Mean cross-entropy of the last pass, in nats.
    pub train_loss: f64,
    /// Share of test images whose label the model and its own classifier find.
    pub test_accuracy: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default = "one")]
    seed: u64,
    #[serde(default = "default_epochs")]
    epochs: u32,
    #[serde(default = "default_batch_size")]
    batch_size: usize,
    #[serde(default = "default_learning_rate")]
    learning_rate: f64,
    #[serde(default = "default_weight_decay")]
    weight_decay: f64,
    model: toml::Table,
    data: DataConfig,
}

impl PretrainConfig {
    /// Reads a file and applies `key=value` overrides.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let file: File = section(read_table(path, overrides)?)?;
        if file.epochs == 0 || file.batch_size == 0 {
            return Err(ConfigError::invalid("epochs and batch-size", "must be at least 1"));
        }
        if !(file.learning_rate > 0.0 && file.learning_rate.is_finite()) {
            return Err(ConfigError::invalid("learning-rate", "must be a number above 0"));
        }
        let training = Pretraining {
            epochs: file.epochs,
            batch_size: file.batch_size,
            learning_rate: file.learning_rate,
            weight_decay: file.weight_decay,
        };
        Ok(Self { seed: file.seed, model: model(file.model)?, data: file.data, training })
    }
}

/// The architecture that `model_type` names, from the sizes beside it.
fn model(mut table: toml::Table) -> Result<VisionConfig, ConfigError> {
    let kind = table.remove("model_type");
    match kind.as_ref().and_then(toml::Value::as_str) {
        Some("vit") => section::<VitConfig>(table).map(VisionConfig::Vit),
        Some("mlp-mixer") => section::<MixerConfig>(table).map(VisionConfig::MlpMixer),
        _ => Err(ConfigError::invalid("model.model_type", "must be \"vit\" or \"mlp-mixer\"")),
    }
}

fn section<T: DeserializeOwned>(table: toml::Table) -> Result<T, ConfigError> {
    toml::Value::Table(table).try_into().map_err(|error| explain(&error, &["model_type"]))
}

/// Trains and writes a Hugging Face directory.
///
/// # Errors
/// Sizes that do not fit together; images that cannot be read; a directory that holds something already.
pub fn run(config: &PretrainConfig, directory: &Path, device: &Device) -> Result<Pretrained, SimulationError> {
    if directory.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SimulationError::OutputExists { path: directory.to_owned() });
    }
    config.model.check()?;
    let seed = Seed(config.seed);
    let processor = ImageProcessor::plain(config.model.channels(), config.model.side());
    let preprocessor = Preprocessor::Images(processor);
    let data = LoadedData::load(&config.data, &preprocessor, seed)?;
    let (train, test) = data.datasets(&preprocessor, config.data.max_length)?;
    let mut bar = Bar::new(&config.training, train.len());
    let trained = pretrain(&config.model, &train, &config.training, seed, device, |progress| bar.tell(progress))?;
    bar.line.finish_and_clear();
    let test_accuracy = trained.accuracy(&test)?;
    trained.save(directory)?;
    Ok(Pretrained {
        directory: directory.to_owned(),
        parameters: trained.parameters(),
        examples: train.len(),
        train_loss: bar.last,
        test_accuracy,
    })
}

/// Passes, steps and the mean loss of the pass; silent when standard error is not a terminal.
struct Bar {
    line: ProgressBar,
    sum: f64,
    last: f64,
}

impl Bar {
    fn new(training: &Pretraining, examples: usize) -> Self {
        let steps = examples.div_ceil(training.batch_size) as u64 * u64::from(training.epochs);
        let line = ProgressBar::new(steps);
        // An invalid template would be a mistake in this line; the plain style still shows progress.
        let style = ProgressStyle::with_template("pretraining  {bar:24} step {pos}/{len}, {eta} left{msg}");
        line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        Self { line, sum: 0.0, last: f64::NAN }
    }

    fn tell(&mut self, Progress { step, steps_each, loss }: Progress) {
        self.line.set_position(step as u64);
        self.sum += loss;
        if step.is_multiple_of(steps_each) {
            self.last = self.sum / steps_each as f64;
            self.sum = 0.0;
            self.line.set_message(format!(", loss {:.3} in pass {}", self.last, step / steps_each));
        }
    }
}

fn one() -> u64 {
    1
}
fn default_epochs() -> u32 {
    5
}
fn default_batch_size() -> usize {
    64
}
fn default_learning_rate() -> f64 {
    1e-3
}
fn default_weight_decay() -> f64 {
    0.05
}
