//! The parts of a run's configuration that matter to one site: model, data, adapter and local training.
//!
//! The file is the simulator's and the coordinator's: keys that belong to them alone are passed over.

use std::{path::Path, sync::Arc};

use fedlora_adapter::{
    AdapterKind, AdapterSpec, LayerNumbers, LocalHyperparameters, LocalWork, ModulePatterns, ModuleSelection,
    ModuleValues, Optimizer, PrivacyTerms, Schedule,
};
use fedlora_learner::{EvaConfig, ExactMatch, Model, ModelConfig, selected_modules};
use serde::Deserialize;

use super::{ConfigError, explain, read_table, table};
use crate::{SiteConfig, SiteError};

/// Keys of the federation and of the simulator, which no site needs for itself.
const FOREIGN: [&str; 21] = [
    "name",
    "num-rounds",
    "num-server-rounds",
    "clients-per-round",
    "fraction-train",
    "min-results",
    "min-available-clients",
    "over-sample",
    "grace-ms",
    "round-deadline-ms",
    "weighting",
    "evaluate-every",
    "evaluate-clients",
    "average-last",
    "checkpoint-every",
    "cohort-size",
    "spill",
    "people-overlap",
    "central-privacy",
    "method",
    "faults",
];

/// One site's part of a run's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct JobConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// How to train.
    pub local: LocalHyperparameters,
    /// Examples in one pass through the model at most; 0 for all of a step's.
    pub micro_batch_size: usize,
    /// Keep each layer's input alone for the backward pass, which computes the layer again.
    pub gradient_checkpointing: bool,
    /// The adapter.
    pub lora: LoraConfig,
    /// Model and data.
    pub site: SiteConfig,
    /// How a language model is tested by what it writes; none for not at all.
    pub exact_match: Option<ExactMatch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default = "one")]
    seed: u64,
    local_epochs: Option<u32>,
    local_steps: Option<u32>,
    #[serde(default = "default_batch_size")]
    batch_size: usize,
    #[serde(default)]
    micro_batch_size: usize,
    #[serde(default)]
    gradient_checkpointing: bool,
    #[serde(default = "default_learning_rate")]
    learning_rate: f64,
    #[serde(default)]
    optimizer: OptimizerName,
    #[serde(default)]
    momentum: f64,
    #[serde(default)]
    weight_decay: f64,
    #[serde(default = "default_schedule")]
    lr_scheduler: Schedule,
    #[serde(default)]
    warmup_ratio: f64,
    #[serde(default)]
    max_grad_norm: f64,
    #[serde(default)]
    proximal_mu: f64,
    privacy: Option<PrivacyTerms>,
    #[serde(default)]
    lora: LoraConfig,
    model: ModelConfig,
    exact_match: Option<ExactMatch>,
}

/// The adapter, in the spelling of PEFT's `LoraConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// Scale is `lora_alpha / r`, or `/ sqrt(r)` with `use_rslora`.
    pub lora_alpha: f64,
    /// Dropout on the input of the adapter.
    pub lora_dropout: f64,
    /// Modules to adapt: a list of full names and last parts of names; or one string, a regular expression for full names,
    /// or `all-linear`.
    pub target_modules: ModulePatterns,
    /// Modules not to adapt, a list or an expression alike.
    pub exclude_modules: Option<ModulePatterns>,
    /// Adapt only in these layers, counted from 0, where `target_modules` is a list.
    pub layers_to_transform: Option<LayerNumbers>,
    /// What precedes a layer's number in the names of modules.
    pub layers_pattern: Option<ModulePatterns>,
    /// `r` of single modules: values by regular expressions for whole names, or for their ends behind a dot. Where several
    /// match a module they must have the same value.
    #[serde(deserialize_with = "ModuleValues::unordered")]
    pub rank_pattern: ModuleValues<usize>,
    /// `lora_alpha` of single modules, alike.
    #[serde(deserialize_with = "ModuleValues::unordered")]
    pub alpha_pattern: ModuleValues<f64>,
    /// Rank-stabilised scaling.
    pub use_rslora: bool,
    /// Learning rate of `B` over that of everything else (LoRA+).
    pub loraplus_lr_ratio: f64,
    /// Train magnitude and direction of the weights apart (DoRA).
    pub use_dora: bool,
    /// A federation's business, but for `olora`: training alone starts from the default.
    pub init_lora_weights: Option<String>,
    /// Which public rows the first values of `eva` come from.
    pub eva_config: Option<EvaConfig>,
    /// `LORA`, `VERA` or `LORA_XS`.
    pub peft_type: Option<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            target_modules: ModulePatterns::Names(vec!["query".to_owned(), "value".to_owned()]),
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: ModuleValues::default(),
            alpha_pattern: ModuleValues::default(),
            use_rslora: false,
            loraplus_lr_ratio: 1.0,
            use_dora: false,
            init_lora_weights: None,
            eva_config: None,
            peft_type: None,
        }
    }
}

/// Local optimisers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam with decoupled weight decay.
    #[default]
    Adamw,
}

impl LoraConfig {
    /// The modules to adapt.
    #[must_use]
    pub fn selection(&self) -> ModuleSelection {
        ModuleSelection {
            target_modules: self.target_modules.clone(),
            exclude_modules: self.exclude_modules.clone(),
            layers_to_transform: self.layers_to_transform.clone(),
            layers_pattern: self.layers_pattern.clone(),
        }
    }

