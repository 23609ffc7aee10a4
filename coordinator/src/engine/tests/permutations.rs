//! Whatever the order of arrival, the threads and the restarts in between: the same bytes, and those of the server
//! step that the simulator does in memory. For every method in the registry.
//!
//! The suite takes 100 permutations; `FEDLORA_PERMUTATIONS=1000` takes more.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterUpdate, ClientId, Digest, LoraFactors, ModuleName, ModuleSpec, Purpose, RoundId, Seed, Tensor,
    encode_adapter,
};
use fedlora_aggregation::{METHODS, Method, WeightedUpdate, Weighting, aggregate};
use rand::{RngExt, seq::SliceRandom};
use rayon::ThreadPool;

use super::support::{Rig, config_of, hand_in, is_accepted};
use crate::{Command, ModelDescription, RunId, UpdateMeta};

const CLIENTS: u64 = 5;

/// Two modules, wide enough for several blocks and threads, and a head.
fn wide() -> ModelDescription {
    let module = |name: &str, d_in, d_out| (ModuleName::new(name), ModuleSpec::new(d_in, d_out));
    ModelDescription {
        modules: BTreeMap::from([module("first", 40, 24), module("second", 33, 17)]),
        head: BTreeMap::from([("head.weight".to_owned(), vec![3, 17])]),
        ..super::support::model()
    }
}

/// An adapter near another, different for every client.
fn near(start: &Adapter, client: u64) -> Adapter {
    let mut rng = Seed(client).run(Purpose::Data);
    let mut moved = |tensor: &Tensor| {
        let mut tensor = tensor.clone();
        tensor.values_mut().iter_mut().for_each(|value| *value += rng.random::<f32>() - 0.5);
        tensor
    };
    let modules = start
        .modules()
        .iter()
        .map(|(name, factors)| (name.clone(), LoraFactors { a: moved(&factors.a), b: moved(&factors.b) }))
        .collect();
    let head = start.head().iter().map(|(name, tensor)| (name.clone(), moved(tensor))).collect();
    Adapter::new(Arc::clone(start.spec()), modules, head).expect("shapes as before")
}

fn started(method: &Method) -> Rig {
    let mut rig = Rig::new();
    let mut config = config_of(method.name, "num-rounds = 1\nmin-available-clients = 5");
    config.weighting = Weighting::Examples;
    config.lora.r = 4;
    let (config, model) = (Box::new(config), Box::new(wide()));
    rig.tell(Command::StartRun { config, model, key: String::new() }).expect("begun");
    (0..CLIENTS).for_each(|client| rig.connect(client));
    rig
}

/// The adapter's file that the round gives in this order of arrival, with a restart before one of the arrivals or
/// before the server step.
fn outcome(method: &Method, order: &[u64], restart_at: usize, threads: &ThreadPool) -> Digest {
    let mut rig = started(method);
    let global = rig.engine.view().global.expect("live");
    for (place, &client) in order.iter().enumerate() {
        if place == restart_at {
            rig.restart();
        }
        let round = rig.round();
        let update = hand_in(&rig.blobs, &near(&global, client), &round, client).expect("writable");
        assert!(is_accepted(&rig.submit_this(update)));
    }
    if restart_at == order.len() {
        rig.restart();
    }
    let task = rig.steps.pop().expect("everyone has answered");
    let outcome = threads.install(|| task.perform());
    rig.tell(Command::Step(Box::new(outcome))).expect("kept");
    rig.engine.records.checkpoint(RunId(1), RoundId(1)).expect("readable").expect("published").blob
}

/// What the simulator's server step makes of the same updates.
fn simulated(method: &Method) -> Digest {
    let rig = started(method);
    let (view, round) = (rig.engine.view(), rig.round());
    let global = view.global.expect("live");
    let strategy = method.build(&toml::Table::new()).expect("defaults");
    let updates: Vec<AdapterUpdate> =
        (0..CLIENTS).map(|client| AdapterUpdate::select(&near(&global, client), round.plan.directive)).collect();
    let weight = |client: u64| {
        let update: UpdateMeta = hand_in(&rig.blobs, &near(&global, client), &round, client).expect("writable");
        Weighting::Examples.weight(update.examples)
    };
    let weighted: Vec<WeightedUpdate<'_>> = (0..)
        .zip(&updates)
        .map(|(client, update)| WeightedUpdate { client: ClientId(client), weight: weight(client), update })
        .collect();
    let aggregated = aggregate(&*strategy, RoundId(1), &global, &weighted).expect("valid updates");
    Digest::of(&encode_adapter(&aggregated.adapter).expect("small"))
}

#[test]
fn neither_order_nor_threads_nor_restarts_change_a_byte_for_any_method() {
    let permutations = std::env::var("FEDLORA_PERMUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let pools = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"));
    for method in METHODS {
        let expected = simulated(method);
        // Shared out over the methods, so that the number is that of the whole test; at least a few for each.
        for permutation in 0..(permutations / METHODS.len()).max(4) {
            let mut rng = Seed(permutation as u64).run(Purpose::Shuffle);
            let mut order: Vec<u64> = (0..CLIENTS).collect();
            order.shuffle(&mut rng);
            let restart_at = rng.random_range(0..=order.len() + 1);
            let found = outcome(method, &order, restart_at, &pools[permutation % 2]);
            assert_eq!(found, expected, "{}: {order:?}, restart before {restart_at}", method.name);
        }
    }
}
