//! The model and the data that ship with the program, under paths that start with `builtin:`.

use std::{path::Path, sync::Arc};

use fedlora_adapter::{PeftOptions, Seed};
use fedlora_coordinator::config::ConfigError;
use fedlora_learner::{
    Dataset, Device, EvaConfig, Model, Precision, Pretraining, Progress, PublicRows, Vit, VitConfig,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    SimulationError,
    config::{self, Config},
    digits::{PRETRAINING_SEED, Quickstart, SIDE, quickstart_data},
    experiment::{Devices, Material},
};

/// `model.path` of the small vision transformer.
const MODEL: &str = "builtin:digits-vit";
/// `data.path` of handwritten digits as six sites see them.
const DATA: &str = "builtin:digits";
/// `lora.eva_config.data.path` of the digits that the model was pretrained on, which are nobody's at the sites.
const PUBLIC: &str = "builtin:pretraining-digits";

/// The configuration of the quickstart; a file like any other.
const QUICKSTART: &str = include_str!("../configs/digits-vit.toml");

/// Enough to read a digit well, and seconds to train.
const PRETRAINING: Pretraining = Pretraining { epochs: 60, batch_size: 32, learning_rate: 3e-3, weight_decay: 0.05 };

/// The quickstart's configuration.
///
/// # Errors
/// None that a build with passing tests can have.
pub fn quickstart() -> Result<Config, SimulationError> {
    let table = QUICKSTART.parse::<toml::Table>().map_err(|error| ConfigError::Value(error.to_string()))?;
    Ok(config::parse(table, &[])?)
}

/// Whether a model's path names the embedded one.
#[must_use]
pub fn is_model(path: &Path) -> bool {
    path == Path::new(MODEL)
}

/// Whether a data path names the embedded digits.
#[must_use]
pub fn is_data(path: &Path) -> bool {
    path == Path::new(DATA)
}

/// The digits of a seed, and the model pretrained on others.
///
/// # Errors
/// A configuration that wants one of them without the other.
pub fn material(config: &Config, devices: &Devices) -> Result<Material, SimulationError> {
    if !(is_model(&config.model.path) && is_data(&config.data.source.path)) {
        let reason =
            format!("must be {MODEL} exactly when data.path is {DATA}: it reads those images and nothing else");
        return Err(ConfigError::invalid("model.path", reason).into());
    }
    if config.model.dtype != Precision::Float32 {
        return Err(ConfigError::invalid("model.dtype", format!("must be \"float32\" with {MODEL}")).into());
    }
    if !devices.others.is_empty() {
        return Err(ConfigError::invalid("--device", format!("must name one device with {MODEL}")).into());
    }
    let device = &devices.first;
    let data = quickstart_data(Seed(config.run.seed))?;
    let model: Arc<dyn Model> = if config.model.random_weights {
        Arc::new(Vit::random(&architecture(), Seed(config.run.seed), device)?)
    } else {
        Arc::new(pretrained(&data.pretrain, device)?)
    };
    let Quickstart { train, test, clients, pretrain, .. } = data;
    let public = config.eva()?.map(|eva| public(&eva, pretrain)).transpose()?;
    let peft = PeftOptions { base_model: MODEL.to_owned(), task_type: None, dropout: config.run.lora.lora_dropout };
    let (given, left_out, tokenizer) = (Some(clients), 0, None);
    let (train, test) = (Arc::new(train), Arc::new(test));
    Ok(Material { model, copies: Vec::new(), train, test, given, public, peft, left_out, tokenizer })
}

fn public(eva: &EvaConfig, pretrain: Dataset) -> Result<PublicRows, ConfigError> {
    if eva.data.path == Path::new(PUBLIC) {
        return Ok(PublicRows { dataset: Arc::new(pretrain), examples: eva.examples });
    }
    Err(ConfigError::invalid("lora.eva_config.data.path", format!("must be {PUBLIC} with {MODEL}")))
}

/// The pretrained model; a bar shows the passes, silent when standard error is not a terminal.
fn pretrained(digits: &Dataset, device: &Device) -> Result<Vit, SimulationError> {
    let bar = ProgressBar::new(PRETRAINING.epochs.into());
    // An invalid template would be a mistake in this line; the plain style still shows progress.
    let style = ProgressStyle::with_template("pretraining the base  {bar:24} pass {pos}/{len}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
    let watch = |progress: Progress| bar.set_position((progress.step / progress.steps_each) as u64);
    let model = Vit::pretrain(&architecture(), digits, &PRETRAINING, PRETRAINING_SEED, device, watch)?;
    bar.finish_and_clear();
    Ok(model)
}

fn architecture() -> VitConfig {
    VitConfig {
        image_size: SIDE,
        num_channels: 1,
        patch_size: 2,
        hidden_size: 48,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 96,
        layer_norm_eps: 1e-6,
        class_token: false,
    }
}
