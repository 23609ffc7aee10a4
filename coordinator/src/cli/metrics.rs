//! `metrics`: finished rounds in numbers.

use clap::Args;
use fedlora_proto::operator::{MetricsRequest, RoundMetrics};
use serde_json::json;

use super::{Answer, Failure, Format, answer::say, connect::Operator, json, table::Table, words};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedlora-coordinator metrics
  fedlora-coordinator metrics --run 2 --format json
  fedlora-coordinator metrics --follow";

/// Which rounds.
#[derive(Debug, Args)]
pub(super) struct MetricsArgs {
    /// Number of the run [default: the live one, or the last]
    #[arg(long)]
    run: Option<u64>,
    /// Only rounds after this one
    #[arg(long, value_name = "ROUND", default_value_t = 0)]
    after_round: u64,
    /// Go on as rounds end
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(args: &MetricsArgs, operator: &mut Operator, format: Format) -> Result<Answer, Failure> {
    let run_id = args.run.unwrap_or(0);
    let request = MetricsRequest { run_id, after_round: args.after_round, follow: args.follow };
    let stream = operator.metrics(request).await.map_err(|status| Failure::of(&status))?;
    let mut stream = stream.into_inner();
    let mut rounds = Vec::new();
    while let Some(metrics) = stream.message().await.map_err(|status| Failure::of(&status))? {
        if args.follow {
            say(&Answer::new(line(&metrics), json!({ "metrics": json::metrics(&metrics) })), format)?;
        } else {
            rounds.push(metrics);
        }
    }
    if args.follow {
        return Ok(Answer::said());
    }
    let data = json!({ "metrics": rounds.iter().map(json::metrics).collect::<Vec<_>>() });
    Ok(Answer::new(table(&rounds), data))
}

fn table(rounds: &[RoundMetrics]) -> String {
    let header = ["run", "round", "loss", "accepted", "norm", "residual", "up", "down", "took", "aggregation"];
    let mut table = Table::new(&header);
    for metrics in rounds {
        let round = metrics.summary.clone().unwrap_or_default();
        table.row([
            round.run_id.to_string(),
            round.round.to_string(),
            words::number(round.train_loss),
            format!("{}/{}", round.accepted, round.invited),
            words::number(Some(metrics.update_norm)),
            words::number(metrics.aggregation_residual),
            words::bytes(metrics.bytes_up),
            words::bytes(metrics.bytes_down),
            words::duration(metrics.duration_ms),
            words::duration(metrics.aggregation_ms),
        ]);
    }
    table.text("no finished rounds yet")
}

/// A finished round in one line.
fn line(metrics: &RoundMetrics) -> String {
    let round = metrics.summary.clone().unwrap_or_default();
    format!(
        "run {} round {}: loss {}, {} of {} accepted, norm {}, {} up, {} down, took {} (aggregation {})",
        round.run_id,
        round.round,
        words::number(round.train_loss),
        round.accepted,
        round.invited,
        words::number(Some(metrics.update_norm)),
        words::bytes(metrics.bytes_up),
        words::bytes(metrics.bytes_down),
        words::duration(metrics.duration_ms),
        words::duration(metrics.aggregation_ms),
    )
}
