//! Several runs side by side, and reports over runs that are there.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::support::Place;

fn names(comparison: &Value) -> Vec<&str> {
    let rows = comparison["rows"].as_array().expect("rows");
    rows.iter().map(|row| row["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_comparison_has_the_three_reference_rows_and_its_files() {
    let place = Place::with_sentences();
    let answer = place.sim("compare job.toml --out study --methods fedsa-lora,fedavg --seeds 1,2 --format json");
    let answer = answer.succeeds().json();
    let written: Value = serde_json::from_str(&place.read("study/comparison.json")).expect("JSON");
    assert_eq!(answer["data"]["comparison"], written);
    assert_eq!(names(&written), ["local-only", "centralised", "fedavg", "fedsa-lora"]);
    for row in written["rows"].as_array().expect("rows") {
        assert_eq!((&row["seeds"], &row["stopped"]), (&serde_json::json!([1, 2]), &Value::from(0)), "{row}");
    }
    let table = place.read("study/comparison.csv");
    for name in names(&written) {
        assert!(table.lines().any(|line| line.contains(name)), "{name} is not in {table}");
        assert!(place.exists(&format!("study/{name}/seed-2/adapters")), "{name}");
    }
    assert!(place.read("study/report.html").contains("fedsa-lora"));
}

#[test]
fn going_on_with_a_comparison_repeats_no_finished_run() {
    let place = Place::with_sentences();
    let study = "compare job.toml --out study --methods fedsvd";
    place.sim(study).succeeds();
    let before = place.tree("study");
    fs::remove_dir_all(place.path("study/fedsvd")).expect("removable");
    place.sim(&format!("{study} --resume")).succeeds();
    let after = place.tree("study");
    assert_eq!(before.keys().collect::<BTreeSet<_>>(), after.keys().collect::<BTreeSet<_>>());
    // Records hold times of the clock, so that a repeated run would leave other bytes.
    let repeated = |(name, bytes): &(_, &Vec<u8>)| after[*name] != **bytes;
    for (name, _) in before.iter().filter(repeated) {
        assert!(name.starts_with("fedsvd") || name.ends_with("report.html"), "{} was made again", name.display());
    }
    assert_eq!(before[std::path::Path::new("comparison.json")], after[std::path::Path::new("comparison.json")]);
}

#[test]
fn a_sweep_runs_every_value_of_its_grid() {
    let place = Place::with_sentences();
    place.sim("sweep job.toml --out study --grid lora.r=2,4 --grid learning-rate=0.01,0.02").succeeds();
    let comparison: Value = serde_json::from_str(&place.read("study/comparison.json")).expect("JSON");
    let rows = names(&comparison);
    assert_eq!(rows.len(), 4, "{rows:?}");
    for (rank, rate) in [(2, "0.01"), (2, "0.02"), (4, "0.01"), (4, "0.02")] {
        let name = format!("lora.r={rank} learning-rate={rate}");
        assert!(rows.contains(&name.as_str()), "{name} is not in {rows:?}");
        let exported = format!("study/{}/seed-1/adapters/global/adapter_config.json", name.replace(' ', "-"));
        let adapter: Value = serde_json::from_str(&place.read(&exported)).expect("JSON");
        assert_eq!(adapter["r"], rank, "{name}");
    }
}

#[test]
fn a_report_is_made_again_from_a_runs_records() {
    let place = Place::with_sentences();
    place.sim("run job.toml --out run").succeeds();
    let before = place.tree("run");
    for gone in ["report.html", "rounds.csv", "clients.csv"] {
        fs::remove_file(place.path("run").join(gone)).unwrap_or_else(|error| panic!("{gone}: {error}"));
    }
    fs::remove_dir_all(place.path("run/plots")).expect("the run has plots");
    place.sim("report run").succeeds();
    assert!(place.tree("run") == before, "the report differs");
}

#[test]
fn a_report_over_two_runs_compares_them() {
    let place = Place::with_sentences();
    place.sim("run job.toml --out one --set name=one").succeeds();
    place.sim("run job.toml --out two --set name=two --set lora.r=3").succeeds();
    place.sim("report one two --out both").succeeds();
    let comparison: Value = serde_json::from_str(&place.read("both/comparison.json")).expect("JSON");
    assert_eq!(names(&comparison), ["one", "two"]);
}

#[test]
fn a_directory_without_a_run_gets_no_report() {
    let place = Place::with_sentences();
    place.sim("report data").fails(5, &["data holds no run"]);
    place.sim("report absent").fails(5, &["absent holds no run"]);
    assert!(!place.exists("data/report.html") && !place.exists("absent"));
}
