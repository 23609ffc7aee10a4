//! `run`: starting, pausing, resuming, stopping and listing runs.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use fedlora_proto::operator::{ControlRunRequest, ListRunsRequest, RunSummary, StartRunRequest};
use serde_json::json;

use super::{
    Answer, Failure,
    config::ConfigArgs,
    connect::{Operator, Target},
    json, remote,
    status::run_line,
    table::Table,
    words,
};
use crate::{
    ModelDescription,
    config::{RunConfig, parse_run},
    plain::chain,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator run start deploy/run.toml --model model.json
  fedlora-coordinator run pause
  fedlora-coordinator run list";

/// Runs.
#[derive(Debug, Subcommand)]
pub(super) enum RunCommand {
    /// Start a run; at most one is live at a time
    #[command(after_help = "\
Examples:
  fedlora-client describe deploy/run.toml --out model.json
  fedlora-coordinator run start deploy/run.toml --model model.json
  fedlora-coordinator run start deploy/run.toml --model model.json --set method.name=fedsvd --set num-rounds=10")]
    Start(StartArgs),
    /// End a run after its open round
    #[command(after_help = "\
Examples:
  fedlora-coordinator run stop
  fedlora-coordinator run stop 3")]
    Stop(ControlArgs),
    /// Begin no round after the open one
    #[command(after_help = "Examples:\n  fedlora-coordinator run pause")]
    Pause(ControlArgs),
    /// Go on after a pause
    #[command(after_help = "Examples:\n  fedlora-coordinator run resume")]
    Resume(ControlArgs),
    /// List all runs, youngest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  fedlora-coordinator run list
  fedlora-coordinator run ls --format json"
    )]
    List,
}

/// A run to be.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What the base model looks like, as `fedlora-client describe` wrote it
    #[arg(long, value_name = "DESCRIPTION.json")]
    model: PathBuf,
    /// Starting again with the same key starts nothing new, so that a script may retry [default: a random one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// A run that is.
#[derive(Debug, Args)]
pub(super) struct ControlArgs {
    /// Number of the run [default: the live one]
    run: Option<u64>,
}

pub(super) fn run(command: &RunCommand, target: &Target) -> Result<Answer, Failure> {
    match command {
        // What can be wrong with the files is said before anybody is asked.
        RunCommand::Start(args) => {
            let request = start_request(args)?;
            remote(target, async |operator| start(request, operator).await)
        }
        RunCommand::List => remote(target, async |operator| list(operator).await),
        RunCommand::Stop(args) => {
            remote(target, async |operator| changed(operator.stop_run(which(args)).await, "ends after its open round"))
        }
        RunCommand::Pause(args) => remote(target, async |operator| {
            changed(operator.pause_run(which(args)).await, "pauses after its open round")
        }),
        RunCommand::Resume(args) => {
            remote(target, async |operator| changed(operator.resume_run(which(args)).await, "goes on"))
        }
    }
}

fn which(args: &ControlArgs) -> ControlRunRequest {
    ControlRunRequest { run_id: args.run.unwrap_or(0) }
}

fn start_request(args: &StartArgs) -> Result<StartRunRequest, Failure> {
    let table = args.config.table()?;
    let shown = args.config.config.display();
    let config_toml = toml::to_string(&table).map_err(|error| Failure::configuration(format!("{shown}: {error}")))?;
    let config = parse_run(table).map_err(|error| Failure::configuration(format!("{shown}: {}", chain(&error))))?;
    let model_description_json = description(&args.model, &config)?;
    let idempotency_key = args.idempotency_key.clone().map_or_else(random_key, Ok)?;
    Ok(StartRunRequest { config_toml, model_description_json, idempotency_key })
}

/// The description's text, if it describes a model that the configuration can adapt.
fn description(path: &Path, config: &RunConfig) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::model(format!("cannot read {}: {error}; `fedlora-client describe` writes it", path.display()))
    })?;
    let wrong = |why: String| Failure::model(format!("{}: {why}", path.display()));
    let model: ModelDescription = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    config.spec(model.modules, model.head).map_err(|error| wrong(chain(&error)))?;
    Ok(text)
}

/// 128 bits from the system: two commands never share a key by accident.
fn random_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::files(format!("no random numbers: {error}")))?;
    let mut key = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

async fn start(request: StartRunRequest, operator: &mut Operator) -> Result<Answer, Failure> {
    let mut answer = changed(operator.start_run(request).await, "is started")?;
    answer.text += "\nnext: fedlora-coordinator rounds watch";
    Ok(answer)
}

/// The answer of a call that changed a run.
pub(super) fn changed(
    answer: Result<tonic::Response<RunSummary>, tonic::Status>,
    what: &str,
) -> Result<Answer, Failure> {
    let run = answer.map_err(|status| Failure::of(&status))?.into_inner();
    let text = format!("run {} {what}\nrun {}", run.run_id, run_line(&run));
    Ok(Answer::new(text, json!({ "run": json::run(&run) })))
}

async fn list(operator: &mut Operator) -> Result<Answer, Failure> {
    let answer = operator.list_runs(ListRunsRequest {}).await.map_err(|status| Failure::of(&status))?;
    let runs = answer.into_inner().runs;
    let mut table = Table::new(&["run", "name", "method", "status", "done", "rounds", "created", "finished"]);
    for run in &runs {
        table.row([
            run.run_id.to_string(),
            run.name.clone(),
            run.method.clone(),
            run.status.clone(),
            run.rounds_done.to_string(),
            run.num_rounds.to_string(),
            words::time(run.created_ms),
            words::time(run.finished_ms),
        ]);
    }
    let text = table.text("no runs yet; `run start` begins one");
    Ok(Answer::new(text, json!({ "runs": runs.iter().map(json::run).collect::<Vec<_>>() })))
}
