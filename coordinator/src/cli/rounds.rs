//! `rounds`: listing, showing and watching rounds.

mod changes;
mod watch;

use clap::{Args, Subcommand};
use fedlora_proto::operator::{ListRoundsRequest, RoundClient, RoundDetail, RoundSummary, ShowRoundRequest};
use serde_json::json;

use super::{
    Answer, Failure, Format,
    connect::Operator,
    json,
    table::{Table, pairs},
    words,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator rounds watch
  fedlora-coordinator rounds list --limit 5
  fedlora-coordinator rounds show 3";

/// Rounds.
#[derive(Debug, Subcommand)]
pub(super) enum RoundsCommand {
    /// List the rounds of a run, youngest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  fedlora-coordinator rounds list
  fedlora-coordinator rounds ls --run 2 --limit 0 --format json"
    )]
    List(ListArgs),
    /// Show one round with its clients
    #[command(after_help = "\
Examples:
  fedlora-coordinator rounds show
  fedlora-coordinator rounds show 3 --run 2")]
    Show(ShowArgs),
    /// Watch rounds as they go, until the run is over
    ///
    /// On a terminal one bar a round and one line a client; into a pipe one line a change. Exits with 4 if the run
    /// fails. Without a live run it waits for the next one.
    #[command(after_help = "\
Examples:
  fedlora-coordinator rounds watch
  fedlora-coordinator rounds watch --format json | jq -c '.data.round'")]
    Watch,
}

/// Which rounds.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Number of the run [default: the live one, or the last]
    #[arg(long)]
    run: Option<u64>,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 20)]
    limit: u64,
}

/// Which round.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Number of the round [default: the open one, or the last]
    round: Option<u64>,
    /// Number of the run [default: the live one, or the last]
    #[arg(long)]
    run: Option<u64>,
}

pub(super) async fn run(command: &RoundsCommand, operator: &mut Operator, format: Format) -> Result<Answer, Failure> {
    match command {
        RoundsCommand::List(args) => list(args, operator).await,
        RoundsCommand::Show(args) => show(args, operator).await,
        RoundsCommand::Watch => watch::watch(operator, format).await,
    }
}

async fn list(args: &ListArgs, operator: &mut Operator) -> Result<Answer, Failure> {
    let request = ListRoundsRequest { run_id: args.run.unwrap_or(0), limit: args.limit };
    let answer = operator.list_rounds(request).await.map_err(|status| Failure::of(&status))?;
    let rounds = answer.into_inner().rounds;
    let header = ["run", "round", "phase", "invited", "accepted", "rejected", "late", "gone", "loss", "adapter"];
    let mut table = Table::new(&header);
    for round in &rounds {
        table.row(row(round));
    }
    let data = json!({ "rounds": rounds.iter().map(json::round).collect::<Vec<_>>() });
    Ok(Answer::new(table.text("no rounds yet"), data))
}

fn row(round: &RoundSummary) -> [String; 10] {
    [
        round.run_id.to_string(),
        round.round.to_string(),
        round.phase.clone(),
        round.invited.to_string(),
        round.accepted.to_string(),
        round.rejected.to_string(),
        round.late.to_string(),
        round.dropped.to_string(),
        words::number(round.train_loss),
        words::digest(&round.adapter),
    ]
}

async fn show(args: &ShowArgs, operator: &mut Operator) -> Result<Answer, Failure> {
    let request = ShowRoundRequest { run_id: args.run.unwrap_or(0), round: args.round.unwrap_or(0) };
    let answer = operator.show_round(request).await.map_err(|status| Failure::of(&status))?;
    let detail = answer.into_inner();
    let summary = detail.summary.clone().unwrap_or_default();
    let text = format!("{}\n\n{}", about(&summary), clients(&detail.clients));
    Ok(Answer::new(text, json!({ "round": json::detail(&detail) })))
}

fn about(round: &RoundSummary) -> String {
    let RoundSummary { accepted, invited, rejected, late, dropped, .. } = round;
    let deadline = if round.ended_ms == 0 { round.deadline_ms } else { 0 };
    pairs([
        ("round", format!("{} of run {}: {}", round.round, round.run_id, round.phase)),
        ("updates", format!("{accepted} of {invited} accepted, {rejected} rejected, {late} late, {dropped} gone")),
        ("opened", words::time(round.opened_ms)),
        ("closes", if deadline == 0 { String::new() } else { words::time(deadline) }),
        ("ended", if round.ended_ms == 0 { String::new() } else { words::time(round.ended_ms) }),
        ("loss", round.train_loss.map(|loss| words::number(Some(loss))).unwrap_or_default()),
        ("adapter", round.adapter.clone()),
    ])
}

fn clients(clients: &[RoundClient]) -> String {
    let mut table = Table::new(&["client", "name", "state", "examples", "steps", "loss", "update", "reason"]);
    for client in clients {
        table.row([
            client.client_id.to_string(),
            words::or_none(&client.name),
            client.state.clone(),
            client.examples.to_string(),
            client.steps.to_string(),
            words::number(client.train_loss),
            words::digest(&client.digest),
            words::or_none(&client.reason),
        ]);
    }
    table.text("no clients in it")
}

/// A client's name, or its number where it has none.
fn name(client: &RoundClient) -> String {
    if client.name.is_empty() { format!("client {}", client.client_id) } else { client.name.clone() }
}

/// The number of a round; 0 in a message without one.
fn number(detail: &RoundDetail) -> u64 {
    detail.summary.as_ref().map_or(0, |summary| summary.round)
}
