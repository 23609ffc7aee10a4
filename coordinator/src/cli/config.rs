//! `config`: looking at a configuration before anything runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Answer, Failure};
use crate::{
    config::{ConfigError, RunConfig, parse_run, read_table},
    plain::chain,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator config check deploy/run.toml
  fedlora-coordinator config show deploy/run.toml --set lora.r=4";

/// Looking at a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration of a run is valid
    #[command(after_help = "Examples:\n  fedlora-coordinator config check deploy/run.toml --set method.name=fedsvd")]
    Check(ConfigArgs),
    /// Print the run's keys with every default written out
    #[command(after_help = "Examples:\n  fedlora-coordinator config show deploy/run.toml")]
    Show(ConfigArgs),
}

/// A configuration and changes to it.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// Configuration of the run
    #[arg(value_name = "CONFIG.toml")]
    pub(super) config: PathBuf,
    /// Change a key, for example --set lora.r=4; without a value, --set KEY= removes it; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The file with the changes.
    pub(super) fn table(&self) -> Result<toml::Table, Failure> {
        read_table(&self.config, &self.set).map_err(|error| Failure::configuration(chain(&error)))
    }

    fn parse(&self) -> Result<RunConfig, Failure> {
        parse_run(self.table()?).map_err(|error| self.wrong(&error))
    }

    fn wrong(&self, error: &ConfigError) -> Failure {
        Failure::configuration(format!("{}: {}", self.config.display(), chain(error)))
    }
}

pub(super) fn run(command: &ConfigCommand) -> Result<Answer, Failure> {
    match command {
        ConfigCommand::Check(args) => {
            args.parse()?;
            Ok(Answer::new(format!("{} is valid", args.config.display()), json!({ "valid": true })))
        }
        ConfigCommand::Show(args) => {
            let table = args.parse()?.to_table().map_err(|error| args.wrong(&error))?;
            Ok(Answer::new(table.to_string(), json!(table)))
        }
    }
}
