//! A network that loses, delays, reorders and doubles, between clients as they really behave and the real engine on a
//! disk that forgets. All in virtual time: nothing waits, and a seed decides everything.
//!
//! What is simulated: partitions in one or both directions, lost requests and answers, slow lines, calls that arrive
//! twice, old and forged updates, ends of the coordinator (with and without loss of power, also in the middle of a
//! transaction) and of clients (also with the loss of their disk), clocks that jump, and trainings that come to nothing.
//!
//! What must hold is in `model.rs`, and is compared with the engine after every transaction. When all faults are over,
//! the run must be completed in bounded time. It is no failure if a round fails for want of updates: then the operator
//! restores the run.
//!
//! What is not simulated: the runtime, TLS and the encoding of messages. The services for clients are rewritten in
//! `service.rs` without them, over the real checks and spool files.
//!
//! The suite plays 60 seeds; `FEDLORA_NETWORK_SEEDS=500` plays more, and `FEDLORA_NETWORK_SEED=17` one, with its trace.

mod check;
mod client;
mod content;
mod coordinator;
mod delivery;
mod faults;
mod host;
mod message;
mod model;
mod plan;
mod process;
mod round;
mod sabotage;
mod service;
mod trace;
mod turn;
mod wire;
mod world;

use sabotage::Sabotage;
use trace::Counts;
use world::{Outcome, World};

/// Faults in the life of a seed.
const FAULTS: u32 = 60;
/// Seeds that the suite plays.
const SEEDS: u64 = 60;
/// What has to happen at least once in as many seeds.
const HAPPENS: &[&str] = &[
    "client restarts",
    "clock jumps",
    "doubled calls",
    "failed runs",
    "losses of power",
    "lost answers",
    "lost requests",
    "receipts: accepted",
    "receipts: conflict",
    "receipts: duplicate",
    "receipts: late",
    "receipts: not invited",
    "receipts: rejected",
    "resumed uploads",
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn play(seed: u64, sabotage: Sabotage) -> Outcome {
    World::new(seed, FAULTS, sabotage).play()
}

#[test]
fn every_acknowledged_update_counts_once_in_its_round_whatever_the_network_does() {
    let only = number("FEDLORA_NETWORK_SEED");
    let seeds = only.map_or(0..number("FEDLORA_NETWORK_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let mut counts = Counts::default();
    for seed in seeds {
        let outcome = play(seed, Sabotage::None);
        if let Some(broken) = outcome.broken {
            panic!("{}\n\nFEDLORA_NETWORK_SEED={seed}: {broken}", outcome.trace.text(only.is_some()));
        }
        if only.is_some() {
            println!("{}", outcome.trace.text(true));
        }
        counts.merge(&outcome.counts);
        counts.add("seeds", 1);
    }
    println!("{counts}");
    // A simulation in which nothing goes wrong shows nothing.
    for what in HAPPENS.iter().filter(|_| counts.of("seeds") >= SEEDS) {
        assert!(counts.of(what) > 0, "no {what}");
    }
}

#[test]
fn a_seed_replays_to_the_letter() {
    for seed in [1, 2] {
        let (first, second) = (play(seed, Sabotage::None), play(seed, Sabotage::None));
        assert!(first.trace.lines().len() > 200, "something happens");
        assert_eq!(first.trace.lines(), second.trace.lines(), "seed {seed}");
        assert_eq!(first.counts, second.counts);
    }
}

#[test]
fn a_broken_promise_is_noticed() {
    for (sabotage, notice) in [
        (Sabotage::Amnesia, "are accepted, not"),
        (Sabotage::LyingDisk, "are accepted, not"),
        (Sabotage::EarlyReceipts, "counts, and it does not"),
        (Sabotage::LossyStep, "the task is"),
        (Sabotage::ForgetfulClients, "the run does not end"),
    ] {
        let broken = (0..20).find_map(|seed| play(seed, sabotage).broken);
        assert!(broken.as_ref().is_some_and(|broken| broken.contains(notice)), "{sabotage:?}: {broken:?}");
    }
}
