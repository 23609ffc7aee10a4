//! The command line of `fedlora-sim`.

mod commands;
mod privacy;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use fedlora_client::cli::{Answer, Format, print_error};

/// The best device there is.
const AUTO: &str = "auto";

/// Federated LoRA on one machine
///
/// Fine-tunes a frozen pretrained model with LoRA on many clients' data, combines their adapters by a federated
/// method, and reports accuracy, communication and adapters. Without a command it runs the quickstart.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// How to answer: for people or as one JSON object
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Worker threads; the result is the same for any number [default: one a core]
    #[arg(long, global = true)]
    pub(crate) threads: Option<usize>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare methods on handwritten digits seen by six clients; needs no file and no download
    Quickstart(QuickstartArgs),
    /// Run one configuration
    Run(RunArgs),
    /// Run several methods beside the reference rows (local-only, centralised, FedAvg)
    Compare(CompareArgs),
    /// Run every combination of some settings
    Sweep(SweepArgs),
    /// Train a small vision model on images from nothing, as a base for runs
    Pretrain(PretrainArgs),
    /// Write a report over finished runs
    Report(ReportArgs),
    /// Check or show a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List the federated methods
    Methods,
    /// List this machine's devices that this build can train on, and which one `auto` takes
    Devices,
    /// Say what private training costs, or what a budget allows
    #[command(subcommand)]
    Privacy(privacy::PrivacyCommand),
}

/// The quickstart.
#[derive(Debug, Args, Default)]
pub(crate) struct QuickstartArgs {
    /// Directory of the results
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Seeds, separated by commas [default: 1]
    #[arg(long, value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Go on with an interrupted quickstart in --out
    #[arg(long, requires = "out")]
    pub(crate) resume: bool,
}

/// A configuration and changes to it.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    /// Change a key, for example --set lora.r=4; without a value, --set KEY= removes it; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of every random choice
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// Where results go.
#[derive(Debug, Args)]
pub(crate) struct OutArgs {
    /// Directory of the results [default: runs/NAME]
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the last checkpoint in that directory
    #[arg(long)]
    pub(crate) resume: bool,
    /// Where to train: auto, cpu, wgpu:N or cuda:N; the command devices lists what there is. With several, separated by
    /// commas, different clients train at the same time
    #[arg(long, default_value = AUTO, value_delimiter = ',')]
    pub(crate) device: Vec<String>,
}

/// What lies between server and clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkArg {
    /// A call, with a virtual clock
    #[default]
    Direct,
    /// A coordinator and its clients in this process: mutual TLS, gRPC, event log; the same bytes, more slowly
    Grpc,
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// What lies between server and clients
    #[arg(long, value_enum, default_value_t)]
    pub(crate) link: LinkArg,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

/// A comparison of methods.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Methods beside the reference rows, separated by commas; `all` for those that trust their clients, `robust` for
    /// those that do not
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub(crate) methods: Vec<String>,
    /// Seeds, separated by commas [default: the configuration's]
    #[arg(long, value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

/// A grid of settings.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Values of one key, for example --grid lora.r=2,4,8; can be repeated
    #[arg(long, value_name = "KEY=VALUE,VALUE", required = true)]
    pub(crate) grid: Vec<String>,
    /// Seeds, separated by commas [default: the configuration's]
    #[arg(long, value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

/// Central training of a base.
#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Directory of the model, which runs then take as model.path
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Where to train: auto, cpu, wgpu:N or cuda:N; the command devices lists what there is
    #[arg(long, default_value = AUTO)]
    pub(crate) device: String,
}

/// A report over finished runs.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run directories
    #[arg(required = true)]
    pub(crate) directories: Vec<PathBuf>,
    /// Directory of the report [default: the run's own for a single one, else runs/report]
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Looking at a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether a configuration is valid
    Check(ConfigArgs),
    /// Print the configuration with every default written out
    Show(ConfigArgs),
}

impl Cli {
    /// How to answer.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// See [`crate::SimulationError`].
    pub fn run(self) -> Result<Answer, crate::SimulationError> {
        commands::run(self)
    }
}
