//! Ten clients of which two attack: how far each method's product is from the honest mean, in units of the honest spread.
//!
//! `cargo test -p fedlora-aggregation --release --test suite attacks -- --nocapture` prints the figures.

use fedlora_adapter::{Adapter, AdapterKind, LoraFactors, Side, Tensor};

use crate::support::{apart, mean_products, near, products, random, spec, spread, step};

const HONEST: u64 = 8;
/// The goal: an error of at most twice the spread. One honest client alone has an error of about one.
const GOAL: f64 = 2.0;
/// Each withstands 2 of 10.
const ROWS: [(&str, &str); 5] = [
    ("coordinate-median", ""),
    ("trimmed-mean", "beta = 0.2"),
    ("geometric-median", ""),
    ("krum", "num-malicious-nodes = 2"),
    ("multi-krum", "num-malicious-nodes = 2"),
];

/// What an attacker makes of the round: it knows the broadcast, what it would have sent itself, and the honest updates.
type Attack = fn(&Adapter, &Adapter, &[(f64, Adapter)]) -> Adapter;

const ATTACKS: [(&str, Attack); 12] = [
    ("sign flip", |start, own, _| combined(&[start, own], |x| 2.0 * x[0] - x[1])),
    ("x100", |start, own, _| combined(&[start, own], |x| x[0] + 100.0 * (x[1] - x[0]))),
    ("gauge 100", |_, own, _| with_gauge(own, 100.0)),
    ("gauge 2", |_, own, _| with_gauge(own, 2.0)),
    ("gauge -1", |_, own, _| with_gauge(own, -1.0)),
    ("little is enough 0.5", |_, _, honest| little_is_enough(honest, 0.5)),
    ("little is enough 1", |_, _, honest| little_is_enough(honest, 1.0)),
    ("little is enough 2", |_, _, honest| little_is_enough(honest, 2.0)),
    ("little is enough 4", |_, _, honest| little_is_enough(honest, 4.0)),
    ("inner product 0.5", |start, _, honest| against_the_mean(start, honest, 0.5)),
    ("inner product 1", |start, _, honest| against_the_mean(start, honest, 1.0)),
    ("inner product 10", |start, _, honest| against_the_mean(start, honest, 10.0)),
];

/// Value by value, from the same value of each of these adapters; without a head.
fn combined(adapters: &[&Adapter], value: impl Fn(&[f64]) -> f64) -> Adapter {
    let side = |name, side: Side| {
        let tensors: Vec<&Tensor> = adapters.iter().map(|one| one.modules()[name].side(side)).collect();
        let at = |index: usize| tensors.iter().map(|tensor| f64::from(tensor.values()[index])).collect::<Vec<_>>();
        Tensor::from_fn(tensors[0].shape(), |index| value(&at(index)) as f32)
    };
    let first = adapters[0];
    let module = |name| LoraFactors { a: side(name, Side::A), b: side(name, Side::B) };
    let modules = first.modules().keys().map(|name| (name.clone(), module(name))).collect();
    Adapter::new(first.spec().clone(), modules, first.head().clone()).expect("shapes as before")
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

/// arXiv 1902.06156: every value `z` deviations from the honest mean, where it is one among many.
fn little_is_enough(honest: &[(f64, Adapter)], z: f64) -> Adapter {
    let adapters: Vec<_> = honest.iter().map(|(_, one)| one).collect();
    combined(&adapters, |values| {
        let (mean, deviation) = moments(values);
        mean - z * deviation
    })
}

/// arXiv 1903.03936: the honest mean change, backwards.
fn against_the_mean(start: &Adapter, honest: &[(f64, Adapter)], size: f64) -> Adapter {
    let adapters: Vec<_> = [start].into_iter().chain(honest.iter().map(|(_, one)| one)).collect();
    combined(&adapters, |values| values[0] - size * (moments(&values[1..]).0 - values[0]))
}

/// The same product from other factors.
fn with_gauge(own: &Adapter, gauge: f32) -> Adapter {
    let (spec, mut modules, head) = own.clone().into_parts();
    for factors in modules.values_mut() {
        factors.a.values_mut().iter_mut().for_each(|value| *value /= gauge);
        factors.b.values_mut().iter_mut().for_each(|value| *value *= gauge);
    }
    Adapter::new(spec, modules, head).expect("shapes as before")
}

/// Error over spread of a method; `drift` is how far honest clients go together, `noise` how far each goes alone.
fn error((method, parameters): (&str, &str), attack: Attack, drift: f32, noise: f32, seed: u64) -> f64 {
    let start = random(&spec(AdapterKind::Lora, 4, &[(160, 96), (128, 192)]), seed);
    let goal = near(&start, drift, seed + 1);
    let client = |k: u64| near(&goal, noise, 100 * (seed + 1) + k);
    let honest: Vec<_> = (0..HONEST).map(|k| (1.0, client(k))).collect();
    let mut all = honest.clone();
    // One before and one between the honest: neither is favoured nor hindered by its place.
    for (place, k) in [(0, HONEST), (5, HONEST + 1)] {
        all.insert(place, (1.0, attack(&start, &client(k), &honest)));
    }
    apart(&products(&step(method, parameters, &start, &all).adapter), &mean_products(&honest)) / spread(&honest)
}

/// The largest error where clients differ more than they learn, where they learn more than they differ, and between.
fn worst(row: (&str, &str), attack: Attack) -> f64 {
    let settings = [(0.01, 0.1), (0.1, 0.1), (0.5, 0.1), (0.3, 0.3)];
    let errors = settings.iter().flat_map(|&(drift, noise)| (0..3).map(move |seed| (drift, noise, seed)));
    errors.map(|(drift, noise, seed)| error(row, attack, drift, noise, seed)).fold(0.0, f64::max)
}

#[test]
fn the_robust_rows_stay_within_twice_the_honest_spread_under_every_attack() {
    println!("{:<22}{:>18}{}", "error over spread", "fedavg", ROWS.map(|row| format!("{:>18}", row.0)).concat());
    for (name, attack) in ATTACKS {
        let found = ROWS.map(|row| worst(row, attack));
        let shown = found.map(|error| format!("{error:>18.2}")).concat();
        println!("{name:<22}{:>18.2}{shown}", worst(("fedavg", ""), attack));
        for ((method, _), error) in ROWS.into_iter().zip(found) {
            assert!(error <= GOAL, "{method} under {name}: {error}");
        }
    }
}

#[test]
fn plain_averaging_does_not() {
    for (name, attack) in
        ATTACKS.into_iter().filter(|(name, _)| ["x100", "gauge 100", "inner product 10"].contains(name))
    {
        let error = worst(("fedavg", ""), attack);
        assert!(error > GOAL, "{name} must be an attack for the other test to say anything: {error}");
    }
}
