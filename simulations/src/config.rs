//! What a run is made of, as TOML: one file, `--set key=value` on top, every unknown key an error.
//!
//! The keys of the run itself are the coordinator's; here are those of a simulation around it.

mod load;

use fedlora_adapter::ProtectedUnit;
use fedlora_aggregation::Init;
use fedlora_coordinator::config::{ConfigError, RunConfig, explain};
use fedlora_learner::{DataConfig, EvaConfig, ExactMatch};
use serde::{Deserialize, Serialize};

use crate::{faults::Faults, partition::PartitionConfig};

pub use fedlora_learner::ModelConfig;
pub use load::{load, parse, to_table, to_toml};

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The run itself: rounds, method, adapter, local training. Its keys stand at the top level of a file.
    pub run: RunConfig,
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
    /// Clients trained together in one pass over the base model; 0 for as many as it takes to fill one.
    #[serde(default)]
    pub cohort_size: usize,
    /// A client's examples in one pass through the model at most; 0 for all of a step's. A larger step takes several
    /// passes, whose gradients add up to the same: less memory, the same training.
    #[serde(default)]
    pub micro_batch_size: usize,
    /// Keep each layer's input alone for the backward pass, which computes the layer again: less memory, more time, the same
    /// bytes.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Whether a person's rows may be at several clients: then what all clients release about them adds up.
    #[serde(default)]
    pub people_overlap: bool,
    /// Keep clients' personal tensors on disk instead of in memory.
    #[serde(default)]
    pub spill: bool,
    /// The base model.
    pub model: ModelConfig,
    /// The examples and who holds which.
    pub data: DataSection,
    /// Test language models by what they write, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<ExactMatch>,
    /// Injected trouble.
    #[serde(default)]
    pub faults: Faults,
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
    /// Which public rows the first adapter comes from; none for other initialisations than `eva`.
    ///
    /// # Errors
    /// Keys that mean nothing.
    pub fn eva(&self) -> Result<Option<EvaConfig>, ConfigError> {
        let table = self.run.lora.eva_config.clone().filter(|_| self.run.init().is_ok_and(Init::needs_data));
        let read = |table| toml::Value::Table(table).try_into().map_err(|error| explain(&error, &[]));
        table.map(read).transpose()
    }

    /// Checks what single fields cannot say.
    ///
    /// # Errors
    /// The first key whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_one =
            |key, value: u64| (value > 0).then_some(()).ok_or(ConfigError::invalid(key, "must be at least 1"));
        at_least_one("evaluate-every", self.evaluate_every)?;
        at_least_one("average-last", self.average_last as u64)?;
        self.faults.validate()?;
        let unit = self.run.privacy.map(|terms| terms.unit()).unwrap_or_default();
        if unit == ProtectedUnit::User && self.data.source.user_column.is_none() {
            let reason = "is \"user\", but nothing says whose each row is: set data.user-column";
            return Err(ConfigError::invalid("privacy.unit", reason));
        }
        let eva = self.eva()?.filter(|_| self.run.privacy.is_some() || self.run.central_privacy.is_some());
        if eva.is_some_and(|eva| eva.may_share_rows_with(&self.data.source)) {
            let reason = "names the clients' own rows, which privacy protects: name public ones";
            return Err(ConfigError::invalid("lora.eva_config.data", reason));
        }
        self.run.validate()
    }
}

fn one() -> u64 {
    1
}
fn default_evaluate_clients() -> usize {
    50
}
fn default_average_last() -> usize {
    3
}
