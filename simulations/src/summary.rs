//! From round records to `metrics_summary.json`.

use fedlora_coordinator::RunStatus;
use fedlora_learner::Evaluation;

use crate::{
    config::Config,
    metrics::{Evaluations, RoundMetrics, Summary, SummaryTails, Tail},
    server::Server,
};

/// Version of the summary's layout.
const SCHEMA_VERSION: u32 = 1;

/// The summary of a run.
#[must_use]
pub fn summarise(config: &Config, server: &Server, status: RunStatus) -> Summary {
    let rounds = server.rounds();
    let total = |value: fn(&RoundMetrics) -> u64| rounds.iter().map(value).sum();
    let last = |value: fn(&RoundMetrics) -> Option<f64>| rounds.iter().rev().find_map(value);
    let accuracy = tails(rounds, config.average_last, |found| Some(found.accuracy), |new, best| new > best);
    let perplexity = tails(rounds, config.average_last, |found| found.perplexity, |new, best| new < best);
    let exact_match = tails(rounds, config.average_last, |found| found.exact_match, |new, best| new > best);
    let measured = |tails: SummaryTails| (tails != SummaryTails::default()).then_some(tails);
    let evaluated = rounds.iter().rev().find(|metrics| metrics.evaluations != Evaluations::default());
    Summary {
        schema_version: SCHEMA_VERSION,
        name: config.run.name.clone(),
        method: config.run.method.name.clone(),
        seed: config.run.seed,
        status: self::status(status).to_owned(),
        rounds: rounds.last().map_or(0, |metrics| metrics.round),
        accuracy,
        perplexity: measured(perplexity),
        exact_match: measured(exact_match),
        evaluations: evaluated.map(|metrics| metrics.evaluations.clone()).unwrap_or_default(),
        train_loss: last(|metrics| metrics.train_loss),
        aggregation_residual: last(|metrics| metrics.aggregation_residual),
        bytes_up: total(|metrics| metrics.bytes_up),
        bytes_down: total(|metrics| metrics.bytes_down),
        accepted: total(|metrics| metrics.accepted),
        rejected: total(|metrics| metrics.rejected),
        late: total(|metrics| metrics.late),
        dropped: total(|metrics| metrics.dropped),
        privacy: server.privacy(),
        adapter_digest: server.global().digest().to_hex(),
    }
}

/// A run's state in Flower's words.
#[must_use]
pub fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "pending",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Completed => "finished:completed",
        RunStatus::Stopped => "finished:stopped",
        RunStatus::Failed(_) => "finished:failed",
    }
}

/// One figure of each of the three evaluations.
fn tails(
    rounds: &[RoundMetrics],
    n: usize,
    figure: fn(&Evaluation) -> Option<f64>,
    is_better: fn(f64, f64) -> bool,
) -> SummaryTails {
    let tail = |choose: fn(&Evaluations) -> Option<&Evaluation>| {
        let trained = rounds.iter().filter(|metrics| metrics.round > 0);
        let value = |metrics: &RoundMetrics| Some((metrics.round, choose(&metrics.evaluations).and_then(figure)?));
        tail(&trained.filter_map(value).collect::<Vec<_>>(), n, is_better)
    };
    SummaryTails {
        global: tail(|evaluations| evaluations.global.as_ref()),
        personal_own: tail(|evaluations| evaluations.personal_own.as_ref()),
        personal_global: tail(|evaluations| evaluations.personal_global.as_ref()),
    }
}

/// Last, mean of the last `n` and best of one figure by round; the state before training does not count.
fn tail(values: &[(u64, f64)], n: usize, is_better: fn(f64, f64) -> bool) -> Option<Tail> {
    let &(_, last) = values.last()?;
    let recent = &values[values.len().saturating_sub(n)..];
    let mean_of_last_n = recent.iter().map(|(_, value)| value).sum::<f64>() / recent.len() as f64;
    let first_best = |best: (u64, f64), value: (u64, f64)| if is_better(value.1, best.1) { value } else { best };
    let (best_round, best) = values.iter().copied().reduce(first_best)?;
    Some(Tail { last, mean_of_last_n, n: recent.len() as u64, best, best_round })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_round_is_the_first_of_equals_in_either_direction() {
        let values = [(1, 4.0), (2, 7.0), (3, 4.0), (4, 7.0)];
        let best = |is_better| tail(&values, 2, is_better).map(|tail| (tail.best_round, tail.mean_of_last_n));
        assert_eq!(best(|new, best| new > best), Some((2, 5.5)));
        assert_eq!(best(|new, best| new < best), Some((1, 5.5)));
    }
}
