//! Private training in the simulator, and the calculator for those who plan it.

use serde_json::Value;

use crate::{determinism, resume, support::Place};

/// Settings of a run under differential privacy; how much noise is still to be said.
const PRIVATE: &str = "--set weighting=uniform --set privacy.max-grad-norm=1.0 --set privacy.target-delta=1e-4";

fn summary(place: &Place, out: &str) -> Value {
    serde_json::from_str(&place.read(&format!("{out}/metrics_summary.json"))).expect("JSON")
}

/// What a run has cost by both accountants.
fn epsilon(summary: &Value) -> (f64, f64) {
    let value = |kind: &str| summary["privacy"]["epsilon"][kind].as_f64().unwrap_or_else(|| panic!("{summary}"));
    (value("pld"), value("rdp"))
}

/// What the calculator answers.
fn asked(place: &Place, question: &str) -> Value {
    let envelope = place.sim(&format!("privacy {question} --format json")).succeeds().json();
    assert_eq!((&envelope["status"], &envelope["exit_code"]), (&Value::from("ok"), &Value::from(0)), "{envelope}");
    envelope["data"].clone()
}

fn number(data: &Value, key: &str) -> f64 {
    data[key].as_f64().unwrap_or_else(|| panic!("{key}: {data}"))
}

#[test]
fn private_training_gives_the_same_bytes_for_any_threads_and_cohorts() {
    let settings = format!("{PRIVATE} --set privacy.noise-multiplier=1.0");
    let (summary, _) = determinism::does_not_depend_on_threads_and_cohorts(&settings);
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let (pld, rdp) = epsilon(&summary);
    assert!(0.0 < pld && pld < rdp, "{summary}");
    for client in summary["privacy"]["clients"].as_array().expect("a list") {
        assert_eq!(client["steps"], 6, "two rounds of three steps: {client}");
    }
}

#[test]
fn a_run_costs_what_the_calculator_says() {
    let place = Place::with_sentences();
    let settings = format!("--set local-steps=3 {PRIVATE} --set privacy.noise-multiplier=1.5");
    place.sim(&format!("run job.toml --out run {settings}")).succeeds();
    let metrics = place.read("run/round_metrics.jsonl");
    let last: Value = serde_json::from_str(metrics.lines().last().expect("rounds were done")).expect("JSON");
    let privacy = &last["privacy"];
    let is_largest = |release: &&Value| release["client"] == privacy["client"];
    let release = privacy["releases"].as_array().expect("a list").iter().find(is_largest);
    let rate = number(release.expect("who spent most has trained"), "sample-rate");
    let (pld, rdp) = epsilon(&summary(&place, "run"));
    for (accountant, spent) in [("pld", pld), ("rdp", rdp)] {
        let question = format!(
            "epsilon --noise-multiplier 1.5 --sample-rate {rate} --steps 6 --delta 1e-4 --accountant {accountant}"
        );
        let answer = number(&asked(&place, &question), "epsilon");
        assert!((answer / spent - 1.0).abs() < 1e-9, "{accountant}: the run has {spent}, the calculator {answer}");
    }
}

#[test]
fn a_run_that_protects_users_samples_users() {
    let place = Place::with_sentences();
    // Every ten rows are those of five people.
    let train = place.read("data/train.csv");
    let rows =
        train.lines().skip(1).enumerate().map(|(row, line)| format!("{line},person {}\n", row / 10 * 5 + row % 5));
    place.write("data/train.csv", format!("text,label,person\n{}", rows.collect::<String>()));
    let test = place.read("data/test.csv").replace('\n', ",nobody\n").replacen("nobody", "person", 1);
    place.write("data/test.csv", test);
    let settings = format!(
        "--set local-steps=2 --set batch-size=2 {PRIVATE} --set privacy.noise-multiplier=1.0 --set privacy.unit=user \
         --set data.partition.num-clients=1 --set data.partition.personal-test-fraction=0.0"
    );
    place.sim(&format!("run job.toml --out run {settings}")).fails(2, &["privacy.unit", "data.user-column"]);
    place.sim(&format!("run job.toml --out run {settings} --set data.user-column=person")).succeeds();
    let summary = summary(&place, "run");
    assert_eq!(summary["privacy"]["unit"], "user", "{summary}");
    let metrics = place.read("run/round_metrics.jsonl");
    let last: Value = serde_json::from_str(metrics.lines().last().expect("rounds were done")).expect("JSON");
    let people = (train.lines().count() - 1).div_ceil(10) as f64 * 5.0;
    let rate = number(&last["privacy"]["releases"][0], "sample-rate");
    assert!((rate - 2.0 / people).abs() < 1e-12, "{rate} of {people} people");
}

