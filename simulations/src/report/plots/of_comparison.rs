use std::collections::BTreeMap;

use super::{
    Plot,
    chart::{Chart, Form, Sample, Series},
    of_run::sent,
    palette::{Dash, Ink},
    scale::Axis,
};
use crate::{
    metrics::RoundMetrics,
    report::{
        REFERENCES, RunRecord,
        format::byte_unit,
        measure::{MEASURES, Measure, Score},
    },
};

/// Rows beyond these would look like earlier ones.
const ROWS: usize = 18;

/// A row: its name and its runs.
type Row<'a> = (&'a str, &'a [RunRecord]);

/// The plots of a comparison: each accuracy, or perplexity, by round and by communication, and the training loss.
pub(crate) fn of_comparison(rows: &[Row<'_>]) -> Vec<Plot> {
    let all = rows.len();
    let rows = &rows[..all.min(ROWS)];
    let few = if all > ROWS { format!(" The first {ROWS} of {all} rows.") } else { String::new() };
    let seeds = rows.iter().map(|(_, runs)| runs.len()).max().unwrap_or(0);
    let band = match seeds {
        0 | 1 => few,
        _ => format!(" Lines are means over seeds, bands go from the smallest to the largest value.{few}"),
    };
    let rounds = || rows.iter().flat_map(|(_, runs)| *runs).flat_map(|run| &run.rounds);
    let mut plots = Vec::new();
    for score in std::iter::once(Score::of(rounds())).chain(Score::answers(rounds())) {
        for (measure, (round, bytes)) in MEASURES.iter().zip(names(score)) {
            plots.push(by_round(round, rows, (score, measure), &band));
            plots.push(by_bytes(bytes, rows, (score, measure), &band));
        }
    }
    plots.push(train_loss(rows, &band));
    plots
}

/// Names of the plots by round and by communication, in the order of [`MEASURES`].
fn names(score: Score) -> [(&'static str, &'static str); 3] {
    match score {
        Score::Accuracy => [
            ("accuracy_global", "accuracy_global_by_bytes"),
            ("accuracy_personal_own", "accuracy_personal_own_by_bytes"),
            ("accuracy_personal_global", "accuracy_personal_global_by_bytes"),
        ],
        Score::Perplexity => [
            ("perplexity_global", "perplexity_global_by_bytes"),
            ("perplexity_personal_own", "perplexity_personal_own_by_bytes"),
            ("perplexity_personal_global", "perplexity_personal_global_by_bytes"),
        ],
        Score::ExactMatch => [
            ("exact_match_global", "exact_match_global_by_bytes"),
            ("exact_match_personal_own", "exact_match_personal_own_by_bytes"),
            ("exact_match_personal_global", "exact_match_personal_global_by_bytes"),
        ],
    }
}

fn by_round(name: &'static str, rows: &[Row<'_>], (score, measure): (Score, &Measure), band: &str) -> Plot {
    let series = lines(rows, |run| {
        let value = |metrics: &RoundMetrics| (measure.of)(&metrics.evaluations).and_then(|found| score.value(found));
        run.rounds.iter().filter_map(|metrics| Some((metrics.round, metrics.round as f64, value(metrics)?))).collect()
    });
    let title = capital(measure.title);
    Plot {
        name,
        caption: format!("{} by round: {}.{band}", score.title(), measure.title),
        chart: Chart { title, x: Axis::rounds(), y: Axis::score(score), series },
    }
}

/// What sends nothing, and the row that has everything in one place, are levels to compare with.
fn by_bytes(name: &'static str, rows: &[Row<'_>], (score, measure): (Score, &Measure), band: &str) -> Plot {
    let level = |(name, runs): &Row<'_>| {
        let nothing = runs.iter().all(|run| run.summary.bytes_up + run.summary.bytes_down == 0);
        nothing || *name == REFERENCES[1]
    };
    let most = rows.iter().filter(|row| !level(row)).flat_map(|(_, runs)| *runs);
    let most = most.map(|run| run.summary.bytes_up + run.summary.bytes_down).max().unwrap_or(0);
    let (unit, size) = byte_unit(most as f64);
    let mut series = lines(rows, |run| {
        let value = |metrics: &RoundMetrics| (measure.of)(&metrics.evaluations).and_then(|found| score.value(found));
        let rounds = run.rounds.iter().zip(sent(&run.rounds));
        rounds.filter_map(|(metrics, sent)| Some((metrics.round, sent / size, value(metrics)?))).collect()
    });
    for (series, _) in series.iter_mut().zip(rows).filter(|(_, row)| level(row)) {
        let Form::Line(samples) = &series.form else { continue };
        series.form = samples.last().map_or(Form::Line(Vec::new()), |last| Form::Level(last.y));
    }
    let x = Axis::amounts(format!("adapter values sent so far, up and down ({unit})"));
    Plot {
        name,
        caption: format!(
            "The same {word} against the adapter values that all clients together had sent and taken; level lines are the \
             last {word} of rows without communication between clients.{band}",
            word = score.name()
        ),
        chart: Chart { title: capital(measure.title), x, y: Axis::score(score), series },
    }
}

