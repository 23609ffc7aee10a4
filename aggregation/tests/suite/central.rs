//! Client-level differential privacy: what one client can do to the result, and what the noise is.

use fedlora_adapter::{Adapter, AdapterKind, RoundId, Side, Tensor, UpdateFile, UpdateSource};
use fedlora_aggregation::{Aggregated, AggregationError, METHODS, PrivateMean, Strategy, WeightedUpdate};
use fedlora_privacy::{ClipBound, NoiseMode, SimulatedRng};
use proptest::prelude::*;

use crate::support::{F32, awkward, clients, near, random, shares, strategy, weighted};

/// Far below anything that is compared, and large enough for the noise to be possible.
const SILENT: f64 = 1e-9;

fn bound(value: f64) -> ClipBound {
    ClipBound::new(value).expect("above 0")
}

fn mean(clip: f64, sigma: f64, expected: f64) -> PrivateMean {
    PrivateMean::fixed(bound(clip), sigma, expected, NoiseMode::Grid).expect("possible")
}

fn private(
    mean: &mut PrivateMean,
    strategy: &dyn Strategy,
    previous: &Adapter,
    updates: &[WeightedUpdate<'_>],
    seed: u8,
) -> Result<Aggregated, AggregationError> {
    mean.aggregate(strategy, RoundId(1), previous, updates, &mut SimulatedRng::from_seed([seed; 32]))
}

fn uniform(clients: &[(f64, Adapter)]) -> Vec<WeightedUpdate<'_>> {
    (0..).zip(clients).map(|(client, (_, update))| weighted(client, 1.0, update)).collect()
}

/// Every value that clients of `FedAvg` send.
fn values(adapter: &Adapter) -> Vec<f64> {
    let factors = adapter.modules().values().flat_map(|factors| [&factors.a, &factors.b]);
    factors.chain(adapter.head().values()).flat_map(Tensor::values).map(|&value| f64::from(value)).collect()
}

fn norm(left: &Adapter, right: &Adapter) -> f64 {
    values(left).iter().zip(values(right)).map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn without_clipping_and_noise_it_is_the_mean_of_the_method() {
    for method in ["fedavg", "ffa-lora", "ffa-orthonormal", "fedsa-lora", "fedsvd"] {
        let previous = random(&awkward(AdapterKind::Lora), 1);
        let clients: Vec<_> = clients(&previous, 4, 0.1, 2).into_iter().map(|(_, update)| (1.0, update)).collect();
        let strategy = strategy(method, "");
        let plain =
            fedlora_aggregation::aggregate(&*strategy, RoundId(1), &previous, &uniform(&clients)).expect("valid");
        let mut mean = mean(1e3, SILENT, clients.len() as f64);
        let found = private(&mut mean, &*strategy, &previous, &uniform(&clients), 3).expect("valid").adapter;
        // Changes are rounded to f32, then values of size up to 4 are; a step of FedSVD multiplies what goes in by its
        // condition, below 1e3 here. The noise is a thousandth of either.
        let slack = if method == "fedsvd" { 1e3 } else { 1.0 };
        let largest = values(&plain.adapter).iter().zip(values(&found)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest <= slack * 16.0 * F32 + 10.0 * SILENT * 1e3, "{method}: {largest:e}");
    }
}

proptest! {
    /// The same noise is drawn for both, so that all that differs is what the client did.
    #[test]
    fn a_client_that_does_anything_moves_the_result_by_no_more_than_its_bound(
        seed in 0_u64..1000,
        size in prop_oneof![Just(1e-4_f32), Just(1.0), Just(1e6)],
        weight in 0.0_f64..=1.0,
    ) {
        let previous = random(&awkward(AdapterKind::Lora), seed);
        let (others, strategy) = (clients(&previous, 3, 0.5, seed), strategy("fedavg", ""));
        let wild = near(&previous, size, seed + 7);
        let with = |own: &dyn UpdateSource| {
            let mut updates = uniform(&others);
            updates.push(weighted(9, weight, own));
            private(&mut mean(0.5, 1.0, 2.0), &*strategy, &previous, &updates, 5).expect("valid").adapter
        };
        // Two clients' worth in the denominator; values of size up to 8 are rounded at the end.
        let rounding = 8.0 * F32 * (values(&previous).len() as f64).sqrt();
        prop_assert!(norm(&with(&wild), &with(&previous)) <= weight * 0.5 / 2.0 * (1.0 + 1e-6) + rounding);
    }
}

#[test]
fn arrival_and_threads_change_no_bit_and_files_are_as_good_as_memory() {
    let spec = awkward(AdapterKind::Lora);
    let previous = random(&spec, 1);
    let (clients, strategy) = (clients(&previous, 5, 1.0, 2), strategy("fedavg", ""));
    let result = |updates: &[WeightedUpdate<'_>]| {
        private(&mut mean(0.3, 0.7, 5.0), &*strategy, &previous, updates, 1).expect("valid").adapter.digest()
    };
    let expected = result(&uniform(&clients));
    let mut reversed = uniform(&clients);
    reversed.reverse();
    assert_eq!(result(&reversed), expected);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        assert_eq!(pool.install(|| result(&uniform(&clients))), expected, "{threads} threads");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let directive = strategy.directive(RoundId(1));
    let file = |(index, (_, client)): (usize, &(f64, Adapter))| {
        let path = folder.path().join(index.to_string());
        let update = fedlora_adapter::AdapterUpdate::select(client, directive);
        let tensors = update.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref()));
        std::fs::write(&path, fedlora_adapter::encode(tensors).expect("small")).expect("room");
        UpdateFile::open(&path, &spec, directive).expect("an update")
    };
    let files: Vec<UpdateFile> = clients.iter().enumerate().map(file).collect();
    let updates: Vec<_> = (0..).zip(&files).map(|(client, file)| weighted(client, 1.0, file)).collect();
    assert_eq!(result(&updates), expected);
}

