//! One page that needs nothing else: style and pictures are inside, there is no script and no address.

mod page;

use super::{
    RunRecord,
    comparison::{Comparison, ComparisonRow, RowTail, mean, show},
    facts,
    format::{self, count, fixed, or_nothing, push, significant},
    measure::{BEST_IS_CHOSEN, MEASURES, Score},
    plots::Figure,
    run_notes, scores,
    spread::Spread,
};
use crate::metrics::{PhaseSeconds, RoundMetrics};
use page::{Page, Row};

/// More clients than this make a page that nobody reads and browsers dislike; `clients.csv` has them all.
const CLIENTS: usize = 200;

/// The page of one run.
pub(super) fn run_page(record: &RunRecord, config_toml: &str, figures: &[Figure]) -> String {
    let summary = &record.summary;
    let mut page = Page::new(&summary.name);
    page.paragraph(
        "facts",
        &format!("Method {}, seed {}, {} rounds, {}.", summary.method, summary.seed, summary.rounds, summary.status),
    );
    let score = Score::of_summary(summary);
    page.paragraph("", &score.how_to_read(summary.exact_match.is_some()));

    page.section(score.title());
    let table = scores(record);
    let heads: Vec<String> = table.columns.iter().map(|column| column.head.join(" ")).collect();
    let rows = (0..table.names.len()).map(|row| {
        let cells = table.columns.iter().map(|column| column.cells[row].clone());
        Row { name: table.names[row].clone(), cells: cells.collect(), apart: false }
    });
    page.table("evaluation", &[], &heads, rows);
    page.notes(&run_notes(record));

    page.section("Training and communication");
    let rows =
        facts(summary).into_iter().map(|(name, value)| Row { name: name.to_owned(), cells: vec![value], apart: false });
    let digest = Row {
        name: "digest of the final adapter".to_owned(),
        cells: vec![summary.adapter_digest.clone()],
        apart: false,
    };
    page.table("", &[], &[], rows.chain([digest]));

    page.figures(figures);
    clients(&mut page, &record.rounds);
    page.section("Configuration");
    page.folded("Every setting, defaults written out", config_toml);
    page.section("Clock readings");
    let rows = vec![seconds_row("whole run", &[record])];
    seconds(&mut page, rows);
    page.finish()
}

/// The page of a comparison; `rows` in the order of the comparison's.
pub(super) fn comparison_page(comparison: &Comparison, rows: &[(&str, &[RunRecord])], figures: &[Figure]) -> String {
    let mut page = Page::new("Comparison");
    page.paragraph("facts", &comparison.seeds());
    let score = Score::of_rows(&comparison.rows);
    page.paragraph("", &score.how_to_read(comparison.has_answers()));

    figures_of_rows(&mut page, comparison, score);
    let mut notes = vec![BEST_IS_CHOSEN.to_owned()];
    notes.extend(comparison.notes().into_iter().skip(1));
    page.notes(&notes);
    if comparison.has_answers() {
        figures_of_rows(&mut page, comparison, Score::ExactMatch);
    }

    page.section("Training and communication");
    costs(&mut page, comparison);
    page.figures(figures);

    page.section("Clock readings");
    seconds(&mut page, rows.iter().map(|(name, runs)| seconds_row(name, &runs.iter().collect::<Vec<_>>())).collect());
    page.finish()
}

/// One figure of all rows, with its three evaluations at three times.
fn figures_of_rows(page: &mut Page, comparison: &Comparison, score: Score) {
    page.section(score.title());
    let (mean_title, measures) = (comparison.mean_title(), MEASURES.len());
    let groups =
        ["last round", &mean_title, "best round (chosen on the test set)"].map(|group| (group.to_owned(), measures));
    let heads: Vec<String> = (0..groups.len()).flat_map(|_| MEASURES.map(|measure| measure.head.join(" "))).collect();
    let figures_of: [fn(&RowTail) -> Spread; 3] =
        [|tail| tail.last, |tail| tail.mean_of_last_n, |tail| tail.best_chosen_on_test_set];
    let cells = |row: &ComparisonRow| {
        figures_of
            .iter()
            .flat_map(|figure| (0..measures).map(|measure| row.score_cell(score, measure, *figure)))
            .collect()
    };
    page.table("row", &groups, &heads, named(comparison, cells));
}

