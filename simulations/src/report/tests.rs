use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).expect("written")
}

#[test]
fn a_finished_run_makes_this_table() {
    assert_eq!(run_table(&samples::record("fedavg", 1, 6)), include_str!("samples/run.txt"));
}

#[test]
fn the_table_of_a_run_says_what_was_not_measured_and_fits_a_terminal() {
    let table = run_table(&samples::record("fedsa-lora", 1, 6));
    let global = table.lines().find(|line| line.starts_with(MEASURES[0].title)).expect("the row");
    assert!(global.trim_start_matches(MEASURES[0].title).split_whitespace().all(|cell| cell == NOTHING), "{global}");
    assert!(table.contains(ABSENT));
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn reports_of_language_models_speak_of_perplexity_and_never_of_f1() {
    let place = directory();
    let record = samples::language("fedavg", 1, 6);
    let table = run_table(&record);
    assert!(table.contains("perplexity") && !table.contains("F1"), "{table}");
    write_run_report(place.path(), &record, "").expect("writable");
    let page = read(place.path(), "report.html");
    assert!(page.contains("<h2>Perplexity</h2>") && page.contains("the smaller, the better"));
    assert!(place.path().join("plots/perplexity.png").exists() && !place.path().join("plots/accuracy.png").exists());
    let csv = read(place.path(), "rounds.csv");
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        lines[0][1..7],
        ["accuracy", "macro_f1", "loss", "perplexity", "exact_match", "examples"].map(|name| format!("global_{name}"))
    );
    assert!(lines[1][2].is_empty() && lines[1][4].parse::<f64>().is_ok());

    let other = directory();
    let comparison = write_comparison(other.path(), &[("fedavg".to_owned(), vec![record.clone()])]).expect("writable");
    assert!(comparison.table().contains("perplexity, last round"));
    assert!(other.path().join("plots/perplexity_global.svg").exists());
    let json = read(other.path(), "comparison.json");
    assert!(json.contains("perplexity"));
    // Beside a classifier, what both have is shown.
    let rows = [("fedavg".to_owned(), vec![record]), ("ffa-lora".to_owned(), vec![samples::record("ffa-lora", 1, 6)])];
    assert!(Comparison::of(&rows).table().contains("accuracy, last round"));
}

