//! Random adapters of awkward shapes, and dense matrices to check factors against.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, ClientId, LoraFactors, ModuleName, ModuleSpec, Purpose, RoundId, Seed, Side,
    Tensor, UpdateSource,
};
use fedlora_aggregation::{Aggregated, AggregationError, Method, Strategy, WeightedUpdate, aggregate};
use nalgebra::DMatrix;
use rand::RngExt;
use rand_distr::StandardNormal;

pub(crate) type Dense = DMatrix<f64>;

/// Half a unit in the last place of f32: what storing a factor costs, relative to its entries.
pub(crate) const F32: f64 = f32::EPSILON as f64 / 2.0;

pub(crate) fn spec(kind: AdapterKind, rank: usize, widths: &[(usize, usize)]) -> Arc<AdapterSpec> {
    let module = |(index, &(d_in, d_out))| (ModuleName::new(format!("layer.{index}")), ModuleSpec::new(d_in, d_out));
    let spec = AdapterSpec {
        kind,
        rank,
        alpha: 8.0,
        use_rslora: false,
        projection_seed: 1,
        modules: widths.iter().enumerate().map(module).collect(),
        head: BTreeMap::from([("head.weight".to_owned(), vec![3, 5]), ("head.bias".to_owned(), vec![3])]),
    };
    Arc::new(spec.with_extras())
}

/// Two modules, all widths different from each other and from the rank.
pub(crate) fn awkward(kind: AdapterKind) -> Arc<AdapterSpec> {
    spec(kind, 3, &[(7, 5), (6, 11)])
}

/// Gaussian factors and head.
pub(crate) fn random(spec: &Arc<AdapterSpec>, seed: u64) -> Adapter {
    near(&Adapter::zeros(Arc::clone(spec)).expect("a usable specification"), 1.0, seed)
}

/// `start` plus Gaussian noise of the given size: what a client might make of it.
pub(crate) fn near(start: &Adapter, size: f32, seed: u64) -> Adapter {
    let mut rng = Seed(seed).run(Purpose::Data);
    let mut noisy = |tensor: &Tensor| {
        let mut tensor = tensor.clone();
        tensor.values_mut().iter_mut().for_each(|value| *value += size * rng.sample::<f32, _>(StandardNormal));
        tensor
    };
    let modules = start
        .modules()
        .iter()
        .map(|(name, factors)| (name.clone(), LoraFactors { a: noisy(&factors.a), b: noisy(&factors.b) }))
        .collect();
    let head = start.head().iter().map(|(name, tensor)| (name.clone(), noisy(tensor))).collect();
    Adapter::new(Arc::clone(start.spec()), modules, head).expect("shapes as before")
}

/// Several clients around `start`, with unequal weights.
pub(crate) fn clients(start: &Adapter, count: u64, size: f32, seed: u64) -> Vec<(f64, Adapter)> {
    (0..count).map(|k| (1.0 + (k * 7 % 5) as f64, near(start, size, seed.wrapping_mul(1000) + k))).collect()
}

pub(crate) fn strategy(method: &str, parameters: &str) -> Box<dyn Strategy> {
    let table = parameters.parse().expect("TOML");
    Method::find(method).and_then(|method| method.build(&table)).expect("a method and its parameters")
}

pub(crate) fn step_of(
    strategy: &dyn Strategy,
    round: u64,
    previous: &Adapter,
    clients: &[(f64, Adapter)],
) -> Result<Aggregated, AggregationError> {
    let updates: Vec<_> =
        (0..).zip(clients).map(|(client, (weight, update))| weighted(client, *weight, update)).collect();
    aggregate(strategy, RoundId(round), previous, &updates)
}

pub(crate) fn weighted(client: u64, weight: f64, update: &dyn UpdateSource) -> WeightedUpdate<'_> {
    WeightedUpdate { client: ClientId(client), weight, update }
}

/// One round of a method with parameters.
pub(crate) fn step(method: &str, parameters: &str, previous: &Adapter, clients: &[(f64, Adapter)]) -> Aggregated {
    step_of(&*strategy(method, parameters), 1, previous, clients).expect("valid updates")
}

