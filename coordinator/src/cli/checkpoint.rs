//! `checkpoint`: published adapters, and going on from one.

use clap::{Args, Subcommand};
use fedlora_proto::operator::{ListCheckpointsRequest, RestoreCheckpointRequest};
use serde_json::json;

use super::{Answer, Failure, connect::Operator, json, run::changed, table::Table, words};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator checkpoint list
  fedlora-coordinator checkpoint restore --run 2 --round 7";

/// Published adapters.
#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// List the published adapters of a run
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  fedlora-coordinator checkpoint list
  fedlora-coordinator checkpoint ls --run 2 --format json"
    )]
    List(ListArgs),
    /// Start a new run that goes on from a published adapter of an old one
    #[command(after_help = "Examples:\n  fedlora-coordinator checkpoint restore --run 2 --round 7")]
    Restore(RestoreArgs),
}

/// Whose.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Number of the run [default: the live one, or the last]
    #[arg(long)]
    run: Option<u64>,
}

/// From where.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// Number of the old run
    #[arg(long)]
    run: u64,
    /// Round whose adapter to go on from; 0 for the one that the run started from
    #[arg(long)]
    round: u64,
}

pub(super) async fn run(command: &CheckpointCommand, operator: &mut Operator) -> Result<Answer, Failure> {
    match command {
        CheckpointCommand::List(args) => list(args, operator).await,
        CheckpointCommand::Restore(args) => {
            let request = RestoreCheckpointRequest { run_id: args.run, round: args.round };
            let what = format!("goes on from round {} of run {}", args.round, args.run);
            changed(operator.restore_checkpoint(request).await, &what)
        }
    }
}

async fn list(args: &ListArgs, operator: &mut Operator) -> Result<Answer, Failure> {
    let request = ListCheckpointsRequest { run_id: args.run.unwrap_or(0) };
    let answer = operator.list_checkpoints(request).await.map_err(|status| Failure::of(&status))?;
    let checkpoints = answer.into_inner().checkpoints;
    let mut table = Table::new(&["run", "round", "published", "size", "file"]);
    for checkpoint in &checkpoints {
        table.row([
            checkpoint.run_id.to_string(),
            checkpoint.round.to_string(),
            words::time(checkpoint.time_ms),
            words::bytes(checkpoint.size_bytes),
            words::digest(&checkpoint.blob),
        ]);
    }
    let data = json!({ "checkpoints": checkpoints.iter().map(json::checkpoint).collect::<Vec<_>>() });
    Ok(Answer::new(table.text("no published adapters yet"), data))
}