fn named<'a>(
    comparison: &'a Comparison,
    cells: impl Fn(&ComparisonRow) -> Vec<String> + 'a,
) -> impl Iterator<Item = Row> + 'a {
    let last = comparison.rows.iter().rposition(|row| row.reference);
    comparison.rows.iter().enumerate().map(move |(index, row)| {
        let mark = if row.stopped > 0 { "*" } else { "" };
        Row { name: format!("{}{mark}", row.name), cells: cells(row), apart: Some(index) == last }
    })
}

fn costs(page: &mut Page, comparison: &Comparison) {
    let groups = [("", 1), ("last round", 2), ("adapter bytes of a run", 2), ("updates of a run", 4)]
        .map(|(title, columns)| (title.to_owned(), columns));
    let heads =
        ["method", "train loss", "aggregation residual", "up", "down", "used", "refused", "late", "lost (no answer)"];
    let cells = |row: &ComparisonRow| {
        vec![
            row.method.clone(),
            show(row.train_loss, fixed),
            show(row.aggregation_residual, significant),
            mean(row.bytes_up, format::bytes),
            mean(row.bytes_down, format::bytes),
            mean(row.accepted, count),
            mean(row.rejected, count),
            mean(row.late, count),
            mean(row.dropped, count),
        ]
    };
    page.table("row", &groups, &heads.map(str::to_owned), named(comparison, cells));
    page.notes(&[
        "Bytes and updates are means over the runs of a row. The aggregation residual is how far the server's \
                  product of averaged factors is from the average of the clients' products, relative to the latter; \
                  it exists where both factors are averaged.",
    ]);
}

fn clients(page: &mut Page, rounds: &[RoundMetrics]) {
    let Some(last) = rounds.iter().rev().find(|metrics| !metrics.clients.is_empty()) else { return };
    page.section(&format!("Clients of round {}", last.round));
    let all = last.clients.len();
    if all > CLIENTS {
        page.paragraph("", &format!("The first {CLIENTS} of {all}; clients.csv has all of every round."));
    }
    let rows = last.clients.iter().take(CLIENTS).map(|client| {
        let cells =
            [client.num_examples.to_string(), client.steps.to_string(), or_nothing(client.train_loss.map(fixed))];
        Row { name: client.client.to_string(), cells: cells.to_vec(), apart: false }
    });
    page.table("client", &[], &["examples", "steps", "mean training loss"].map(str::to_owned), rows);
}

/// The phases of a run, with mean seconds over runs.
fn seconds_row(name: &str, runs: &[&RunRecord]) -> Row {
    let mut total = PhaseSeconds::default();
    let mut whole = 0.0;
    for metrics in runs.iter().flat_map(|run| &run.rounds) {
        total.train += metrics.seconds.train;
        total.aggregate += metrics.seconds.aggregate;
        total.evaluate += metrics.seconds.evaluate;
        total.save += metrics.seconds.save;
        whole += metrics.duration_s;
    }
    let phases = [total.train, total.aggregate, total.evaluate, total.save, whole];
    let cells = phases.map(|seconds| significant(seconds / runs.len().max(1) as f64)).to_vec();
    Row { name: name.to_owned(), cells, apart: false }
}

fn seconds(page: &mut Page, rows: Vec<Row>) {
    let heads = ["training", "server step", "evaluation", "saving", "all rounds"];
    page.table("seconds of a run", &[], &heads.map(str::to_owned), rows.into_iter());
    page.notes(&[
        "Wall-clock seconds on the machine that ran this. They differ from run to run; all else here does not.",
    ]);
}
