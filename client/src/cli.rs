//! The command line of `fedlora-client`.
//!
//! Exit codes: 0 done; 2 a configuration or a command line that makes no sense; 3 a model or data that cannot be used;
//! 4 a coordinator that turned the client away, or a run that failed; 5 files that cannot be read or written.

mod answer;
mod commands;
pub mod devices;
mod error;
mod join;
mod ledger;
mod local;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use answer::{Answer, Format, chain, print_error};
pub use error::CliError;

/// Takes part in federated LoRA training with this institution's own data
///
/// Data and keys never leave this machine: what travels are adapter matrices. Exit codes: 0 done, 2 configuration,
/// 3 model or data, 4 coordinator or run, 5 files.
#[derive(Debug, Parser)]
#[command(name = "fedlora-client", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How to answer: for people or as one JSON object
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Log level and filters, such as `info` or `fedlora_client=debug`
    #[arg(long, global = true, env = "RUST_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trade a one-time token for an identity; the key is made here and stays here
    Enroll(EnrollArgs),
    /// Take part in runs until they are over
    Join(JoinArgs),
    /// Check everything that can keep this client from taking part
    Preflight(ConfigArgs),
    /// Describe the base model for the coordinator, which never loads it
    Describe(DescribeArgs),
    /// Train on this site's own data alone
    TrainLocal(TrainLocalArgs),
    /// Test an adapter on this site's own test rows
    Evaluate(EvaluateArgs),
    /// Look at the privacy ledgers of this site's data, or raise a limit
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// List this machine's devices that this build can train on, and which one `auto` takes
    Devices,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands into a folder
    Man(ManArgs),
}

/// Getting an identity.
#[derive(Debug, Args)]
struct EnrollArgs {
    /// Address of the coordinator, such as <https://coordinator.example.org:9443>
    #[arg(long, value_name = "URL")]
    server: String,
    /// File with the token from the operator; - reads standard input
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Folder for the identity
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// Certificate authority of the coordinator, from the operator; needed unless --insecure
    #[arg(long, value_name = "FILE", required_unless_present = "insecure")]
    ca: Option<PathBuf>,
    /// Clear text, to a coordinator on this machine
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
}

/// A client's configuration and changes to it.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Change a key, for example --set threads=4; without a value, --set KEY= removes it; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Taking part.
#[derive(Debug, Args)]
struct JoinArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Go on with data files that have changed since the run began
    #[arg(long)]
    accept_changed_data: bool,
}

/// A run's configuration, as the simulator's.
#[derive(Debug, Args)]
struct JobArgs {
    /// Configuration of a run, with sections [model] and [data]
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// Change a key, for example --set lora.r=4; without a value, --set KEY= removes it; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Class names in the order of their numbers, separated by commas [default: those of the data]
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Where to compute: auto, cpu, wgpu:N or cuda:N; the command devices lists what there is
    #[arg(long, default_value = "auto")]
    device: String,
    /// Worker threads; 0 for one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Describing a model.
#[derive(Debug, Args)]
struct DescribeArgs {
    #[command(flatten)]
    job: JobArgs,
    /// File for the description
    #[arg(long)]
    out: PathBuf,
}

/// Training alone.
#[derive(Debug, Args)]
struct TrainLocalArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Folder for the adapter
    #[arg(long)]
    out: PathBuf,
}

/// Testing an adapter.
#[derive(Debug, Args)]
struct EvaluateArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Folder of the adapter, as PEFT writes it
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
}

/// Completions.
#[derive(Debug, Args)]
struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Manual pages.
#[derive(Debug, Args)]
struct ManArgs {
    /// Folder for the pages of all commands
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Cli {
    /// How to answer.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Which log events to write.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// See [`CliError`].
    pub fn run(self) -> Result<Answer, CliError> {
        commands::run(self.command)
    }
}
