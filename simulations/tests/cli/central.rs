//! The server's noise in the simulator: whole clients are protected.

use serde_json::Value;

use crate::{determinism, link::links_agree, resume, support::Place};

/// Settings of a run whose server adds noise.
const CENTRAL: &str = "--set weighting=uniform --set clients-per-round=4 --set central-privacy.clipping-norm=0.05 \
                       --set central-privacy.target-delta=1e-3 --set central-privacy.noise-multiplier=0.5";

fn summary(place: &Place, out: &str) -> Value {
    serde_json::from_str(&place.read(&format!("{out}/metrics_summary.json"))).expect("JSON")
}

fn rounds(place: &Place, out: &str) -> Vec<Value> {
    let lines = place.read(&format!("{out}/round_metrics.jsonl"));
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn noise_of_the_server_gives_the_same_bytes_for_any_threads_and_cohorts() {
    let (summary, _) = determinism::does_not_depend_on_threads_and_cohorts(CENTRAL);
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let privacy = &summary["privacy"];
    assert_eq!((&privacy["unit"], &privacy["sampling"]), (&Value::from("client"), &Value::from("any")), "{summary}");
    let (pld, rdp) = (privacy["epsilon"]["pld"].as_f64(), privacy["epsilon"]["rdp"].as_f64());
    assert!(0.0 < pld.expect("a number") && pld < rdp, "{summary}");
    assert_eq!(summary["train_loss"], Value::Null, "losses have no noise");
}

#[test]
fn the_coordinator_and_the_simulator_add_the_same_noise() {
    for method in ["fedsvd", "fedsa-lora"] {
        let place = Place::with_digits();
        let settings = format!("{CENTRAL} --set method.name={method} --set central-privacy.clipping=adaptive");
        links_agree(&place, &format!("{settings} --set num-rounds=3"));
    }
}

#[test]
fn a_killed_run_goes_on_with_the_bound_and_the_privacy_that_it_had() {
    resume::goes_on_after_a_kill(&format!("{CENTRAL} --set central-privacy.clipping=adaptive"));
}

#[test]
fn secret_samples_of_clients_may_be_empty_and_cost_less() {
    let place = Place::with_digits();
    let all = CENTRAL.replace("clients-per-round=4", "clients-per-round=1");
    let sampled = format!("{all} --set central-privacy.client-sampling=poisson");
    // Six clients, each in a round with probability 1/6: a round is empty with probability 0.33, and twelve of twelve are
    // not with one below 0.01, which this seed is not.
    for (out, settings) in [("all", &all), ("sampled", &sampled)] {
        place.sim(&format!("run job.toml --out {out} --set num-rounds=12 {settings}")).succeeds();
    }
    let accepted: Vec<u64> =
        rounds(&place, "sampled").iter().skip(1).map(|round| round["accepted"].as_u64().expect("a number")).collect();
    assert_eq!(accepted.len(), 12);
    assert!(accepted.contains(&0) && accepted.iter().any(|count| *count > 1), "{accepted:?}");
    let epsilon = |out: &str| summary(&place, out)["privacy"]["epsilon"]["pld"].as_f64().expect("a number");
    assert!(epsilon("sampled") < 0.7 * epsilon("all"), "{} {}", epsilon("sampled"), epsilon("all"));
    place.sim(&format!("run job.toml --out grpc --link grpc {sampled}")).fails(2, &["client-sampling"]);
}

#[test]
fn noise_that_drowns_the_signal_is_said_at_once() {
    let place = Place::with_digits();
    let loud = CENTRAL.replace("noise-multiplier=0.5", "noise-multiplier=50");
    let run = place.sim(&format!("run job.toml --out run {loud}")).succeeds();
    assert!(run.stderr.contains("times as long as the largest change"), "{run:?}");
}

#[test]
fn settings_under_which_no_client_is_protected_are_refused() {
    let place = Place::with_digits();
    for (settings, evidence) in [
        (CENTRAL.replace("uniform", "examples"), "weight-cap"),
        (CENTRAL.replace("target-delta=1e-3", "target-delta=0.5"), "clients"),
        (format!("{CENTRAL} --set method.name=lora-fair"), "mean of their changes"),
        (format!("{CENTRAL} --set central-privacy.sigma=1"), "sigma"),
    ] {
        place.sim(&format!("run job.toml --out run {settings}")).fails(2, &[evidence]);
    }
    assert!(!place.exists("run"), "a refused run has begun");
}
