use serde::Serialize;

use super::{
    RunRecord,
    format::{self, NOTHING, or_nothing},
    measure::{ABSENT, MEASURES, Measure, Score, UNTRAINED, global_untrained},
    spread::Spread,
    table::{Column, Table},
};
use crate::metrics::{Summary, SummaryTails, Tail};

/// Rows that every comparison of methods has: what federation must beat, what it cannot beat, and what everyone starts
/// with. Reports set them apart from the methods.
pub const REFERENCES: [&str; 3] = ["local-only", "centralised", "fedavg"];

/// Version of the layout of `comparison.json`.
const SCHEMA_VERSION: u32 = 1;

/// Longest name in a terminal, in characters; a group of columns still fits beside it.
const NAME: usize = 52;

/// State of a run that did all its rounds.
const COMPLETED: &str = "finished:completed";

/// Rows side by side, each over some seeds; `comparison.json`. Holds no clock readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of this layout.
    pub schema_version: u32,
    /// The reference rows, then the others in the order in which they came.
    pub rows: Vec<ComparisonRow>,
}

/// One row; every figure over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// The row's name.
    pub name: String,
    /// Whether it is one of [`REFERENCES`].
    pub reference: bool,
    /// Aggregation method.
    pub method: String,
    /// Seeds of its runs.
    pub seeds: Vec<u64>,
    /// Runs among them that ended before their last round.
    pub stopped: u64,
    /// Whether training never changed the global model, so that its figures are those before training.
    pub global_untrained: bool,
    /// The three accuracies.
    pub accuracy: RowTails,
    /// The three perplexities; absent for classifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<RowTails>,
    /// The three shares of answers that are right; absent unless language models were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<RowTails>,
    /// Last training loss.
    pub train_loss: Option<Spread>,
    /// Last aggregation residual.
    pub aggregation_residual: Option<Spread>,
    /// Rounds done.
    pub rounds: Option<Spread>,
    /// Bytes of adapter values that clients sent in a run.
    pub bytes_up: Option<Spread>,
    /// Bytes of adapter values that clients took in a run.
    pub bytes_down: Option<Spread>,
    /// Updates aggregated in a run.
    pub accepted: Option<Spread>,
    /// Updates refused as invalid in a run.
    pub rejected: Option<Spread>,
    /// Updates of a run that came after their round had closed.
    pub late: Option<Spread>,
    /// Selected clients of a run that never answered.
    pub dropped: Option<Spread>,
}

/// One figure of the three evaluations of a row, each absent where no run measured it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RowTails {
    /// The global model on the global test set.
    pub global: Option<RowTail>,
    /// Personal models on their own test splits.
    pub personal_own: Option<RowTail>,
    /// Personal models on the global test set.
    pub personal_global: Option<RowTail>,
}

impl RowTails {
    /// In the order of [`MEASURES`].
    pub(super) fn all(&self) -> [Option<&RowTail>; 3] {
        [self.global.as_ref(), self.personal_own.as_ref(), self.personal_global.as_ref()]
    }
}

/// The end of one figure over the seeds of a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RowTail {
    /// In the last evaluated round.
    pub last: Spread,
    /// Mean of the last `n` evaluated rounds.
    pub mean_of_last_n: Spread,
    /// How many rounds were averaged: the fewest of any run.
    pub n: u64,
    /// In each run's best round: a bound rather than a result.
    pub best_chosen_on_test_set: Spread,
}

impl Comparison {
    /// Compares rows of runs; rows without runs are left out.
    #[must_use]
    pub fn of(rows: &[(String, Vec<RunRecord>)]) -> Self {
        let rows = in_order(rows).into_iter().map(|(name, runs)| row(name, runs)).collect();
        Self { schema_version: SCHEMA_VERSION, rows }
    }

    /// For a terminal of 100 columns.
    #[must_use]
    pub fn table(&self) -> String {
        let names = self.rows.iter().map(|row| {
            let mark = if row.stopped > 0 { "*" } else { "" };
            format!("{}{mark}", format::shortened(&format::plain(&row.name), NAME))
        });
        let score = Score::of_rows(&self.rows);
        let mut columns = self.scores(score, "last round", |tail| tail.last);
        columns.extend(self.scores(score, &self.mean_title(), |tail| tail.mean_of_last_n));
        if self.has_answers() {
            columns.extend(self.scores(Score::ExactMatch, "last round", |tail| tail.last));
            columns.extend(self.scores(Score::ExactMatch, &self.mean_title(), |tail| tail.mean_of_last_n));
        }
        columns.extend(self.costs());
        let apart = self.rows.iter().filter(|row| row.reference).count();
        let table = Table { title: "row".to_owned(), names: names.collect(), apart, columns };
        let notes = self.notes();
        let space = if notes.is_empty() { "" } else { "\n" };
        format!("{}{space}{}", table.render(), notes.join("\n"))
    }

