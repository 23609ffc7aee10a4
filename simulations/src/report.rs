//! What a person sees of finished runs: a table in the terminal, CSV files, plots and one self-contained HTML page.
//!
//! Everything is made from the records alone and in fixed order, so that equal records give equal bytes. Clock readings
//! appear in `rounds.csv` and, labelled as such, in the page, and nowhere else. The three evaluations are kept apart
//! everywhere: `global`, `personal_own` and `personal_global` (see [`Evaluations`](crate::metrics::Evaluations)).

mod comparison;
mod csv;
mod error;
mod format;
mod html;
mod measure;
mod plots;
#[cfg(test)]
mod samples;
mod spread;
mod table;

use std::{fs, path::Path};

use fedlora_learner::Evaluation;
use fedlora_privacy::Epsilon;
use serde::de::Error as _;

use crate::{
    files::write_atomically,
    metrics::{RoundMetrics, Summary, Tail},
    privacy::SummaryPrivacy,
    record,
};
use format::{NOTHING, fixed, or_nothing, plain, push, significant};
use measure::{ABSENT, BEST_IS_CHOSEN, MEASURES, Measure, Score, UNTRAINED, global_untrained};
use table::{Column, Table};

pub use comparison::{Comparison, ComparisonRow, REFERENCES, RowTail, RowTails};
pub use error::ReportError;
pub use spread::Spread;

/// Version of the summary's layout that this module reads.
const SUMMARY_VERSION: u32 = 1;

/// What a run left: its rounds and its summary.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// One record a round, from round 0 where that was evaluated.
    pub rounds: Vec<RoundMetrics>,
    /// The whole run.
    pub summary: Summary,
}

/// Reads a finished run from its directory.
///
/// # Errors
/// A missing or damaged summary, one of another version, damaged round records.
pub fn load_run(directory: &Path) -> Result<RunRecord, ReportError> {
    let path = directory.join("metrics_summary.json");
    let text = fs::read_to_string(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
    let damaged = |source| ReportError::Summary { path: path.clone(), source };
    let summary: Summary = serde_json::from_str(&text).map_err(damaged)?;
    if summary.schema_version != SUMMARY_VERSION {
        let found = summary.schema_version;
        return Err(damaged(serde_json::Error::custom(format!("version {found}, expected {SUMMARY_VERSION}"))));
    }
    Ok(RunRecord { rounds: record::read_rounds(&directory.join("round_metrics.jsonl"))?, summary })
}

/// Writes the report of one run into its directory: `rounds.csv`, `clients.csv`, `plots/` and `report.html`.
///
/// # Errors
/// A file that cannot be written, a picture that cannot be encoded.
pub fn write_run_report(directory: &Path, record: &RunRecord, config_toml: &str) -> Result<(), ReportError> {
    write_atomically(&directory.join("rounds.csv"), csv::rounds(&record.rounds).as_bytes())?;
    write_atomically(&directory.join("clients.csv"), csv::clients(&record.rounds).as_bytes())?;
    let figures = plots::write(directory, plots::of_run(&record.rounds))?;
    let page = html::run_page(record, config_toml, &figures);
    Ok(write_atomically(&directory.join("report.html"), page.as_bytes())?)
}

/// Compares rows of runs and writes `comparison.json`, `comparison.csv`, `plots/` and `report.html` into a directory.
///
/// The [`REFERENCES`] among the rows come first; rows without runs are left out.
///
/// # Errors
/// A file that cannot be written, a picture that cannot be encoded.
pub fn write_comparison(directory: &Path, rows: &[(String, Vec<RunRecord>)]) -> Result<Comparison, ReportError> {
    let comparison = Comparison::of(rows);
    let json = serde_json::to_vec_pretty(&comparison).map_err(ReportError::Json)?;
    write_atomically(&directory.join("comparison.json"), &json)?;
    write_atomically(&directory.join("comparison.csv"), csv::comparison(&comparison).as_bytes())?;
    let ordered = comparison::in_order(rows);
    let figures = plots::write(directory, plots::of_comparison(&ordered))?;
    let page = html::comparison_page(&comparison, &ordered, &figures);
    write_atomically(&directory.join("report.html"), page.as_bytes())?;
    Ok(comparison)
}

/// The result of a run for a terminal of 100 columns.
#[must_use]
pub fn run_table(record: &RunRecord) -> String {
    let summary = &record.summary;
    let (name, method, status) = (plain(&summary.name), plain(&summary.method), plain(&summary.status));
    let heading = format!("{name}: {method}, seed {}, {} rounds, {status}", summary.seed, summary.rounds);
    let mut text = format!("{heading}\n\n{}\n", scores(record).render());
    for note in run_notes(record) {
        push(&mut text, format_args!("{note}\n"));
    }
    text.push('\n');
    for (name, value) in facts(summary) {
        push(&mut text, format_args!("{name:<25}  {value}\n"));
    }
    text
}

/// The three evaluations of a run, one a row.
fn scores(record: &RunRecord) -> Table {
    let summary = &record.summary;
    let score = Score::of_summary(summary);
    let tails = score.tails(summary);
    let lasts = MEASURES.map(|measure| (measure.of)(&summary.evaluations));
    let mark = if global_untrained(record) { "†" } else { "" };
    let marked = |measure: &Measure| measure.key == MEASURES[0].key && tails[0].is_some();
    let title = |measure: &Measure| format!("{}{}", measure.title, if marked(measure) { mark } else { "" });
    let n = tails.iter().flatten().map(|tail| tail.n).max().unwrap_or(0).to_string();
    let tail = |cell: &dyn Fn(&Tail) -> String| tails.map(|tail| or_nothing(tail.map(cell))).to_vec();
    let last = |value: fn(&Evaluation) -> Option<f64>| {
        lasts.map(|found| or_nothing(found.and_then(value).map(fixed))).to_vec()
    };
    let second = match score {
        Score::Accuracy => Column::new("", ["last", "macro F1"], last(|found| found.macro_f1)),
        Score::Perplexity | Score::ExactMatch => {
            Column::new("", ["last", "accuracy"], last(|found| Some(found.accuracy)))
        }
    };
    let best = |tail: &Tail| format!("{} ({})", score.show(tail.best), tail.best_round);
    let mut columns = vec![
        Column::new("", ["last", "round"], tail(&|tail| score.show(tail.last))),
        Column::new("", ["mean of", &format!("last {n}")], tail(&|tail| score.show(tail.mean_of_last_n))),
        Column::new("", ["best", "(round)"], tail(&best)),
        second,
        Column::new("", ["last", "loss"], last(|found| Some(found.loss))),
    ];
    if summary.exact_match.is_some() {
        columns.push(Column::new("", ["last exact", "match"], last(|found| found.exact_match)));
    }
    let names: Vec<String> = MEASURES.iter().map(title).collect();
    Table { title: score.name().to_owned(), apart: names.len(), names, columns }
}

/// What the marks in [`scores`] mean, as far as they occur.
fn run_notes(record: &RunRecord) -> Vec<&'static str> {
    let tails = Score::of_summary(&record.summary).tails(&record.summary);
    let mut notes = Vec::new();
    if tails.iter().any(Option::is_some) {
        notes.push(BEST_IS_CHOSEN);
    }
    if tails.iter().any(Option::is_none) {
        notes.push(ABSENT);
    }
    if global_untrained(record) {
        notes.push(UNTRAINED);
    }
    notes
}

