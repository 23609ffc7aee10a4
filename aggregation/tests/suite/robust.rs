//! Methods that withstand malicious clients: what no minority can do to them, whatever it sends.

mod geometric_median;
mod krum;

use fedlora_adapter::{Adapter, AdapterKind, LoraFactors, RoundId, Side, Tensor};
use fedlora_aggregation::{AggregationError, METHODS, aggregate};
use proptest::prelude::*;

use crate::support::{
    Dense, F32, assert_close, awkward, clients, factors, near, random, spec, step, step_of, strategy, weighted,
};

/// The rows, each with parameters under which it withstands 3 of 9.
const OF_NINE: [(&str, &str); 5] = [
    ("coordinate-median", ""),
    ("trimmed-mean", "beta = 0.34"),
    ("geometric-median", "iterations = 200"),
    ("krum", "num-malicious-nodes = 3"),
    ("multi-krum", "num-malicious-nodes = 3"),
];

/// Factors and head, changed value by value.
fn changed(adapter: &Adapter, change: impl Fn(f32) -> f32) -> Adapter {
    let (spec, modules, head) = adapter.clone().into_parts();
    let tensor = |tensor: &Tensor| Tensor::from_fn(tensor.shape(), |index| change(tensor.values()[index]));
    let modules = modules.into_iter().map(|(name, one)| (name, LoraFactors { a: tensor(&one.a), b: tensor(&one.b) }));
    let head = head.iter().map(|(name, one)| (name.clone(), tensor(one)));
    Adapter::new(spec, modules.collect(), head.collect()).expect("shapes as before")
}

/// The same of all clients, by client and module.
fn all(clients: &[(f64, Adapter)], of: impl Fn(&Adapter) -> Vec<Dense>) -> Vec<Vec<Dense>> {
    clients.iter().map(|(_, one)| of(one)).collect()
}

#[test]
fn weights_above_zero_do_not_matter() {
    for method in METHODS {
        let strategy = strategy(method.name, "");
        if strategy.check_count(1).is_ok() {
            continue;
        }
        for &kind in method.kinds {
            let previous = random(&awkward(kind), 41);
            let equal: Vec<_> = clients(&previous, 6, 0.5, 1).into_iter().map(|(_, one)| (1.0, one)).collect();
            let mut loud = equal.clone();
            loud[4].0 = 1e12;
            let of = |clients: &[_]| step_of(&*strategy, 1, &previous, clients).expect("valid updates");
            assert_eq!(of(&equal), of(&loud), "{}", method.name);
        }
    }
}

#[test]
fn too_few_updates_are_refused_with_the_number_that_is_needed() {
    let previous = random(&awkward(AdapterKind::Lora), 42);
    for (method, parameters, needed) in [
        ("coordinate-median", "", 5),
        ("geometric-median", "", 5),
        ("trimmed-mean", "", 5),
        ("trimmed-mean", "beta = 0", 5),
        ("trimmed-mean", "beta = 0.1", 10),
        ("trimmed-mean", "beta = 0.15", 7),
        ("krum", "num-malicious-nodes = 0", 5),
        ("krum", "", 5),
        ("krum", "num-malicious-nodes = 2", 7),
        ("multi-krum", "num-malicious-nodes = 4", 11),
        ("multi-krum", "num-malicious-nodes = 4\nnum-nodes-to-select = 9", 13),
    ] {
        let strategy = strategy(method, parameters);
        let enough = clients(&previous, needed as u64, 0.5, 1);
        step_of(&*strategy, 1, &previous, &enough).expect("enough");
        // One that weighs nothing has no vote.
        let mut short = enough;
        short[0].0 = 0.0;
        let error = step_of(&*strategy, 1, &previous, &short).expect_err("one too few");
        let is_named = matches!(
            error,
            AggregationError::TooFewUpdates { method: name, needed: least, found }
            | AggregationError::TooFewForMalicious { method: name, needed: least, found, .. }
                if (name, least, found) == (method, needed, needed - 1)
        );
        assert!(is_named, "{method} {parameters}: {error}");
    }
    let error = strategy("krum", "num-malicious-nodes = 3").check_count(8).expect_err("nine are needed");
    assert_eq!(error.to_string(), "method krum needs at least 9 updates if 3 of them may be malicious, there are 8");
    let most = format!("num-malicious-nodes = {}", i64::MAX);
    strategy("krum", &most).check_count(usize::MAX - 1).expect_err("no number is large enough, and none overflows");
}