    /// What the marks in the tables mean, as far as they occur, and how many runs there are.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![self.seeds()];
        if self.rows.iter().any(|row| row.accuracy.all().contains(&None)) {
            notes.push(ABSENT.to_owned());
        }
        if self.rows.iter().any(|row| row.global_untrained) {
            notes.push(UNTRAINED.to_owned());
        }
        if self.rows.iter().any(|row| row.stopped > 0) {
            notes.push("*  includes runs that were stopped before their last round.".to_owned());
        }
        notes
    }

    /// Whether some row's models were asked for answers.
    pub(super) fn has_answers(&self) -> bool {
        self.rows.iter().any(|row| row.exact_match.is_some())
    }

    /// How many runs stand behind each figure.
    pub(super) fn seeds(&self) -> String {
        let counts: Vec<usize> = self.rows.iter().map(|row| row.seeds.len()).collect();
        let (fewest, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
        match (fewest, most) {
            (_, 0) => "No runs.".to_owned(),
            (1, 1) => "One run a row: no spread is known; use --seeds for more.".to_owned(),
            (2, 2) => "Two runs a row, which differ in their seed: mean (smallest..largest).".to_owned(),
            (fewest, most) if fewest == most => {
                format!("{most} runs a row, which differ in their seed: mean ± sample standard deviation.")
            }
            _ => format!(
                "{fewest} to {most} runs a row: mean ± sample standard deviation, or (smallest..largest) of two runs."
            ),
        }
    }

    /// `mean of last 5`; a range where rows differ.
    pub(super) fn mean_title(&self) -> String {
        let lengths = || self.rows.iter().flat_map(|row| row.accuracy.all()).flatten().map(|tail| tail.n);
        let (fewest, most) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
        if fewest == most { format!("mean of last {most}") } else { format!("mean of last {fewest} to {most}") }
    }

    fn scores(&self, score: Score, when: &str, figure: fn(&RowTail) -> Spread) -> Vec<Column> {
        let group = &format!("{}, {when}", score.name());
        let column = |(index, measure): (usize, &Measure)| {
            let cell = |row: &ComparisonRow| row.score_cell(score, index, figure);
            Column::new(group, measure.head, self.rows.iter().map(cell).collect())
        };
        MEASURES.iter().enumerate().map(column).collect()
    }

    fn costs(&self) -> Vec<Column> {
        let column = |group, head, cell: fn(&ComparisonRow) -> String| {
            Column::new(group, head, self.rows.iter().map(cell).collect())
        };
        vec![
            column("last round", ["train", "loss"], |row| show(row.train_loss, format::fixed)),
            column("last round", ["aggregation", "residual"], |row| {
                mean(row.aggregation_residual, format::significant)
            }),
            column("adapter bytes", ["", "up"], |row| mean(row.bytes_up, format::bytes)),
            column("adapter bytes", ["", "down"], |row| mean(row.bytes_down, format::bytes)),
            column("updates", ["", "used"], |row| mean(row.accepted, format::count)),
            column("updates", ["", "refused"], |row| mean(row.rejected, format::count)),
            column("updates", ["", "late"], |row| mean(row.late, format::count)),
            column("updates", ["", "lost"], |row| mean(row.dropped, format::count)),
        ]
    }
}

impl ComparisonRow {
    /// One figure of one of the [`MEASURES`] for people, marked where it is not what it seems.
    pub(super) fn score_cell(&self, score: Score, measure: usize, figure: fn(&RowTail) -> Spread) -> String {
        let Some(tail) = score.row(self).and_then(|tails| tails.all()[measure]) else { return NOTHING.to_owned() };
        let mark = if measure == 0 && self.global_untrained { "†" } else { "" };
        format!("{mark}{}", figure(tail).show(|value| score.show(value)))
    }
}

/// A figure and its spread.
pub(super) fn show(spread: Option<Spread>, number: fn(f64) -> String) -> String {
    or_nothing(spread.map(|spread| spread.show(number)))
}

/// A figure whose spread is of no interest.
pub(super) fn mean(spread: Option<Spread>, number: fn(f64) -> String) -> String {
    or_nothing(spread.map(|spread| number(spread.mean)))
}

/// The reference rows in their order, then the others in theirs.
pub(super) fn in_order(rows: &[(String, Vec<RunRecord>)]) -> Vec<(&str, &[RunRecord])> {
    let place = |name: &str| REFERENCES.iter().position(|reference| *reference == name).unwrap_or(REFERENCES.len());
    let filled = rows.iter().filter(|(_, runs)| !runs.is_empty());
    let mut rows: Vec<(&str, &[RunRecord])> = filled.map(|(name, runs)| (name.as_str(), runs.as_slice())).collect();
    rows.sort_by_key(|(name, _)| place(name));
    rows
}

