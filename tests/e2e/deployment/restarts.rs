//! The coordinator is killed at random points of live rounds, again and again: no acknowledged update is lost, none is
//! counted twice, and every round is opened once.
//!
//! `FEDLORA_KILLS=1000 cargo test --release -p fedlora-tests killed -- --nocapture` is the long form.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use fedlora_adapter::{Digest, Purpose, Seed};
use fedlora_tests::one_hot::{Acknowledged, HEAD, OneHot};
use rand::RngExt;
use serde_json::{Value, json};

use super::{patience, site::Site};

/// One-hot clients.
const CLIENTS: usize = 8;
/// Rounds of the run; more than the kills can outlast.
const ROUNDS: u64 = 100_000;

const RUN: &str = "name = 'one-hot'\nnum-rounds = 100000\nlearning-rate = 1.0\nweighting = 'uniform'\n\
                   min-available-clients = 8\n[method]\nname = 'fedavg'\n[lora]\nr = 1\n";

fn description(base_model: Digest) -> Value {
    json!({
        "base_model": "one-hot",
        "task_type": null,
        "digest": base_model,
        "modules": { "layer": { "d_in": 2, "d_out": 2 } },
        "head": { HEAD: [CLIENTS] },
        "labels": [],
    })
}

fn kills() -> u64 {
    std::env::var("FEDLORA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

#[test]
fn a_killed_coordinator_loses_nothing_counts_nothing_twice_and_restarts_no_round() {
    let site = Site::new();
    site.write("run.toml", RUN);
    let base_model = Digest::of(b"one-hot");
    site.write("model.json", description(base_model).to_string());
    let (mut coordinator, _) = site.serve();
    for index in 0..CLIENTS {
        site.enrol(&format!("c{index}"));
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let acknowledged = Acknowledged::default();
    for index in 0..CLIENTS {
        let dialer = Arc::new(site.dialer(&format!("c{index}")));
        let client = OneHot { index, base_model, dialer, acknowledged: acknowledged.clone() };
        runtime.spawn(client.take_part());
    }
    site.operator(&["run", "start", "run.toml", "--model", "model.json"]);
    let mut rng = Seed(1).run(Purpose::Data);
    let mut slowest = Duration::ZERO;
    for _ in 0..kills() {
        // The point of the kill is what is random here; nothing waits for this time to be enough.
        patience::pass(Duration::from_micros(rng.random_range(0..150_000)));
        coordinator.kill();
        let (next, ready) = site.serve();
        (coordinator, slowest) = (next, slowest.max(ready));
    }
    site.operator(&["run", "stop"]);
    let run = site.operator(&["run", "list"])["runs"][0].clone();
    let done = run["rounds_done"].as_u64().expect("a number");
    assert!(done > 0 && done < ROUNDS, "{run}");
    let counted = check(&site, &acknowledged, done);
    println!("{} kills, {done} rounds, {counted} acknowledged updates counted, slowest start {slowest:?}", kills());
    assert_eq!(coordinator.terminate(), Some(0));
}

/// Every acknowledged update of a published round is in its mean, once; every round was opened once.
fn check(site: &Site, acknowledged: &Acknowledged, done: u64) -> usize {
    let events = site.operator(&["log"]);
    let opened = |round: u64| {
        let events = events["events"].as_array().expect("a list").iter();
        events.filter(|event| event["kind"] == "round-opened" && event["round"] == round).count()
    };
    let mut counted = 0;
    for (round, clients) in acknowledged.by_round().into_iter().filter(|(round, _)| *round <= done) {
        assert_eq!(opened(round), 1, "round {round} was opened more than once");
        let mean = published(site, round);
        let included: BTreeSet<usize> = (0..CLIENTS).filter(|&index| mean[index] > 0.0).collect();
        assert!(clients.is_subset(&included), "round {round}: acknowledged {clients:?}, counted {included:?}");
        // A client that was counted twice would have twice the share of the others: to the bit is close enough.
        let share = (1.0 / included.len() as f32).to_bits();
        let plain = included.iter().all(|&index| mean[index].to_bits() == share);
        assert!(plain, "round {round}: {mean:?} is no plain mean");
        counted += clients.len();
    }
    counted
}

/// The head that a round published.
fn published(site: &Site, round: u64) -> Vec<f32> {
    let folder = format!("round-{round}");
    site.operator(&["export", "--round", &round.to_string(), "--out", &folder]);
    let bytes = fs::read(site.path(&folder).join("adapter_model.safetensors")).expect("exported");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let (_, head) = tensors.iter().find(|(name, _)| name.ends_with(HEAD)).expect("the head is there");
    head.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect()
}
