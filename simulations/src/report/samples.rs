//! Invented records for tests.

use fedlora_learner::Evaluation;

use super::RunRecord;
use crate::metrics::{ClientMetrics, Evaluations, PhaseSeconds, RoundMetrics, Summary, SummaryTails, Tail};

/// A run whose accuracy rises with the round; `fedsa-lora` has no global model and `local-only` never changes it.
pub(crate) fn record(method: &str, seed: u64, rounds: u64) -> RunRecord {
    let rounds: Vec<RoundMetrics> = (0..=rounds).map(|round| metrics(method, seed, round)).collect();
    let summary = summary(method, seed, &rounds);
    RunRecord { rounds, summary }
}

/// The same run as one of a language model, whose perplexity falls as the accuracy rises.
pub(crate) fn language(method: &str, seed: u64, rounds: u64) -> RunRecord {
    let mut record = record(method, seed, rounds);
    let turn = |found: &mut Option<Evaluation>| {
        if let Some(found) = found {
            (found.tokens, found.macro_f1, found.perplexity) = (Some(9000), None, Some(found.loss.exp()));
        }
    };
    let rounds = record.rounds.iter_mut().map(|metrics| &mut metrics.evaluations);
    for all in rounds.chain([&mut record.summary.evaluations]) {
        [&mut all.global, &mut all.personal_own, &mut all.personal_global].into_iter().for_each(turn);
    }
    let perplexity = |tail: Option<Tail>| tail.map(|tail| Tail { last: (1.0 - tail.last).exp(), ..tail });
    let SummaryTails { global, personal_own, personal_global } = record.summary.accuracy.clone();
    let [global, personal_own, personal_global] = [global, personal_own, personal_global].map(perplexity);
    record.summary.perplexity = Some(SummaryTails { global, personal_own, personal_global });
    record
}

/// The same run as one of a language model that was asked: half of what it predicts rightly are answers.
pub(crate) fn asked(method: &str, seed: u64, rounds: u64) -> RunRecord {
    let mut record = language(method, seed, rounds);
    let rounds = record.rounds.iter_mut().map(|metrics| &mut metrics.evaluations);
    for all in rounds.chain([&mut record.summary.evaluations]) {
        for found in [&mut all.global, &mut all.personal_own, &mut all.personal_global].into_iter().flatten() {
            found.exact_match = Some(found.accuracy / 2.0);
        }
    }
    record.summary.exact_match = Some(record.summary.accuracy.clone());
    record
}

fn metrics(method: &str, seed: u64, round: u64) -> RoundMetrics {
    let trained = round > 0;
    let clients = if trained { 4 } else { 0 };
    let sent = if method == "local-only" { 0 } else { clients * 6144 };
    let loss = 2.3 / (1.0 + round as f64);
    let client = |client| ClientMetrics {
        client,
        num_examples: 40 + 10 * client,
        steps: 8,
        train_loss: Some(loss * (1.0 + 0.1 * client as f64)),
    };
    RoundMetrics {
        round,
        train_loss: trained.then_some(loss),
        evaluations: evaluations(method, seed, round),
        aggregation_residual: trained.then_some(0.0123),
        update_norm: 0.5,
        bytes_up: sent,
        bytes_down: sent,
        accepted: clients,
        rejected: 0,
        late: 0,
        dropped: u64::from(trained),
        privacy: None,
        clients: (0..clients).map(client).collect(),
        duration_s: 1.25,
        seconds: PhaseSeconds { train: 1.0, aggregate: 0.05, evaluate: 0.15, save: 0.05 },
    }
}

fn evaluations(method: &str, seed: u64, round: u64) -> Evaluations {
    let bonus = method.len() as f64 / 100.0;
    let rising = |to: f64| 0.1 + (to + bonus - 0.1) * (1.0 - 0.6_f64.powi(round as i32)) + 0.01 * seed as f64;
    let evaluation = |accuracy: f64| {
        let (tokens, macro_f1, perplexity, exact_match) = (None, Some(accuracy), None, None);
        Evaluation { examples: 300, tokens, loss: 1.0 - accuracy, accuracy, macro_f1, perplexity, exact_match }
    };
    let global = match method {
        "fedsa-lora" => None,
        "local-only" => Some(0.1),
        _ => Some(rising(0.7)),
    };
    Evaluations {
        global: global.map(evaluation),
        personal_own: Some(evaluation(rising(0.8))),
        personal_global: Some(evaluation(rising(0.6))),
    }
}

fn summary(method: &str, seed: u64, rounds: &[RoundMetrics]) -> Summary {
    let total = |value: fn(&RoundMetrics) -> u64| rounds.iter().map(value).sum();
    let tail = |choose: fn(&Evaluations) -> Option<&Evaluation>| -> Option<Tail> {
        let values: Vec<f64> =
            rounds.iter().filter_map(|metrics| choose(&metrics.evaluations)).map(|found| found.accuracy).collect();
        let last = *values.last()?;
        let recent = &values[values.len().saturating_sub(3)..];
        let mean_of_last_n = recent.iter().sum::<f64>() / recent.len() as f64;
        Some(Tail { last, mean_of_last_n, n: recent.len() as u64, best: last, best_round: rounds.len() as u64 - 1 })
    };
    let last = rounds.last();
    Summary {
        schema_version: 1,
        name: method.to_owned(),
        method: method.to_owned(),
        seed,
        status: "finished:completed".to_owned(),
        rounds: last.map_or(0, |metrics| metrics.round),
        accuracy: SummaryTails {
            global: tail(|evaluations| evaluations.global.as_ref()),
            personal_own: tail(|evaluations| evaluations.personal_own.as_ref()),
            personal_global: tail(|evaluations| evaluations.personal_global.as_ref()),
        },
        evaluations: last.map(|metrics| metrics.evaluations.clone()).unwrap_or_default(),
        train_loss: last.and_then(|metrics| metrics.train_loss),
        aggregation_residual: last.and_then(|metrics| metrics.aggregation_residual),
        bytes_up: total(|metrics| metrics.bytes_up),
        bytes_down: total(|metrics| metrics.bytes_down),
        accepted: total(|metrics| metrics.accepted),
        rejected: 0,
        late: 0,
        dropped: total(|metrics| metrics.dropped),
        privacy: None,
        perplexity: None,
        exact_match: None,
        adapter_digest: "3f".repeat(32),
    }
}