fn row(name: &str, runs: &[RunRecord]) -> ComparisonRow {
    let summaries = || runs.iter().map(|run| &run.summary);
    let spread = |value: fn(&Summary) -> Option<f64>| Spread::of(&summaries().filter_map(value).collect::<Vec<_>>());
    let accuracy = row_tails(runs, |summary| Some(&summary.accuracy)).unwrap_or_default();
    ComparisonRow {
        name: name.to_owned(),
        reference: REFERENCES.contains(&name),
        method: runs.first().map(|run| run.summary.method.clone()).unwrap_or_default(),
        seeds: summaries().map(|summary| summary.seed).collect(),
        stopped: summaries().filter(|summary| summary.status != COMPLETED).count() as u64,
        global_untrained: accuracy.global.is_some() && runs.iter().all(global_untrained),
        accuracy,
        perplexity: row_tails(runs, |summary| summary.perplexity.as_ref()),
        exact_match: row_tails(runs, |summary| summary.exact_match.as_ref()),
        train_loss: spread(|summary| summary.train_loss),
        aggregation_residual: spread(|summary| summary.aggregation_residual),
        rounds: spread(|summary| Some(summary.rounds as f64)),
        bytes_up: spread(|summary| Some(summary.bytes_up as f64)),
        bytes_down: spread(|summary| Some(summary.bytes_down as f64)),
        accepted: spread(|summary| Some(summary.accepted as f64)),
        rejected: spread(|summary| Some(summary.rejected as f64)),
        late: spread(|summary| Some(summary.late as f64)),
        dropped: spread(|summary| Some(summary.dropped as f64)),
    }
}

/// One figure of the three evaluations over some runs; none where no run has it.
fn row_tails(runs: &[RunRecord], figure: fn(&Summary) -> Option<&SummaryTails>) -> Option<RowTails> {
    let summaries = || runs.iter().filter_map(|run| figure(&run.summary));
    summaries().next()?;
    let [global, personal_own, personal_global] = MEASURES.each_ref().map(|measure| {
        let tails: Vec<&Tail> = summaries().filter_map(measure.tail).collect();
        let spread = |value: fn(&Tail) -> f64| Spread::of(&tails.iter().map(|tail| value(tail)).collect::<Vec<_>>());
        Some(RowTail {
            last: spread(|tail| tail.last)?,
            mean_of_last_n: spread(|tail| tail.mean_of_last_n)?,
            n: tails.iter().map(|tail| tail.n).min()?,
            best_chosen_on_test_set: spread(|tail| tail.best)?,
        })
    });
    Some(RowTails { global, personal_own, personal_global })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn rows(names: &[&str], seeds: u64) -> Vec<(String, Vec<RunRecord>)> {
        let runs = |name: &str| (1..=seeds).map(|seed| samples::record(name, seed, 6)).collect();
        names.iter().map(|name| ((*name).to_owned(), runs(name))).collect()
    }

    #[test]
    fn reference_rows_come_first_whatever_the_order() {
        let comparison = Comparison::of(&rows(&["lora-fair", "fedavg", "fedsa-lora", "local-only"], 1));
        let names: Vec<(&str, bool)> = comparison.rows.iter().map(|row| (row.name.as_str(), row.reference)).collect();
        assert_eq!(names, [("local-only", true), ("fedavg", true), ("lora-fair", false), ("fedsa-lora", false)]);
    }

    #[test]
    fn a_missing_evaluation_is_a_dash_with_a_note_and_null_in_json() {
        let comparison = Comparison::of(&rows(&["fedavg", "fedsa-lora"], 3));
        let line = comparison.table().lines().find(|line| line.starts_with("fedsa-lora")).map(str::to_owned);
        assert_eq!(line.expect("the row").split_whitespace().nth(1), Some("-"));
        assert!(comparison.table().contains(ABSENT));
        let json = serde_json::to_value(&comparison).expect("finite");
        assert!(json["rows"][1]["accuracy"]["global"].is_null());
        assert!(!Comparison::of(&rows(&["fedavg"], 1)).table().contains(ABSENT));
    }

    #[test]
    fn a_global_model_that_training_never_changed_is_marked() {
        let comparison = Comparison::of(&rows(&["local-only", "fedavg"], 1));
        assert_eq!(comparison.rows.iter().map(|row| row.global_untrained).collect::<Vec<_>>(), [true, false]);
        assert!(comparison.table().contains("†0.100") && comparison.table().contains(UNTRAINED));
    }

    #[test]
    fn stopped_runs_are_marked() {
        let mut rows = rows(&["fedavg"], 2);
        rows[0].1[1].summary.status = "finished:stopped".to_owned();
        let table = Comparison::of(&rows).table();
        assert!(table.contains("fedavg*") && table.contains("stopped before their last round"), "{table}");
    }

    #[test]
    fn the_table_fits_a_terminal_for_any_number_of_seeds() {
        for seeds in 1..=3 {
            let table = Comparison::of(&rows(&["local-only", "centralised", "fedavg", "fedsa-lora"], seeds)).table();
            assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        }
    }

    #[test]
    fn one_seed_makes_this_table() {
        let table = Comparison::of(&rows(&["local-only", "fedavg", "fedsa-lora"], 1)).table();
        assert_eq!(table, include_str!("samples/comparison.txt").trim_end());
    }

    #[test]
    fn no_rows_make_no_table_and_no_panic() {
        assert_eq!(Comparison::of(&[]).table().lines().last(), Some("No runs."));
    }
}