    /// The specification of an adapter of a model with this many labels.
    ///
    /// # Errors
    /// Targets that match nothing; a specification that describes no usable adapter.
    pub fn spec(&self, model: &dyn Model, labels: usize, seed: u64) -> Result<Arc<AdapterSpec>, SiteError> {
        let modules = selected_modules(model, &self.selection())?;
        let spec = AdapterSpec {
            kind: self.kind(),
            rank: self.r,
            alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            projection_seed: seed,
            modules,
            head: model.head_spec(labels),
        };
        let spec = spec.with_patterns(&self.rank_pattern, &self.alpha_pattern)?.with_extras();
        spec.validate()?;
        Ok(Arc::new(spec))
    }

    /// The public rows that the first values come from; none for other initialisations than `eva`.
    #[must_use]
    pub fn eva(&self) -> Option<&EvaConfig> {
        self.eva_config.as_ref().filter(|_| self.init_lora_weights.as_deref() == Some("eva"))
    }

    fn kind(&self) -> AdapterKind {
        match self.peft_type.as_deref() {
            Some("VERA") => return AdapterKind::Vera,
            Some("LORA_XS") => return AdapterKind::LoraXs,
            _ => {}
        }
        let is_olora = self.init_lora_weights.as_deref().is_some_and(|init| init.eq_ignore_ascii_case("olora"));
        match (self.use_dora, is_olora) {
            (true, _) => AdapterKind::Dora,
            (false, true) => AdapterKind::Olora,
            (false, false) => AdapterKind::Lora,
        }
    }
}

impl JobConfig {
    /// Reads a file and applies `key=value` overrides.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        Self::parse(read_table(path, overrides)?)
    }

    /// A configuration from TOML.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(mut table: toml::Table) -> Result<Self, ConfigError> {
        let (data, personal_test_fraction) = table::take_data(&mut table, &["partition"])?;
        for key in FOREIGN {
            table.remove(key);
        }
        let known: Vec<&str> = FOREIGN.into_iter().chain(["data"]).collect();
        let file: File = toml::Value::Table(table).try_into().map_err(|error| explain(&error, &known))?;
        let eva = file.lora.eva_config.as_ref().filter(|_| file.privacy.is_some());
        if eva.is_some_and(|eva| eva.may_share_rows_with(&data)) {
            let reason = "names the site's own rows, which [privacy] protects: name public ones";
            return Err(ConfigError::invalid("lora.eva_config.data", reason));
        }
        Ok(Self {
            seed: file.seed,
            local: file.local()?,
            exact_match: file.exact_match,
            micro_batch_size: file.micro_batch_size,
            gradient_checkpointing: file.gradient_checkpointing,
            lora: file.lora,
            site: SiteConfig { model: file.model, data, personal_test_fraction },
        })
    }
}

impl File {
    fn local(&self) -> Result<LocalHyperparameters, ConfigError> {
        let work = match (self.local_epochs, self.local_steps) {
            (Some(_), Some(_)) => return Err(ConfigError::invalid("local-steps", "excludes local-epochs")),
            (_, Some(steps)) => LocalWork::Steps(steps),
            (epochs, None) => LocalWork::Epochs(epochs.unwrap_or(1)),
        };
        if self.batch_size == 0 || matches!(work, LocalWork::Steps(0) | LocalWork::Epochs(0)) {
            return Err(ConfigError::invalid("batch-size, local-epochs and local-steps", "must be at least 1"));
        }
        if !(self.lora.loraplus_lr_ratio.is_finite() && self.lora.loraplus_lr_ratio > 0.0) {
            return Err(ConfigError::invalid("lora.loraplus_lr_ratio", "must be a number above 0"));
        }
        let optimizer = match self.optimizer {
            OptimizerName::Sgd => Optimizer::Sgd { momentum: self.momentum, weight_decay: self.weight_decay },
            OptimizerName::Adamw => {
                Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: self.weight_decay }
            }
        };
        Ok(LocalHyperparameters {
            work,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            optimizer,
            schedule: self.lr_scheduler,
            warmup_ratio: self.warmup_ratio,
            max_grad_norm: self.max_grad_norm,
            lora_dropout: self.lora.lora_dropout,
            proximal_mu: self.proximal_mu,
            loraplus_lr_ratio: self.lora.loraplus_lr_ratio,
            privacy: self.privacy,
        })
    }
}

fn one() -> u64 {
    1
}
fn default_batch_size() -> usize {
    16
}
fn default_learning_rate() -> f64 {
    1e-3
}
fn default_schedule() -> Schedule {
    Schedule::Constant
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESET: &str = include_str!("../../../simulations/configs/sentences-minilm.toml");

    #[test]
    fn a_run_of_the_simulator_is_a_job_of_a_site() {
        let config = JobConfig::parse(PRESET.parse().expect("valid TOML")).expect("valid");
        assert_eq!((config.lora.r, config.local.batch_size, config.site.data.test_fraction), (8, 32, Some(0.2)));
    }

    #[test]
    fn what_the_server_and_the_simulator_read_is_not_a_sites_business() {
        let mut table = PRESET.parse::<toml::Table>().expect("valid TOML");
        table.insert("people-overlap".to_owned(), true.into());
        table.insert(
            "central-privacy".to_owned(),
            toml::Table::from_iter([("clipping-norm".to_owned(), 0.5.into())]).into(),
        );
        JobConfig::parse(table).expect("valid");
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused() {
        let mut table = PRESET.parse::<toml::Table>().expect("valid TOML");
        table.insert("batch-sise".to_owned(), 3.into());
        let error = JobConfig::parse(table).expect_err("no such key").to_string();
        assert_eq!(error, "unknown key batch-sise; did you mean batch-size?");
    }
}
