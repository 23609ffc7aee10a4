//! What a run is made of, as TOML: one format for simulator, coordinator and client.
//!
//! A file holds the run's own keys, which are here, and sections that belong to others: `[model]` and `[data]` to
//! whoever trains, the rest to the simulator. [`RunConfig::take`] takes its keys out of the table; what is left is for
//! the others to read, and an unknown key is an error of the last reader.

mod central;
mod error;
mod lora;
mod others;
mod serve;
mod table;
mod validate;

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    AdapterKind, AdapterSpec, HeadSpec, LocalHyperparameters, LocalWork, ModuleName, ModuleSpec, Optimizer,
    PrivacyTerms, Schedule,
};
use fedlora_aggregation::{Init, Method, Strategy, Weighting};
use serde::{Deserialize, Serialize};

use crate::{Participation, RunSettings};

pub use central::{CentralPlan, CentralPrivacy, CentralRelease, ClientSampling, Clipping};
pub use error::ConfigError;
pub use lora::{LoraConfig, PeftType};
pub use others::parse_run;
pub use serve::{ClientAuth, ServeConfig, TlsConfig};
pub use table::{explain, read_table, set};

/// Keys of a run that are the same wherever it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunConfig {
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
    /// Clients invited beyond those that a round needs, as a share of them: some never answer.
    #[serde(default)]
    pub over_sample: f64,
    /// Milliseconds for which a round waits for more updates once it has those that it was meant to have.
    #[serde(default)]
    pub grace_ms: u64,
    /// Milliseconds after which a round closes with what it has; 0 for never. The simulator's are virtual.
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
    /// Train with differential privacy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyTerms>,
    /// Let the server add noise, which protects whole clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub central_privacy: Option<CentralPrivacy>,
    /// The federated method and its own parameters.
    pub method: MethodConfig,
    /// The adapter.
    #[serde(default)]
    pub lora: LoraConfig,
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

impl RunConfig {
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
            loraplus_lr_ratio: self.lora.loraplus_lr_ratio,
            privacy: self.privacy,
        })
    }

    /// Clients to invite to a round of `clients`.
    #[must_use]
    pub fn cohort(&self, clients: usize) -> usize {
        let share = (self.fraction_train * clients as f64).floor() as usize;
        self.clients_per_round.unwrap_or(share).clamp(1, clients.max(1))
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
    /// A kind that the method does not serve; keys that say two kinds.
    pub fn adapter_kind(&self) -> Result<AdapterKind, ConfigError> {
        let method = self.method()?;
        let asked = self.lora.peft_type.map_or(method.kinds[0], AdapterKind::from);
        let kind = match (asked, self.lora.use_dora, self.init()? == Init::Olora) {
            (asked, false, false) => asked,
            (AdapterKind::Lora, true, false) => AdapterKind::Dora,
            (AdapterKind::Lora, false, true) => AdapterKind::Olora,
            (AdapterKind::Lora, ..) => {
                let reason = "excludes init_lora_weights = \"olora\", which changes the base that DoRA measures";
                return Err(ConfigError::invalid("lora.use_dora", reason));
            }
            _ => {
                let reason = "or init_lora_weights = \"olora\" is only possible for LoRA factors";
                return Err(ConfigError::invalid("lora.use_dora", reason));
            }
        };
        method.check(kind)?;
        Ok(kind)
    }

    /// What a run of `clients` clients needs to know of its rounds.
    ///
    /// # Errors
    /// More clients wanted than there are, fewer than the method needs, or settings under which no round can succeed.
    pub fn settings(&self, clients: usize) -> Result<RunSettings, ConfigError> {
        if self.min_available_clients > clients {
            let reason = format!("is {}, but there are {clients} clients", self.min_available_clients);
            return Err(ConfigError::invalid("min-available-clients", reason));
        }
        let wanted = self.cohort(clients);
        self.strategy()?.check_count(wanted)?;
        let invited = (wanted as f64 * (1.0 + self.over_sample)).ceil() as usize;
        let sampled = self.central_privacy.filter(|central| central.client_sampling == ClientSampling::Poisson);
        let settings = RunSettings {
            num_rounds: self.num_rounds,
            seed: self.seed,
            clients_per_round: invited.min(clients),
            sample_rate: sampled.map(|central| central.sample_rate(wanted, clients)),
            min_available_clients: self.min_available_clients,
            participation: Participation {
                // A sample that happens to be small, or empty, is released like any other.
                min_results: if sampled.is_some() { 0 } else { self.results_needed()? },
                target_results: if sampled.is_some() { usize::MAX } else { wanted },
                grace_ms: self.grace_ms,
                deadline_ms: if self.round_deadline_ms == 0 { u64::MAX } else { self.round_deadline_ms },
            },
        };
        settings.validate()?;
        Ok(settings)
    }

    /// `min-results`, or as many as the method needs where that is more: a round with fewer must not reach it.
    ///
    /// # Errors
    /// A method that cannot be built.
    pub(crate) fn results_needed(&self) -> Result<usize, ConfigError> {
        /// No round has so many clients.
        const MOST: usize = 1 << 20;
        let strategy = self.strategy()?;
        let enough = |results: &usize| strategy.check_count(*results).is_ok();
        Ok((self.min_results.max(1)..MOST).find(enough).unwrap_or(self.min_results))
    }

    /// The adapter's specification over the modules and the head of a base model.
    ///
    /// # Errors
    /// A kind that the method does not serve; patterns that do not fit the modules; a specification that describes no usable
    /// adapter.
    pub fn spec(
        &self,
        modules: BTreeMap<ModuleName, ModuleSpec>,
        head: HeadSpec,
    ) -> Result<Arc<AdapterSpec>, ConfigError> {
        let spec = AdapterSpec {
            kind: self.adapter_kind()?,
            rank: self.lora.r,
            alpha: self.lora.lora_alpha,
            use_rslora: self.method()?.use_rslora.unwrap_or(self.lora.use_rslora),
            projection_seed: self.seed,
            modules,
            head,
        };
        let LoraConfig { rank_pattern, alpha_pattern, .. } = &self.lora;
        let spec = spec.with_patterns(rank_pattern, alpha_pattern);
        let spec = spec.map_err(|error| ConfigError::invalid("lora", error.to_string()))?.with_extras();
        spec.validate().map_err(|error| ConfigError::invalid("lora", error.to_string()))?;
        Ok(Arc::new(spec))
    }

    /// How `A` begins: as the method wants it, or as configured.
    ///
    /// # Errors
    /// No such method.
    pub fn init(&self) -> Result<Init, ConfigError> {
        Ok(self.method()?.init.unwrap_or(self.lora.init_lora_weights))
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
