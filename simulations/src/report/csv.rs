//! Tables for other programs, as RFC 4180 has them except that lines end in a line feed.

use super::{
    comparison::Comparison,
    format::push,
    measure::{MEASURES, Score},
    spread::Spread,
};
use crate::metrics::RoundMetrics;

/// One line a round. The last five columns are clock readings and differ between equal runs.
pub(super) fn rounds(rounds: &[RoundMetrics]) -> String {
    let mut text = String::from("round");
    for measure in &MEASURES {
        let key = measure.key;
        push(&mut text, format_args!(",{key}_accuracy,{key}_macro_f1,{key}_loss,{key}_perplexity"));
        push(&mut text, format_args!(",{key}_exact_match,{key}_examples"));
    }
    text += ",train_loss,aggregation_residual,update_norm,bytes_up,bytes_down,accepted,rejected,late,dropped,\
             delta,epsilon_pld,epsilon_rdp,duration_s,train_s,aggregate_s,evaluate_s,save_s\n";
    for metrics in rounds {
        round(&mut text, metrics);
    }
    text
}

fn round(text: &mut String, metrics: &RoundMetrics) {
    push(text, format_args!("{}", metrics.round));
    for measure in &MEASURES {
        match (measure.of)(&metrics.evaluations) {
            Some(found) => {
                let (macro_f1, perplexity) = (optional(found.macro_f1), optional(found.perplexity));
                push(text, format_args!(",{},{macro_f1},{},{perplexity}", found.accuracy, found.loss));
                push(text, format_args!(",{},{}", optional(found.exact_match), found.examples));
            }
            None => text.push_str(",,,,,,"),
        }
    }
    push(text, format_args!(",{},{}", optional(metrics.train_loss), optional(metrics.aggregation_residual)));
    push(text, format_args!(",{},{},{}", metrics.update_norm, metrics.bytes_up, metrics.bytes_down));
    push(text, format_args!(",{},{}", metrics.accepted, metrics.rejected));
    push(text, format_args!(",{},{}", metrics.late, metrics.dropped));
    let privacy = metrics.privacy.as_ref();
    for value in [
        privacy.map(|privacy| privacy.delta),
        privacy.map(|privacy| privacy.epsilon.pld),
        privacy.map(|privacy| privacy.epsilon.rdp),
    ] {
        push(text, format_args!(",{}", optional(value)));
    }
    let seconds = &metrics.seconds;
    push(text, format_args!(",{},{},{}", metrics.duration_s, seconds.train, seconds.aggregate));
    push(text, format_args!(",{},{}\n", seconds.evaluate, seconds.save));
}

/// One line for each accepted client of each round.
pub(super) fn clients(rounds: &[RoundMetrics]) -> String {
    let lines: usize = rounds.iter().map(|metrics| metrics.clients.len()).sum();
    // A line has about 40 characters; a large run has a million of them.
    let mut text = String::with_capacity(40 * (lines + 1));
    text.push_str("round,client,num-examples,steps,train_loss\n");
    for metrics in rounds {
        for client in &metrics.clients {
            let (number, examples, steps) = (client.client, client.num_examples, client.steps);
            let loss = optional(client.train_loss);
            push(&mut text, format_args!("{},{number},{examples},{steps},{loss}\n", metrics.round));
        }
    }
    text
}

/// Figures of a row beside its accuracies.
const COSTS: [&str; 9] = [
    "train_loss",
    "aggregation_residual",
    "rounds",
    "bytes_up",
    "bytes_down",
    "accepted",
    "rejected",
    "late",
    "dropped",
];

/// One line for each row of a comparison; no clock readings.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let mut text = String::from("row,reference,method,runs,seeds,stopped");
    let figures = ["last", "mean_of_last_n", "best_chosen_on_test_set"];
    for measure in &MEASURES {
        for score in Score::ALL {
            for figure in figures {
                heads(&mut text, &format!("{}_{}_{figure}", measure.key, score.key()));
            }
        }
        push(&mut text, format_args!(",{}_n", measure.key));
    }
    for name in COSTS {
        heads(&mut text, name);
    }
    text.push('\n');
    for row in &comparison.rows {
        let seeds: Vec<String> = row.seeds.iter().map(u64::to_string).collect();
        let (name, method, seeds) = (quoted(&row.name), quoted(&row.method), quoted(&seeds.join(" ")));
        push(&mut text, format_args!("{name},{},{method},{},{seeds},{}", row.reference, row.seeds.len(), row.stopped));
        for (index, accuracy) in row.accuracy.all().into_iter().enumerate() {
            for tail in Score::ALL.map(|score| score.row(row).and_then(|tails| tails.all()[index])) {
                cells(&mut text, tail.map(|found| found.last));
                cells(&mut text, tail.map(|found| found.mean_of_last_n));
                cells(&mut text, tail.map(|found| found.best_chosen_on_test_set));
            }
            push(&mut text, format_args!(",{}", accuracy.map(|found| found.n.to_string()).unwrap_or_default()));
        }
        let costs: [Option<Spread>; COSTS.len()] = [
            row.train_loss,
            row.aggregation_residual,
            row.rounds,
            row.bytes_up,
            row.bytes_down,
            row.accepted,
            row.rejected,
            row.late,
            row.dropped,
        ];
        for figure in costs {
            cells(&mut text, figure);
        }
        text.push('\n');
    }
    text
}

fn heads(text: &mut String, name: &str) {
    push(text, format_args!(",{name},{name}_standard_deviation,{name}_minimum,{name}_maximum"));
}

fn cells(text: &mut String, spread: Option<Spread>) {
    match spread {
        Some(Spread { mean, standard_deviation, minimum, maximum, .. }) => {
            push(text, format_args!(",{mean},{},{minimum},{maximum}", optional(standard_deviation)));
        }
        None => text.push_str(",,,,"),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A cell, quoted where it must be.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn columns(line: &str) -> usize {
        line.split(',').count()
    }

    #[test]
    fn cells_are_quoted_only_where_they_must_be() {
        assert_eq!(quoted("lora.r=2"), "lora.r=2");
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
    }

    #[test]
    fn every_line_of_the_rounds_has_all_columns_whether_measured_or_not() {
        let text = rounds(&samples::record("fedsa-lora", 1, 4).rounds);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 5);
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{text}");
        assert!(text.contains(",,,,"), "the sample has no global model: {text}");
    }

    #[test]
    fn every_line_of_a_comparison_has_all_columns() {
        let rows = ["fedavg", "fedsa-lora"].map(|name| (name.to_owned(), vec![samples::record(name, 1, 4)]));
        let text = comparison(&Comparison::of(&rows));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{text}");
        assert!(!text.contains("seconds") && !text.contains("duration"), "clock readings do not belong here");
    }

    #[test]
    fn clients_are_listed_by_round() {
        let text = clients(&samples::record("fedavg", 1, 2).rounds);
        assert!(text.starts_with("round,client,num-examples,steps,train_loss\n1,0,"), "{text}");
    }
}