#[test]
fn a_killed_private_run_goes_on_to_the_same_bytes_and_the_same_privacy() {
    let place = resume::goes_on_after_a_kill(&format!("{PRIVATE} --set batch-size=4 --set privacy.target-epsilon=8.0"));
    // Both summaries are the same: what was spent before the kill is not forgotten, and keeps to the target.
    let killed = summary(&place, "killed");
    assert!((0.9 * 8.0..=8.0).contains(&epsilon(&killed).0), "{killed}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_private_run_goes_on_to_the_same_bytes_and_the_same_privacy() {
    let settings = format!("{PRIVATE} --set batch-size=4 --set privacy.noise-multiplier=1.0");
    let place = resume::goes_on_after_an_interrupt(&settings);
    let (stopped, whole) = (summary(&place, "stopped"), summary(&place, "whole"));
    assert!(epsilon(&stopped).0 > 0.0, "{stopped}");
    assert_eq!(stopped["privacy"], whole["privacy"]);
}

#[test]
fn settings_that_tell_what_is_protected_are_refused() {
    let place = Place::with_digits();
    let noisy = format!("{PRIVATE} --set privacy.noise-multiplier=1.0");
    for (settings, evidence) in [
        (format!("{noisy} --set weighting=examples"), "weighting"),
        (format!("{noisy} --set max-grad-norm=1.0"), "max-grad-norm"),
        (PRIVATE.to_owned(), "noise-multiplier"),
        (format!("{noisy} --set privacy.target-epsilon=1.0"), "target-epsilon"),
        (format!("{noisy} --set privacy.noise=1.0"), "noise"),
    ] {
        place.sim(&format!("run job.toml --out run {settings}")).fails(2, &[evidence]);
    }
    place.write("job.toml", place.read("job.toml").replace("local-steps = 3\n", ""));
    place.sim(&format!("run job.toml --out run {noisy}")).fails(2, &["local-steps"]);
    assert!(!place.exists("run"), "a refused run has begun");
}

#[test]
fn the_calculators_answers_agree_with_each_other() {
    let place = Place::new();
    let common = "--sample-rate 0.05 --delta 1e-5";
    for accountant in ["pld", "rdp"] {
        let common = format!("{common} --accountant {accountant}");
        let sigma = asked(&place, &format!("sigma --target-epsilon 2.0 --steps 200 {common}"));
        let noise = number(&sigma, "noise_multiplier");
        let reached = number(&sigma, "epsilon");
        assert!((1.99..=2.0).contains(&reached), "{sigma}");
        let cost = asked(&place, &format!("epsilon --noise-multiplier {noise} --steps 200 {common}"));
        assert_eq!(cost, sigma, "the same question has the same answer");
        let steps = asked(&place, &format!("steps --target-epsilon 2.0 --noise-multiplier {noise} {common}"));
        let most = steps["steps"].as_u64().expect("a number");
        assert!(most >= 200, "{steps}");
        let epsilon = |steps: u64| {
            number(&asked(&place, &format!("epsilon --noise-multiplier {noise} --steps {steps} {common}")), "epsilon")
        };
        assert!(epsilon(most) <= 2.0 && epsilon(most + 1) > 2.0, "{accountant}: {most} steps are not the most");
    }
}
