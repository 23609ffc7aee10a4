//! What a run is made of, as TOML: one file, `--set key=value` on top, every unknown key an error.

mod load;
mod lora;

use std::path::PathBuf;

use fedlora_adapter::{AdapterKind, LocalHyperparameters, LocalWork, Optimizer, Schedule};
use fedlora_aggregation::{Method, Strategy, Weighting};
use fedlora_learner::{DataConfig, Pooling};
use serde::{Deserialize, Serialize};

use crate::{faults::Faults, partition::PartitionConfig};

pub use load::{ConfigError, load, parse, to_toml};
pub use lora::{LoraConfig, PeftType};

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Name of the run, for reports.
    #[serde(default = "default_name")]
    pub name: String,
    /// Seed of every random choice.
    #[serde(default = "one")]
    pub seed: u64,
    /// Rounds of training.
    #[serde(alias = "num-server-rounds")]
    pub num_rounds: u64,
    /// Clients invited to a round; overrides `fraction-train`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients_per_round: Option<usize>,
    /// Share of all clients invited to a round, at least one client.
    #[serde(default = "whole")]
    pub fraction_train: f64,
    /// Accepted updates without which a round fails.
    #[serde(default = "one_usize")]
    pub min_results: usize,
    /// Clients that must exist before the run starts.
    #[serde(default = "one_usize")]
    pub min_available_clients: usize,
    /// Virtual milliseconds after which a round closes with what it has; 0 for never.
    #[serde(default)]
    pub round_deadline_ms: u64,
    /// Weight of a client's update.
    #[serde(default = "by_examples")]
    pub weighting: Weighting,
    /// Passes over a client's examples in a round; excludes `local-steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_epochs: Option<u32>,
    /// Optimiser steps in a round; excludes `local-epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_steps: Option<u32>,
    /// Examples per optimiser step.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// `sgd` or `adamw`.
    #[serde(default)]
    pub optimizer: OptimizerName,
    /// Momentum of `sgd`.
    #[serde(default)]
    pub momentum: f64,
    /// Weight decay of either optimiser.
    #[serde(default)]
    pub weight_decay: f64,
    /// `constant`, `linear` or `cosine`, over the whole run.
    #[serde(default = "default_schedule")]
    pub lr_scheduler: Schedule,
    /// Share of the run in which the rate rises from zero.
    #[serde(default)]
    pub warmup_ratio: f64,
    /// Norm to which the gradient of all trained tensors is clipped; 0 for never.
    #[serde(default)]
    pub max_grad_norm: f64,
    /// FedProx's mu.
    #[serde(default)]
    pub proximal_mu: f64,
    /// Evaluate after every so many rounds, and after the last.
    #[serde(default = "one")]
    pub evaluate_every: u64,
    /// Personal models to evaluate, spread evenly over the clients; 0 for none.
    #[serde(default = "default_evaluate_clients")]
    pub evaluate_clients: usize,
    /// Evaluated rounds in the mean of the last n.
    #[serde(default = "default_average_last")]
    pub average_last: usize,
    /// Write a checkpoint after every so many rounds; 0 for never.
    #[serde(default = "one")]
    pub checkpoint_every: u64,
    /// Clients trained together in one pass over the base model.
    #[serde(default = "one_usize")]
    pub cohort_size: usize,
    /// Keep clients' personal tensors on disk instead of in memory.
    #[serde(default)]
    pub spill: bool,
    /// The federated method and its own parameters.
    pub method: MethodConfig,
    /// The adapter.
    #[serde(default)]
    pub lora: LoraConfig,
    /// The base model.
    pub model: ModelConfig,
    /// The examples and who holds which.
    pub data: DataSection,
    /// Injected trouble.
    #[serde(default)]
    pub faults: Faults,
}

/// The federated method: its name in the registry, and parameters that only it knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodConfig {
    /// Name in the registry; `fedlora-sim methods` lists them.
    pub name: String,
    /// The method's own parameters.
    #[serde(flatten)]
    pub parameters: toml::Table,
}

/// Local optimisers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam with decoupled weight decay.
    #[default]
    Adamw,
}

/// The base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelConfig {
    /// A Hugging Face directory: `config.json`, safetensors, `tokenizer.json`; or `builtin:digits-vit`, the small
    /// vision transformer that is pretrained on the spot.
    pub path: PathBuf,
    /// How token states become one vector: `mean`, `cls` or `pooler`.
    #[serde(default = "default_pooling")]
    pub pooling: Pooling,
    /// Ignore the checkpoint's values and draw random ones: the control of every claim about pretraining.
    #[serde(default)]
    pub random_weights: bool,
}

/// The examples and who holds which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table", into = "toml::Table")]
pub struct DataSection {
    /// Where the examples come from.
    pub source: DataConfig,
    /// Who holds which.
    pub partition: PartitionConfig,
}

impl TryFrom<toml::Table> for DataSection {
    type Error = toml::de::Error;

    fn try_from(mut table: toml::Table) -> Result<Self, Self::Error> {
        let partition = table.remove("partition").unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
        Ok(Self { source: toml::Value::Table(table).try_into()?, partition: partition.try_into()? })
    }
}

