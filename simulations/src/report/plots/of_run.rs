use fedlora_privacy::Epsilon;

use super::{
    Plot,
    chart::{Chart, Form, Sample, Series},
    palette::{Dash, Ink},
    scale::Axis,
};
use crate::{
    metrics::RoundMetrics,
    report::{
        format::byte_unit,
        measure::{MEASURES, Measure, Score},
    },
};

/// More dots than this hide each other.
const CLIENTS: usize = 400;

/// The plots of one run.
pub(crate) fn of_run(rounds: &[RoundMetrics]) -> Vec<Plot> {
    let score = Score::of(rounds);
    let scores = std::iter::once(score).chain(Score::answers(rounds));
    let mut plots: Vec<Plot> = scores.flat_map(|score| [by_round(score, rounds), by_bytes(score, rounds)]).collect();
    plots.push(train_loss(rounds));
    plots.extend(epsilon(rounds));
    plots.extend(clients(rounds));
    plots
}

/// What private training has cost.
fn epsilon(rounds: &[RoundMetrics]) -> Option<Plot> {
    let spent = rounds.iter().filter_map(|metrics| Some((metrics.round, metrics.privacy.as_ref()?)));
    let spent: Vec<_> = spent.collect();
    let (delta, unit) = spent.last().map(|(_, privacy)| (privacy.delta, privacy.unit.as_str()))?;
    let epsilons: Vec<_> = spent.iter().map(|(round, privacy)| (*round, privacy.epsilon)).collect();
    let plot = epsilon_by_round(&epsilons, delta, unit);
    if spent.iter().all(|(_, privacy)| privacy.client.is_none() && privacy.central.is_none()) {
        return Some(over_all_clients(plot, delta, unit));
    }
    let is_central = spent.iter().any(|(_, privacy)| privacy.central.is_some());
    Some(if is_central { of_whole_clients(plot, delta) } else { plot })
}

/// The same, where a person may be at several clients.
fn over_all_clients(mut plot: Plot, delta: f64, unit: &str) -> Plot {
    plot.caption = format!(
        "Privacy spent by all clients together, for people who may be at each of them: every {unit} is protected with this \
         epsilon at delta {delta:e}. Two accountants, both upper bounds. Evaluations are not covered."
    );
    plot.chart.y = Axis::new("epsilon (over all clients)");
    plot
}

/// The same, where the server adds the noise.
fn of_whole_clients(mut plot: Plot, delta: f64) -> Plot {
    plot.caption = format!(
        "Privacy spent by the published adapters: every client is protected with this epsilon at delta {delta:e}, from all \
         but the server. Two accountants, both upper bounds. Evaluations are not covered."
    );
    plot.chart.y = Axis::new("epsilon (of each client)");
    plot
}

/// `epsilon` at `delta` after each of some rounds.
pub(crate) fn epsilon_by_round(epsilons: &[(u64, Epsilon)], delta: f64, unit: &str) -> Plot {
    let line = |name: &str, ink, dash, value: fn(&Epsilon) -> f64| {
        let samples = epsilons.iter().map(|(round, epsilon)| Sample::new(*round as f64, value(epsilon)));
        Series { name: name.to_owned(), ink, dash, form: Form::Line(samples.collect()) }
    };
    let series = vec![
        line("by privacy loss distributions", Ink::Series(0), Dash::Solid, |epsilon| epsilon.pld),
        line("by Rényi divergences", Ink::Series(1), Dash::Dashed, |epsilon| epsilon.rdp),
    ];
    Plot {
        name: "epsilon",
        caption: format!(
            "Privacy spent by the client that has spent most: every {unit} of it is protected with this epsilon at delta \
             {delta:e}. Two accountants, both upper bounds. Evaluations are not covered."
        ),
        chart: Chart {
            title: "Privacy spent by round".to_owned(),
            x: Axis::rounds(),
            y: Axis::new("epsilon (largest over clients)"),
            series,
        },
    }
}

fn by_round(score: Score, rounds: &[RoundMetrics]) -> Plot {
    let series = by_measure(score, rounds, |_, metrics| metrics.round as f64);
    let title = format!("{} by round", score.title());
    Plot {
        name: score.key(),
        caption: format!("{title}; round 0 is before training."),
        chart: Chart { title, x: Axis::rounds(), y: Axis::score(score), series },
    }
}

