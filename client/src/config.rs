//! What a client is told in its file: TOML in kebab-case, every unknown key an error that names the nearest one.

mod error;
mod job;
mod table;

use std::path::{Path, PathBuf};

use fedlora_adapter::ProtectedUnit;
use fedlora_learner::ModelConfig;
use serde::Deserialize;

use crate::{Server, SiteConfig, budget::BudgetConfig};

pub use error::ConfigError;
pub use job::{JobConfig, LoraConfig, OptimizerName};
pub use table::{explain, read_table, set};

/// How a client takes part in a federation.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinConfig {
    /// The coordinator.
    pub server: Server,
    /// Clear text and no certificate, to a coordinator on this machine.
    pub insecure: bool,
    /// The folder that `enroll` made.
    pub identity: PathBuf,
    /// What must survive a restart.
    pub state_dir: PathBuf,
    /// Wait for the next run when one is over.
    pub stay: bool,
    /// Worker threads; 0 for one a core.
    pub threads: usize,
    /// Examples in one pass through the model at most; 0 for all of a step's.
    pub micro_batch_size: usize,
    /// Keep each layer's input alone for the backward pass, which computes the layer again.
    pub gradient_checkpointing: bool,
    /// Where to train: `auto`, `cpu`, or a GPU by its name, as `devices` lists them.
    pub device: String,
    /// What the site allows in terms of privacy; none for plain training.
    pub privacy: Option<BudgetConfig>,
    /// Model and data.
    pub site: SiteConfig,
}

/// The keys at the top level of the file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    server: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default = "default_identity")]
    identity: PathBuf,
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default)]
    stay: bool,
    #[serde(default)]
    threads: usize,
    #[serde(default)]
    micro_batch_size: usize,
    #[serde(default)]
    gradient_checkpointing: bool,
    #[serde(default = "default_device")]
    device: String,
    privacy: Option<BudgetConfig>,
    model: ModelConfig,
}

impl JoinConfig {
    /// Reads a file, applies `key=value` overrides and checks the result.
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
        let (data, personal_test_fraction) = table::take_data(&mut table, &[])?;
        let file: File = toml::Value::Table(table).try_into().map_err(|error| explain(&error, &["data"]))?;
        let server: Server = file.server.parse()?;
        server.check(file.insecure)?;
        if file.model.random_weights {
            let reason = "is for the simulator: the clients of a federation have one base model in common";
            return Err(ConfigError::invalid("model.random-weights", reason));
        }
        if file.privacy.as_ref().is_some_and(|privacy| privacy.unit == ProtectedUnit::User)
            && data.user_column.is_none()
        {
            let reason = "is \"user\", but nothing says whose each row is: set data.user-column";
            return Err(ConfigError::invalid("privacy.unit", reason));
        }
        Ok(Self {
            server,
            insecure: file.insecure,
            identity: file.identity,
            state_dir: file.state_dir,
            stay: file.stay,
            threads: file.threads,
            micro_batch_size: file.micro_batch_size,
            gradient_checkpointing: file.gradient_checkpointing,
            device: file.device,
            privacy: file.privacy,
            site: SiteConfig { model: file.model, data, personal_test_fraction },
        })
    }
}

fn default_identity() -> PathBuf {
    PathBuf::from("identity")
}
fn default_state_dir() -> PathBuf {
    PathBuf::from("state")
}
fn default_device() -> String {
    "auto".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../deploy/client.toml");

    fn parse(overrides: &[&str]) -> Result<JoinConfig, ConfigError> {
        let mut table = SAMPLE.parse::<toml::Table>().expect("valid TOML");
        overrides.iter().try_for_each(|text| set(&mut table, text))?;
        JoinConfig::parse(table)
    }

    #[test]
    fn the_sample_file_is_valid() {
        let config = parse(&[]).expect("valid");
        assert!(config.server.tls() && !config.insecure && config.stay);
        assert_eq!(config.site.data.test_fraction, Some(0.2));
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        for (key, nearest) in [
            ("sever", "server"),
            ("state-dri", "state-dir"),
            ("model.poling", "pooling"),
            ("data.pth", "path"),
            ("data.personal-test-fracton", "personal-test-fraction"),
            ("daat", "data"),
        ] {
            let error = parse(&[&format!("{key}=1")]).expect_err("no such key").to_string();
            let name = key.rsplit('.').next().expect("a name");
            assert_eq!(error, format!("unknown key {name}; did you mean {nearest}?"));
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_what_to_do() {
        let refused = |text: &str| crate::cli::chain(&parse(&[text]).expect_err("no sense"));
        assert!(refused("server=somewhere").contains("expected for example https://"));
        assert!(refused("insecure=true").contains("cannot be insecure"));
        assert!(refused("server=http://localhost:1").contains("clear text"));
        assert!(refused("model.random-weights=true").starts_with("model.random-weights is for the simulator"));
        assert!(refused("data.personal-test-fraction=1.0").contains("personal-test-fraction"));
        assert!(refused("threads=\"many\"").contains("threads"));
        assert!(refused("data=3").contains("data"));
    }

    #[test]
    fn a_missing_section_is_named() {
        let table = "server = 'https://a:1'\n[model]\npath = 'm'\n".parse::<toml::Table>().expect("valid TOML");
        assert_eq!(JoinConfig::parse(table).expect_err("no data").to_string(), "missing section [data]");
        let table = "server = 'https://a:1'\n[data]\npath = 'm'\n".parse::<toml::Table>().expect("valid TOML");
        assert!(JoinConfig::parse(table).expect_err("no model").to_string().contains("missing field `model`"));
    }
}