/// Weights as shares.
pub(crate) fn shares(clients: &[(f64, Adapter)]) -> Vec<f64> {
    let sum: f64 = clients.iter().map(|(weight, _)| weight).sum();
    clients.iter().map(|(weight, _)| weight / sum).collect()
}

/// One factor of every module, dense; VeRA's vectors as columns.
pub(crate) fn factors(adapter: &Adapter, side: Side) -> Vec<Dense> {
    adapter.modules().values().map(|factors| dense(factors.side(side))).collect()
}

pub(crate) fn dense(tensor: &Tensor) -> Dense {
    let rows = tensor.shape()[0];
    let values = tensor.values();
    Dense::from_row_iterator(rows, values.len() / rows, values.iter().copied().map(f64::from))
}

/// `B A` of every module; for VeRA the outer product of its vectors, on which its weight change depends linearly.
pub(crate) fn products(adapter: &Adapter) -> Vec<Dense> {
    let outer = adapter.spec().kind == AdapterKind::Vera;
    let product = |(a, b): (Dense, Dense)| if outer { b * a.transpose() } else { b * a };
    factors(adapter, Side::A).into_iter().zip(factors(adapter, Side::B)).map(product).collect()
}

/// `sum p_k B_k A_k` of every module.
pub(crate) fn mean_products(clients: &[(f64, Adapter)]) -> Vec<Dense> {
    mean_of(clients, products)
}

/// `sum p_k F_k` of every module.
pub(crate) fn mean_factors(clients: &[(f64, Adapter)], side: Side) -> Vec<Dense> {
    mean_of(clients, |adapter| factors(adapter, side))
}

fn mean_of(clients: &[(f64, Adapter)], of: impl Fn(&Adapter) -> Vec<Dense>) -> Vec<Dense> {
    let mut sums: Vec<Dense> = Vec::new();
    for (share, (_, adapter)) in shares(clients).into_iter().zip(clients) {
        for (index, matrix) in of(adapter).into_iter().enumerate() {
            match sums.get_mut(index) {
                Some(sum) => *sum += matrix * share,
                None => sums.push(matrix * share),
            }
        }
    }
    sums
}

/// Asserts that matrices agree up to `tolerance` times the larger one's largest entry.
#[track_caller]
pub(crate) fn assert_close(found: &[Dense], expected: &[Dense], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).amax();
        let limit = tolerance * found.amax().max(expected.amax());
        assert!(difference <= limit, "differ by {difference:e}, allowed {limit:e}:\n{found}{expected}");
    }
}

/// `‖found - expected‖ / ‖expected‖` over all modules.
pub(crate) fn distance(found: &[Dense], expected: &[Dense]) -> f64 {
    apart(found, expected) / expected.iter().map(Dense::norm_squared).sum::<f64>().sqrt()
}

/// `‖first - second‖` over all modules.
pub(crate) fn apart(first: &[Dense], second: &[Dense]) -> f64 {
    first.iter().zip(second).map(|(first, second)| (first - second).norm_squared()).sum::<f64>().sqrt()
}

/// Root mean square distance of the products of clients of equal weight from their mean.
pub(crate) fn spread(clients: &[(f64, Adapter)]) -> f64 {
    let mean = mean_products(clients);
    let squares = clients.iter().map(|(_, one)| apart(&products(one), &mean).powi(2)).sum::<f64>();
    (squares / clients.len() as f64).sqrt()
}

/// Asserts that `A Aᵀ = I`, and `Bᵀ B` diagonal and descending, up to the rounding of factors to f32.
#[track_caller]
pub(crate) fn assert_canonical(adapter: &Adapter) {
    for (a, b) in factors(adapter, Side::A).iter().zip(&factors(adapter, Side::B)) {
        let rank = a.nrows();
        assert!((a * a.transpose() - Dense::identity(rank, rank)).amax() < 4.0 * F32);
        let gram = b.transpose() * b;
        for row in 0..rank {
            for column in 0..rank {
                let is_small = gram[(row, column)].abs() <= 8.0 * F32 * gram.amax();
                assert!(row == column || is_small, "{gram}");
            }
        }
        assert!(gram.diagonal().as_slice().is_sorted_by(|first, second| first + 8.0 * F32 * gram.amax() >= *second));
        for row in a.row_iter() {
            assert!(row.max() >= row.amax(), "the largest entry is positive");
        }
    }
}
