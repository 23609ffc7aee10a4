//! The command line of `fedlora-coordinator`: the server itself, and everything that its operators ask of it.
//!
//! Nothing heavy happens before the arguments are understood, and a command starts only the threads that it needs.

mod answer;
mod checkpoint;
mod clients;
mod clock;
mod config;
mod connect;
mod export;
mod failure;
mod generate;
mod identity;
mod json;
mod log;
mod metrics;
mod pki;
mod rounds;
mod run;
mod serve;
mod status;
mod table;
mod tokens;
mod words;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use connect::{Operator, Target};

pub use answer::{Answer, Format, print_failure};
pub use failure::Failure;

/// Coordinator of federated LoRA training
///
/// `serve` runs the coordinator. The other commands ask a running one over the network, with an identity that is
/// allowed to: `pki init` makes the first operator's.
#[derive(Debug, Parser)]
#[command(name = "fedlora-coordinator", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// From nothing to a finished round, and what exit codes mean.
const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator pki init --dir state --host localhost
  fedlora-coordinator serve --config deploy/coordinator.toml --set state-dir=state
  export FEDLORA_IDENTITY=state/operator
  fedlora-coordinator tokens create --name hospital-a --out hospital-a.token
  fedlora-coordinator run start deploy/run.toml --model model.json
  fedlora-coordinator rounds watch
  fedlora-coordinator export --out adapter

Exit codes:
  0    done
  2    configuration or command line
  3    the description of the model
  4    the coordinator refused, or the run failed
  5    files and output
  6    the coordinator cannot be reached, or not trusted
  7    this identity may not do that
  130  stopped by Ctrl-C

Answers with --format json are one object {schema_version, status, exit_code, data | error};
commands that go on (--follow, rounds watch) write one such object a line.";

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// How to answer: for people or as JSON
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Address of the coordinator [default: <https://localhost:8443>]
    #[arg(long, global = true, value_name = "URL", env = "FEDLORA_SERVER")]
    server: Option<String>,
    /// Folder with ca.pem, certificate.pem and key.pem, as `pki init` or `fedlora-client enroll` wrote it
    #[arg(long, global = true, value_name = "DIR", env = "FEDLORA_IDENTITY")]
    identity: Option<PathBuf>,
    /// Talk in clear text; only to this machine itself
    #[arg(long, global = true)]
    insecure: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the coordinator until it is told to stop
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::ServeArgs),
    /// Make the certificate authority and the first operator's identity
    #[command(subcommand, after_help = pki::EXAMPLES)]
    Pki(pki::PkiCommand),
    /// Show the coordinator at a glance
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// Start, pause, resume, stop and list runs
    #[command(subcommand, after_help = run::EXAMPLES)]
    Run(run::RunCommand),
    /// List, show and watch rounds
    #[command(subcommand, after_help = rounds::EXAMPLES)]
    Rounds(rounds::RoundsCommand),
    /// List, show, revoke and drain clients
    #[command(subcommand, after_help = clients::EXAMPLES)]
    Clients(clients::ClientsCommand),
    /// Create, list and revoke one-time enrolment tokens
    #[command(subcommand, after_help = tokens::EXAMPLES)]
    Tokens(tokens::TokensCommand),
    /// Show what happened
    #[command(after_help = log::EXAMPLES)]
    Log(log::LogArgs),
    /// Show finished rounds in numbers
    #[command(after_help = metrics::EXAMPLES)]
    Metrics(metrics::MetricsArgs),
    /// List published adapters and go on from one
    #[command(subcommand, after_help = checkpoint::EXAMPLES)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Fetch a published adapter as a Hugging Face PEFT folder
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Check or show the configuration of a run
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::ConfigCommand),
    /// Print completions for a shell
    #[command(after_help = generate::COMPLETIONS_EXAMPLES)]
    Completions(generate::CompletionsArgs),
    /// Write manual pages
    #[command(after_help = generate::MAN_EXAMPLES)]
    Man(generate::ManArgs),
}

impl Cli {
    /// The definition of the command line, from which help, completions and manual pages come.
    #[must_use]
    pub fn definition() -> clap::Command {
        Self::command()
    }

    /// How to answer.
    #[must_use]
    pub fn format(&self) -> Format {
        self.global.format
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// In plain words, with the exit code.
    pub fn run(self) -> Result<Answer, Failure> {
        let Global { format, server, identity, insecure } = self.global;
        let target = Target { server, identity, insecure };
        match self.command {
            Command::Serve(args) => serve::run(&args, insecure),
            Command::Pki(command) => pki::run(&command),
            Command::Config(command) => config::run(&command),
            Command::Completions(args) => Ok(generate::completions(&args)),
            Command::Man(args) => generate::man(&args),
            Command::Status => remote(&target, async |operator| status::run(operator).await),
            Command::Run(command) => run::run(&command, &target),
            Command::Rounds(command) => remote(&target, async |operator| rounds::run(&command, operator, format).await),
            Command::Clients(command) => remote(&target, async |operator| clients::run(&command, operator).await),
            Command::Tokens(command) => remote(&target, async |operator| tokens::run(&command, operator).await),
            Command::Log(args) => remote(&target, async |operator| log::run(&args, operator, format).await),
            Command::Metrics(args) => remote(&target, async |operator| metrics::run(&args, operator, format).await),
            Command::Checkpoint(command) => remote(&target, async |operator| checkpoint::run(&command, operator).await),
            Command::Export(args) => export::run(&args, &target),
        }
    }
}

/// Connects and asks.
fn remote(target: &Target, ask: impl AsyncFnOnce(&mut Operator) -> Result<Answer, Failure>) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::files(format!("cannot start: {error}")))?;
    let answer = runtime.block_on(async {
        let mut operator = connect::connect(target).await?;
        ask(&mut operator).await
    });
    answer.map_err(|failure| failure.over(target.insecure))
}