fn by_bytes(score: Score, rounds: &[RoundMetrics]) -> Plot {
    let sent = sent(rounds);
    let (unit, size) = byte_unit(sent.last().copied().unwrap_or(0.0));
    let series = by_measure(score, rounds, |index, _| sent[index] / size);
    let x = Axis::amounts(format!("adapter values sent so far, up and down ({unit})"));
    let word = score.title();
    Plot {
        name: match score {
            Score::Accuracy => "accuracy_by_bytes",
            Score::Perplexity => "perplexity_by_bytes",
            Score::ExactMatch => "exact_match_by_bytes",
        },
        caption: format!("{word} against the adapter values that all clients together had sent and taken."),
        chart: Chart { title: format!("{word} by communication"), x, y: Axis::score(score), series },
    }
}

fn train_loss(rounds: &[RoundMetrics]) -> Plot {
    let losses = rounds.iter().filter_map(|metrics| Some(Sample::new(metrics.round as f64, metrics.train_loss?)));
    let form = Form::Line(losses.collect());
    let series = vec![Series { name: String::new(), ink: Ink::Series(0), dash: Dash::Solid, form }];
    let y = Axis::new("mean training loss (nats)");
    Plot {
        name: "train_loss",
        caption: "Training loss by round: mean over the accepted clients, weighted as their updates were.".to_owned(),
        chart: Chart { title: "Training loss by round".to_owned(), x: Axis::rounds(), y, series },
    }
}

/// How unlike the clients are: the last round's losses against what each client trains on.
fn clients(rounds: &[RoundMetrics]) -> Option<Plot> {
    let last = rounds.iter().rev().find(|metrics| !metrics.clients.is_empty())?;
    let all = last.clients.len();
    let shown: Vec<Sample> = (0..all.min(CLIENTS))
        .map(|index| &last.clients[index * all / all.min(CLIENTS)])
        .filter_map(|client| Some(Sample::new(client.num_examples as f64, client.train_loss?)))
        .collect();
    if shown.is_empty() {
        return None;
    }
    let few = if all > CLIENTS { format!(" {CLIENTS} of {all}, evenly chosen.") } else { String::new() };
    let series = vec![Series { name: String::new(), ink: Ink::Series(0), dash: Dash::Solid, form: Form::Dots(shown) }];
    let x = Axis { whole: true, room: 0.04, ..Axis::new("training examples of the client") };
    let y = Axis::new("mean training loss of the client (nats)");
    Some(Plot {
        name: "clients",
        caption: format!("The clients accepted in round {}, one dot each.{few}", last.round),
        chart: Chart { title: format!("Clients in round {}", last.round), x, y, series },
    })
}

fn by_measure(score: Score, rounds: &[RoundMetrics], x: impl Fn(usize, &RoundMetrics) -> f64) -> Vec<Series> {
    let series = |(number, measure): (usize, &Measure)| {
        let sample = |(index, metrics): (usize, &RoundMetrics)| {
            let value = (measure.of)(&metrics.evaluations).and_then(|found| score.value(found));
            value.map(|value| Sample::new(x(index, metrics), value))
        };
        let samples: Vec<Sample> = rounds.iter().enumerate().filter_map(sample).collect();
        let name = measure.head.join(" ").trim().to_owned();
        // Where clients keep nothing, two of the lines are one; strokes show that both are there.
        let dash = if number == 2 { Dash::Dashed } else { Dash::Solid };
        Series { name, ink: Ink::Series(number), dash, form: Form::Line(samples) }
    };
    MEASURES.iter().enumerate().map(series).collect()
}

/// Bytes of adapter values up to and with each round, both ways.
pub(super) fn sent(rounds: &[RoundMetrics]) -> Vec<f64> {
    let total = |sum: &mut f64, metrics: &RoundMetrics| {
        *sum += (metrics.bytes_up + metrics.bytes_down) as f64;
        Some(*sum)
    };
    rounds.iter().scan(0.0, total).collect()
}