#[test]
fn where_the_honest_agree_no_minority_moves_the_result_by_a_bit() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let previous = random(&awkward(kind), 43);
        let honest = near(&previous, 0.3, 1);
        for size in [0.01, 1.0, 1e6, 1e30] {
            let mut clients: Vec<_> = (0..6).map(|_| (1.0, honest.clone())).collect();
            // Their places in the order of clients are at both ends and in the middle.
            [0, 4, 8].into_iter().zip(1..).for_each(|(place, seed)| {
                clients.insert(place, (1.0, near(&honest, size, seed)));
            });
            for (method, parameters) in OF_NINE {
                let result = step(method, parameters, &previous, &clients).adapter;
                if method == "trimmed-mean" || method == "multi-krum" {
                    // These are means, of values that are all the same: of six sixths.
                    for side in [Side::A, Side::B] {
                        assert_close(&factors(&result, side), &factors(&honest, side), F32);
                    }
                } else {
                    assert_eq!(result, honest, "{method}, size {size}");
                }
            }
        }
    }
}

/// The clients of a round, all of weight one.
struct Meeting {
    previous: Adapter,
    honest: Vec<(f64, Adapter)>,
    everybody: Vec<(f64, Adapter)>,
}

/// Honest clients around a common change, and liars at any distance from it and in any place, by seed.
fn honest_and_all(count: u64, liars: u64, size: f32, seed: u64) -> Meeting {
    let previous = random(&awkward(AdapterKind::Lora), seed);
    let goal = near(&previous, 0.5, seed ^ 1);
    let one = |k: u64, size: f32| (1.0, near(&goal, size, seed.wrapping_mul(1009).wrapping_add(k)));
    let honest: Vec<_> = (liars..count).map(|k| one(k, 0.3)).collect();
    let mut everybody = honest.clone();
    for k in 0..liars {
        let place = (seed.rotate_left(8 * k as u32) as usize) % (everybody.len() + 1);
        everybody.insert(place, one(k, size));
    }
    Meeting { previous, honest, everybody }
}

/// A distance from "inside the honest cloud" to "absurd".
fn any_size() -> impl Strategy<Value = f32> {
    (-2.0_f32..6.0).prop_map(|exponent| 10.0_f32.powf(exponent))
}

proptest! {
    #[test]
    fn order_statistics_stay_between_the_honest(size in any_size(), seed: u64) {
        let Meeting { previous, honest, everybody } = honest_and_all(9, 3, size, seed);
        for (method, parameters) in &OF_NINE[..2] {
            let result = step(method, parameters, &previous, &everybody).adapter;
            for side in [Side::A, Side::B] {
                let honest = all(&honest, |one| factors(one, side));
                for (module, found) in factors(&result, side).into_iter().enumerate() {
                    for (index, &found) in found.iter().enumerate() {
                        let values = honest.iter().map(|one| one[module][index]);
                        let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
                        prop_assert!(low <= found && found <= high, "{method}: {found} not in {low}..{high}");
                    }
                }
            }
        }
    }

}

#[test]
fn trimming_nobody_is_the_uniform_mean() {
    for kind in [AdapterKind::Lora, AdapterKind::Vera] {
        let previous = random(&awkward(kind), 44);
        let clients: Vec<_> = clients(&previous, 7, 0.5, 1).into_iter().map(|(_, one)| (1.0, one)).collect();
        let trimmed = step("trimmed-mean", "beta = 0", &previous, &clients).adapter;
        let mean = step("fedavg", "", &previous, &clients).adapter;
        for side in [Side::A, Side::B] {
            // Two sums of the same values in different orders, in f64, each rounded once to f32.
            assert_close(&factors(&trimmed, side), &factors(&mean, side), 2.0 * F32);
        }
    }
}

#[test]
fn whole_clients_are_trimmed_even_where_the_fraction_is_not_exact() {
    // In f64, 0.29 of 100 is a little less than 29.
    let previous = random(&spec(AdapterKind::Vera, 2, &[(3, 4)]), 45);
    let mut clients: Vec<_> = (0..71).map(|_| (1.0, previous.clone())).collect();
    clients.extend((0..29).map(|seed| (1.0, changed(&previous, |value| value + 1e6 * (1.0 + seed as f32)))));
    let result = step("trimmed-mean", "beta = 0.29", &previous, &clients).adapter;
    assert_close(&factors(&result, Side::B), &factors(&previous, Side::B), F32);
}

#[test]
fn what_is_missing_is_found_before_anybody_is_chosen() {
    let previous = random(&awkward(AdapterKind::Lora), 51);
    let narrow = random(&spec(AdapterKind::Lora, 3, &[(7, 5), (6, 12)]), 1);
    let sound = (0..6).map(|client| weighted(client, 1.0, &previous));
    let updates: Vec<_> = sound.chain([weighted(6, 1.0, &narrow)]).collect();
    for (method, _) in OF_NINE {
        let result = aggregate(&*strategy(method, ""), RoundId(1), &previous, &updates);
        let Err(AggregationError::InModule { module, source }) = result else { panic!("{result:?}") };
        assert_eq!(module.as_str(), "layer.1");
        assert!(matches!(*source, AggregationError::WrongShape { client, .. } if client.0 == 6));
    }
}