fn train_loss(rows: &[Row<'_>], band: &str) -> Plot {
    let series = lines(rows, |run| {
        let rounds = run.rounds.iter();
        rounds.filter_map(|metrics| Some((metrics.round, metrics.round as f64, metrics.train_loss?))).collect()
    });
    let y = Axis::new("mean training loss (nats)");
    Plot {
        name: "train_loss",
        caption: format!("Training loss by round, weighted as the updates were.{band}"),
        chart: Chart { title: "Training loss".to_owned(), x: Axis::rounds(), y, series },
    }
}

/// One line a row: means over its runs, round by round, of what `samples` finds: round, x and y.
fn lines(rows: &[Row<'_>], samples: impl Fn(&RunRecord) -> Vec<(u64, f64, f64)>) -> Vec<Series> {
    let mut methods = 0;
    let mut series = Vec::with_capacity(rows.len());
    for (name, runs) in rows {
        let mut rounds: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
        for (round, x, y) in runs.iter().flat_map(&samples) {
            rounds.entry(round).or_default().push((x, y));
        }
        let (ink, dash) = match REFERENCES.iter().position(|reference| reference == name) {
            Some(0) => (Ink::Reference, Dash::Dotted),
            Some(1) => (Ink::Reference, Dash::Dashed),
            Some(_) => (Ink::Text, Dash::Solid),
            None => {
                methods += 1;
                (Ink::Series(methods - 1), Dash::of(methods - 1))
            }
        };
        // A mean over fewer runs, as after an interrupt, would look like a jump.
        let runs = rounds.values().map(Vec::len).max().unwrap_or(0);
        let complete = rounds.into_values().filter(|values| values.len() == runs);
        let form = Form::Line(complete.map(|values| mean(&values)).collect());
        series.push(Series { name: label(name), ink, dash, form });
    }
    series
}

/// The row's name with `key=value` for `table.key=value`, because the rows of a sweep are named after what they set.
fn label(name: &str) -> String {
    let word = |word: &str| match word.split_once('=') {
        Some((key, value)) => format!("{}={value}", key.rsplit('.').next().unwrap_or(key)),
        None => word.to_owned(),
    };
    name.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn mean(values: &[(f64, f64)]) -> Sample {
    let count = values.len() as f64;
    let heights = || values.iter().map(|(_, y)| *y);
    Sample {
        x: values.iter().map(|(x, _)| x).sum::<f64>() / count,
        y: heights().sum::<f64>() / count,
        range: (heights().fold(f64::INFINITY, f64::min), heights().fold(f64::NEG_INFINITY, f64::max)),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn samples_of(series: &Series) -> &[Sample] {
        match &series.form {
            Form::Line(samples) | Form::Dots(samples) => samples,
            Form::Level(_) => &[],
        }
    }

    #[test]
    fn a_line_is_the_mean_over_seeds_within_the_smallest_and_the_largest() {
        let runs = [1, 2, 3].map(|seed| samples::record("fedavg", seed, 2));
        let plot = by_round("a", &[("fedavg", &runs)], (Score::Accuracy, &MEASURES[1]), "");
        let last = samples_of(&plot.chart.series[0]).last().copied().expect("rounds");
        // Each seed of the samples adds 0.01, so the middle one is the mean, up to rounding of a sum of three.
        let middle = runs[1].summary.accuracy.personal_own.map_or(f64::NAN, |tail| tail.last);
        let near = |left: f64, right: f64| (left - right).abs() < 1e-12;
        assert!(near(last.y, middle) && near(last.range.0, middle - 0.01) && near(last.range.1, middle + 0.01));
    }

    #[test]
    fn rounds_that_only_some_seeds_reached_are_left_out() {
        let runs = [samples::record("fedavg", 1, 5), samples::record("fedavg", 2, 3)];
        let plot = train_loss(&[("fedavg", &runs)], "");
        assert_eq!(samples_of(&plot.chart.series[0]).len(), 3);
    }

    #[test]
    fn rows_that_send_nothing_between_clients_are_levels() {
        let runs = |name| [samples::record(name, 1, 3)];
        let (local, centralised, fedavg) = (runs("local-only"), runs("centralised"), runs("fedavg"));
        let rows: [Row<'_>; 3] = [("local-only", &local), ("centralised", &centralised), ("fedavg", &fedavg)];
        let plot = by_bytes("a", &rows, (Score::Accuracy, &MEASURES[1]), "");
        let levels = plot.chart.series.iter().map(|series| matches!(series.form, Form::Level(_)));
        assert_eq!(levels.collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn labels_keep_what_tells_the_rows_of_a_sweep_apart() {
        assert_eq!(label("lora.r=2 learning-rate=0.1"), "r=2 learning-rate=0.1");
        assert_eq!(label("fedsa-lora"), "fedsa-lora");
    }
}