#[test]
fn a_round_without_updates_is_noise_of_the_full_size() {
    let previous = Adapter::zeros(crate::support::spec(AdapterKind::Lora, 8, &[(4000, 3000)])).expect("usable");
    let (sigma, clip, expected) = (1.5, 0.4, 10.0);
    let found = private(&mut mean(clip, sigma, expected), &*strategy("fedavg", ""), &previous, &[], 9).expect("noise");
    let values = values(&found.adapter);
    let deviation = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
    let promised = sigma * clip / expected;
    // 56,018 values: the standard deviation of the estimate is 0.3 % of it, and six of them are allowed. Rounding to the
    // grid makes the noise larger by less than a thousandth.
    assert!((deviation / promised - 1.0).abs() < 0.018 + 0.001, "{deviation} instead of {promised}");
    assert!(found.residual.is_none());
}

#[test]
fn an_adaptive_bound_moves_to_the_median_of_the_norms() {
    let previous = random(&awkward(AdapterKind::Lora), 1);
    // Norms are the size times the root of 112 values, about 10.6, within some percent.
    let clients: Vec<_> = (0..40).map(|k| (1.0, near(&previous, 0.01 * (1 + k % 4) as f32, 50 + k))).collect();
    let strategy = strategy("fedavg", "");
    let mut mean = PrivateMean::adaptive(bound(10.0), 0.01, 0.5, 40.0, NoiseMode::Grid).expect("possible");
    for round in 0..60 {
        private(&mut mean, &*strategy, &previous, &uniform(&clients), round).expect("valid");
    }
    // Half of the clients are at 0.106 and 0.212, half at 0.318 and 0.424: anything between the middle ones is a median,
    // and noise of 0.5 clients moves it by less than the distance to the next ones.
    assert!((0.15..0.36).contains(&mean.bound().value()), "{}", mean.bound().value());
}

#[test]
fn weights_above_one_and_methods_that_ask_for_more_are_refused() {
    let previous = random(&awkward(AdapterKind::Lora), 1);
    let clients = clients(&previous, 6, 0.1, 2);
    let heavy: Vec<_> =
        (0..).zip(&clients).map(|(client, (weight, update))| weighted(client, *weight, update)).collect();
    let error = private(&mut mean(1.0, 1.0, 6.0), &*strategy("fedavg", ""), &previous, &heavy, 1).expect_err("above 1");
    assert!(matches!(error, AggregationError::WeightAboveOne { .. }), "{error}");
    assert!(shares(&clients).iter().all(|share| *share < 1.0));
    let mut refused = Vec::new();
    for method in METHODS.iter().filter(|method| method.kinds.contains(&AdapterKind::Lora)) {
        let strategy = method.build(&toml::Table::new()).expect("defaults");
        match private(&mut mean(1.0, 1.0, 6.0), &*strategy, &previous, &uniform(&clients), 1) {
            Ok(_) => assert!(strategy.needs_only_mean()),
            Err(AggregationError::NotFromMean) => refused.push(method.name),
            Err(error) => panic!("{}: {error}", method.name),
        }
    }
    assert_eq!(
        refused,
        ["lora-fair", "flexlora", "coordinate-median", "trimmed-mean", "geometric-median", "krum", "multi-krum"]
    );
}

#[test]
fn what_a_client_keeps_does_not_count() {
    let previous = random(&awkward(AdapterKind::Lora), 1);
    let strategy = strategy("fedsa-lora", "");
    let (near, far) = (near(&previous, 0.01, 5), near(&previous, 1e3, 6));
    // The same A, and whatever else there is from far away.
    let modules = near.modules().iter().map(|(name, factors)| {
        let mut factors = factors.clone();
        factors.set(Side::B, far.modules()[name].b.clone());
        (name.clone(), factors)
    });
    let other =
        Adapter::new(std::sync::Arc::clone(near.spec()), modules.collect(), far.head().clone()).expect("shapes");
    let result = |update: &Adapter| {
        let updates = [weighted(0, 1.0, update)];
        private(&mut mean(0.1, 1.0, 1.0), &*strategy, &previous, &updates, 2).expect("valid").adapter.digest()
    };
    assert_eq!(result(&near), result(&other));
}