impl From<DataSection> for toml::Table {
    fn from(section: DataSection) -> Self {
        let table = |value: Result<toml::Table, toml::ser::Error>| value.unwrap_or_default();
        let mut data = table(toml::Table::try_from(section.source));
        data.insert("partition".to_owned(), toml::Value::Table(table(toml::Table::try_from(section.partition))));
        data
    }
}

impl Config {
    /// What clients are told about local training.
    ///
    /// # Errors
    /// Values out of range, naming the key.
    pub fn local(&self) -> Result<LocalHyperparameters, ConfigError> {
        let work = match (self.local_epochs, self.local_steps) {
            (Some(_), Some(_)) => return Err(ConfigError::invalid("local-steps", "excludes local-epochs")),
            (_, Some(steps)) => LocalWork::Steps(steps),
            (epochs, None) => LocalWork::Epochs(epochs.unwrap_or(1)),
        };
        if matches!(work, LocalWork::Steps(0) | LocalWork::Epochs(0)) {
            return Err(ConfigError::invalid("local-epochs or local-steps", "must be at least 1"));
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
        })
    }

    /// Clients to invite to a round of `clients`.
    #[must_use]
    pub fn cohort(&self, clients: usize) -> usize {
        let share = (self.fraction_train * clients as f64).floor() as usize;
        self.clients_per_round.unwrap_or(share).clamp(1, clients.max(1))
    }

    /// Checks what single fields cannot say.
    ///
    /// # Errors
    /// The first key whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let unit = |key, value: f64| {
            let ok = (0.0..1.0).contains(&value);
            ok.then_some(()).ok_or(ConfigError::invalid(key, "must be at least 0 and below 1"))
        };
        let not_negative = |key, value: f64| {
            let ok = value.is_finite() && value >= 0.0;
            ok.then_some(()).ok_or(ConfigError::invalid(key, "must be a number of at least 0"))
        };
        let at_least_one =
            |key, value: u64| (value > 0).then_some(()).ok_or(ConfigError::invalid(key, "must be at least 1"));
        at_least_one("num-rounds", self.num_rounds)?;
        at_least_one("batch-size", self.batch_size as u64)?;
        at_least_one("cohort-size", self.cohort_size as u64)?;
        at_least_one("evaluate-every", self.evaluate_every)?;
        at_least_one("average-last", self.average_last as u64)?;
        at_least_one("lora.r", self.lora.r as u64)?;
        if self.clients_per_round == Some(0) {
            return Err(ConfigError::invalid("clients-per-round", "must be at least 1"));
        }
        if !(self.fraction_train > 0.0 && self.fraction_train <= 1.0) {
            return Err(ConfigError::invalid("fraction-train", "must be above 0 and at most 1"));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(ConfigError::invalid("learning-rate", "must be a number above 0"));
        }
        if !(self.lora.lora_alpha.is_finite() && self.lora.lora_alpha > 0.0) {
            return Err(ConfigError::invalid("lora.lora_alpha", "must be a number above 0"));
        }
        unit("momentum", self.momentum)?;
        unit("warmup-ratio", self.warmup_ratio)?;
        unit("lora.lora_dropout", self.lora.lora_dropout)?;
        not_negative("weight-decay", self.weight_decay)?;
        not_negative("max-grad-norm", self.max_grad_norm)?;
        not_negative("proximal-mu", self.proximal_mu)?;
        self.faults.validate()?;
        self.adapter_kind()?;
        self.strategy()?;
        self.local().map(|_| ())
    }

    /// The method's row in the registry.
    ///
    /// # Errors
    /// No such method, with the nearest name.
    pub fn method(&self) -> Result<&'static Method, ConfigError> {
        Ok(Method::find(&self.method.name)?)
    }

    /// The method with its parameters.
    ///
    /// # Errors
    /// No such method, an unknown parameter or one out of range.
    pub fn strategy(&self) -> Result<Box<dyn Strategy>, ConfigError> {
        Ok(self.method()?.build(&self.method.parameters)?)
    }

    /// The adapter's kind: as configured, or as the method wants it.
    ///
    /// # Errors
    /// A kind that the method does not serve.
    pub fn adapter_kind(&self) -> Result<AdapterKind, ConfigError> {
        let method = self.method()?;
        let kind = self.lora.peft_type.map_or(method.kinds[0], AdapterKind::from);
        method.check(kind)?;
        Ok(kind)
    }
}

fn by_examples() -> Weighting {
    Weighting::Examples
}
fn default_name() -> String {
    "run".to_owned()
}
fn one() -> u64 {
    1
}
fn one_usize() -> usize {
    1
}
fn whole() -> f64 {
    1.0
}
fn default_batch_size() -> usize {
    16
}
fn default_schedule() -> Schedule {
    Schedule::Constant
}
fn default_evaluate_clients() -> usize {
    50
}
fn default_average_last() -> usize {
    3
}
fn default_pooling() -> Pooling {
    Pooling::Mean
}