#[test]
fn answers_have_a_column_a_plot_and_a_table_of_their_own_where_models_were_asked() {
    let (place, other) = (directory(), directory());
    let (record, unasked) = (samples::asked("fedavg", 1, 6), samples::language("ffa-lora", 1, 6));
    let table = run_table(&record);
    assert!(table.contains("last exact") && table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(!run_table(&unasked).contains("exact"));
    write_run_report(place.path(), &record, "").expect("writable");
    let csv = read(place.path(), "rounds.csv");
    let column = csv.lines().next().expect("heads").split(',').position(|name| name == "personal_own_exact_match");
    let last = csv.lines().last().expect("rounds").split(',').nth(column.expect("the column")).map(str::parse::<f64>);
    assert_eq!(last.map(Result::ok), Some(record.rounds[6].evaluations.personal_own.and_then(|own| own.exact_match)));
    for name in ["exact_match", "exact_match_by_bytes", "perplexity"] {
        assert!(place.path().join(format!("plots/{name}.svg")).exists(), "{name}");
    }
    assert!(read(place.path(), "report.html").contains("the model itself wrote the right answer"));
    let rows = [("fedavg".to_owned(), vec![record]), ("ffa-lora".to_owned(), vec![unasked])];
    let comparison = write_comparison(other.path(), &rows).expect("writable");
    let table = comparison.table();
    assert!(
        table.contains("exact match, last round") && table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
    assert!(read(other.path(), "report.html").contains("<h2>Exact match</h2>"));
    assert!(other.path().join("plots/exact_match_global.svg").exists());
    let csv = read(other.path(), "comparison.csv");
    assert!(csv.contains("global_exact_match_last,") && csv.lines().count() == 3, "{csv}");
    let widths: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
}

#[test]
fn names_cannot_steer_the_terminal() {
    let mut record = samples::record("fedavg", 1, 2);
    record.summary.name = "red \u{1b}[31m\rname".to_owned();
    assert!(!run_table(&record).contains(['\u{1b}', '\r']));
    assert!(!Comparison::of(&[("\u{1b}[2J".to_owned(), vec![record])]).table().contains('\u{1b}'));
}

#[test]
fn markup_in_names_and_configuration_stays_text_in_pages_and_pictures() {
    let evil = "<script>alert(\"x\")</script>";
    let mut record = samples::record("fedavg", 1, 3);
    record.summary.name = evil.to_owned();
    record.summary.method = evil.to_owned();
    let place = directory();
    write_run_report(place.path(), &record, &format!("name = '{evil}'\n")).expect("writable");
    let run = read(place.path(), "report.html");
    write_comparison(place.path(), &[(evil.to_owned(), vec![record])]).expect("writable");
    let comparison = read(place.path(), "report.html");
    let picture = read(place.path(), "plots/accuracy_personal_own.svg");
    for text in [run, comparison, picture] {
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;"), "{text}");
    }
}

#[test]
fn equal_records_give_equal_files_whatever_the_clock_said() {
    let (first, second) = (directory(), directory());
    let record = samples::record("fedavg", 1, 4);
    let mut later = record.clone();
    later.rounds.iter_mut().for_each(|metrics| metrics.duration_s *= 2.0);
    write_run_report(first.path(), &record, "seed = 1\n").expect("writable");
    write_run_report(second.path(), &later, "seed = 1\n").expect("writable");
    for name in ["clients.csv", "plots/accuracy.png", "plots/clients.png", "plots/train_loss.svg"] {
        let bytes = |place: &tempfile::TempDir| fs::read(place.path().join(name)).expect("written");
        assert_eq!(bytes(&first), bytes(&second), "{name}");
    }
    assert_ne!(read(first.path(), "rounds.csv"), read(second.path(), "rounds.csv"), "durations belong there");
}

#[test]
fn a_comparison_holds_no_clock_readings() {
    let (first, second) = (directory(), directory());
    let mut rows = vec![("fedavg".to_owned(), vec![samples::record("fedavg", 1, 4)])];
    write_comparison(first.path(), &rows).expect("writable");
    rows[0].1[0].rounds.iter_mut().for_each(|metrics| metrics.seconds.train *= 3.0);
    write_comparison(second.path(), &rows).expect("writable");
    for name in ["comparison.json", "comparison.csv"] {
        assert_eq!(read(first.path(), name), read(second.path(), name), "{name}");
    }
}

#[test]
fn what_was_written_is_read_back() {
    let place = directory();
    let record = samples::record("fedavg", 7, 3);
    let line = |metrics: &RoundMetrics| serde_json::to_string(metrics).expect("finite") + "\n";
    let lines: String = record.rounds.iter().map(line).collect();
    write_atomically(&place.path().join("round_metrics.jsonl"), lines.as_bytes()).expect("writable");
    let path = place.path().join("metrics_summary.json");
    write_atomically(&path, &serde_json::to_vec(&record.summary).expect("finite")).expect("writable");
    assert_eq!(load_run(place.path()).expect("readable"), record);

    let other = Summary { schema_version: 99, ..record.summary };
    write_atomically(&path, &serde_json::to_vec(&other).expect("finite")).expect("writable");
    let error = load_run(place.path()).expect_err("another version");
    assert!(matches!(error, ReportError::Summary { .. }), "{error}");
    assert!(matches!(load_run(&place.path().join("none")), Err(ReportError::Read { .. })));
}

#[test]
fn a_large_run_makes_a_page_of_bounded_size() {
    let mut record = samples::record("fedavg", 1, 300);
    let client = record.rounds[1].clients[0].clone();
    for metrics in record.rounds.iter_mut().skip(1) {
        metrics.clients = vec![client.clone(); 1000];
    }
    let page = html::run_page(&record, "", &[]);
    assert!(page.contains("200 of 1000"), "the table of clients says what it leaves out");
    // 200 clients at about 100 bytes, and 12 KB of style and words.
    assert!(page.len() < 60_000, "{}", page.len());
}

#[test]
fn an_empty_run_makes_a_report_without_plots() {
    let place = directory();
    let mut record = samples::record("fedavg", 1, 1);
    record.rounds.clear();
    record.summary.accuracy = crate::metrics::SummaryTails::default();
    record.summary.evaluations = crate::metrics::Evaluations::default();
    write_run_report(place.path(), &record, "").expect("writable");
    assert!(!place.path().join("plots").exists());
    assert!(run_table(&record).contains(ABSENT));
}
