//! Geometric median: both factors are trained and sent, and each factor of the new global adapter is the point with the
//! smallest sum of distances to the clients' factors.
//!
//! "Robust Aggregation for Federated Learning" (arXiv 1912.13445), known as RFA: a few steps of the smoothed Weiszfeld
//! algorithm, each a mean of the factors weighed by their inverse distances `p_k ~ 1 / max(nu, ‖X_k - V‖)`. With `f` liars
//! among `n` clients the exact point `V` is within `2 (n - f) / (n - 2 f)` of the honest clients' mean distance from their
//! mean, whatever the liars send. Departures:
//! - Each factor, and each tensor of the head, is a point of its own, where the paper takes all parameters as one: `A`, `B`
//!   and heads move by different lengths, and a lie in the one that moves least would hide in the spread of the others.
//! - It starts at the coordinate median, where the authors' code starts at the mean: one client can move that as far as it
//!   likes, and every step takes back only a part. So the result withstands a minority after any number of steps.
//! - Clients have one vote each, whatever their weights.
//! - `nu` is a millionth of the median distance from the start, not a constant: the result does not depend on the unit.
//!
//! What it does not do: lies that stay within the spread of the honest factors ("A Little Is Enough", arXiv 1902.06156)
//! count as much as the truth.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Tensor, TensorSource};
use serde::{Deserialize, Serialize};

use super::{ANY, Method};
use crate::{
    AggregationError, Contribution, Strategy, Updates,
    distance::distances_from,
    mean::{weighted_mean, weighted_mean_f64},
    order::{median, pick_each},
    parameters, votes,
};

const NAME: &str = "geometric-median";
/// `nu` as a share of the median distance.
const SMOOTHING: f64 = 1e-6;

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: NAME,
    title: "Robust Aggregation for Federated Learning",
    arxiv: "1912.13445",
    summary: "the point nearest to all clients' factors, one vote per client (RFA)",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: true,
    build,
};

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
    let method: GeometricMedian = parameters::parse(NAME, table)?;
    parameters::require(NAME, "iterations", method.iterations.into(), method.iterations > 0, "at least 1")?;
    Ok(Box::new(method))
}

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct GeometricMedian {
    head: HeadPolicy,
    /// Weiszfeld steps, at least 1; each reads every factor twice. The default is that of the authors' code.
    iterations: u32,
}

impl Default for GeometricMedian {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared, iterations: 4 }
    }
}

impl GeometricMedian {
    /// The geometric median of tensors, in the shape of `previous`.
    fn median_of(&self, previous: &Tensor, sources: &[TensorSource<'_>]) -> Result<Tensor, AggregationError> {
        let start = pick_each(sources, median)?;
        let mut point: Vec<f64> = start.iter().copied().map(f64::from).collect();
        let mut distances = distances_from(&point, sources)?;
        let nu = SMOOTHING * middle(&distances);
        if nu == 0.0 {
            // More than half of the clients are at the start, which therefore is the median.
            return Ok(Tensor::new(previous.shape().to_vec(), start)?);
        }
        for _ in 1..self.iterations {
            point = weighted_mean_f64(&closeness(&distances, nu, sources))?;
            distances = distances_from(&point, sources)?;
        }
        let values = weighted_mean(&closeness(&distances, nu, sources))?;
        Ok(Tensor::new(previous.shape().to_vec(), values)?)
    }
}

/// The sources, weighed by their inverse distances; shares sum to one.
fn closeness<'a>(distances: &[f64], nu: f64, sources: &[TensorSource<'a>]) -> Vec<(f64, TensorSource<'a>)> {
    let inverse = |distance: &f64| distance.max(nu).recip();
    let sum: f64 = distances.iter().map(inverse).sum();
    distances.iter().zip(sources).map(|(distance, &source)| (inverse(distance) / sum, source)).collect()
}

/// The upper one of the middle two: 0 only if more than half are 0.
fn middle(distances: &[f64]) -> f64 {
    let mut sorted = distances.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl Strategy for GeometricMedian {
    fn needs_only_mean(&self) -> bool {
        false
    }

    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: self.head }
    }

    fn check_count(&self, updates: usize) -> Result<(), AggregationError> {
        votes::require(NAME, updates, votes::FEWEST)
    }

    fn shares(&self, updates: &Updates<'_>) -> Result<Vec<f64>, AggregationError> {
        Ok(votes::equal_shares(updates))
    }

    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        votes::by_tensor(previous, contributions, |previous, sources| self.median_of(previous, sources))
    }

    fn combine_head(
        &self,
        previous: &Tensor,
        contributions: &[(f64, TensorSource<'_>)],
    ) -> Result<Tensor, AggregationError> {
        self.median_of(previous, &votes::without_shares(contributions))
    }
}