/// Draws `epsilon` at `delta` after each of some rounds.
///
/// # Errors
/// A file that cannot be written.
pub fn write_epsilon(directory: &Path, epsilons: &[(u64, Epsilon)], delta: f64) -> Result<(), ReportError> {
    plots::write(directory, vec![plots::epsilon_by_round(epsilons, delta, "example")]).map(|_| ())
}

/// The other figures of a run, by name.
fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let bytes = |bytes: u64| format::bytes(bytes as f64);
    let (used, refused, late, lost) = (summary.accepted, summary.rejected, summary.late, summary.dropped);
    let mut facts = vec![
        ("last training loss", summary.train_loss.map_or_else(|| NOTHING.to_owned(), fixed)),
        ("last aggregation residual", or_nothing(summary.aggregation_residual.map(significant))),
        ("adapter bytes", format!("{} up, {} down", bytes(summary.bytes_up), bytes(summary.bytes_down))),
        ("updates", format!("{used} used, {refused} refused, {late} late, {lost} lost (no answer)")),
    ];
    facts.extend(summary.privacy.as_ref().map(|privacy| ("privacy spent", spent(privacy))));
    facts
}

/// A guarantee in one line, with what it is worth.
fn spent(privacy: &SummaryPrivacy) -> String {
    let SummaryPrivacy { epsilon, delta, unit, randomness, people_overlap, .. } = privacy;
    let whose = match (unit.as_str(), people_overlap) {
        ("client", _) => "",
        (_, true) => ", over all clients",
        (_, false) => " of the client that spent most",
    };
    format!(
        "epsilon {:.3} (by Rényi divergences {:.3}) at delta {delta:e} for each {unit}{whose}; {randomness} noise",
        epsilon.pld, epsilon.rdp
    )
}

#[cfg(test)]
mod tests;
