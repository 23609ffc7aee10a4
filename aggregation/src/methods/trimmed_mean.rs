//! Trimmed mean: both factors are trained and sent, and each value of the new global adapter is the mean of the clients'
//! values without the largest and the smallest of them.
//!
//! "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498), definition 2 and
//! option II of algorithm 1, applied to what clients send instead of to gradients, as the coordinate median is. Clients
//! have one vote each, whatever their weights. No value can leave the range of the honest clients' values while no more
//! clients lie than are trimmed on one side; where fewer lie than the median could bear, it keeps more of what honest
//! clients learned.
//!
//! What it does not do: with one more liar than are trimmed on a side the mean is as open as a plain one; and lies that
//! stay within the spread of the honest values ("A Little Is Enough", arXiv 1902.06156) are averaged in.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Tensor, TensorSource};
use serde::{Deserialize, Serialize};

use super::{ANY, Method};
use crate::{AggregationError, Contribution, Strategy, Updates, order::pick_each, parameters, votes};

const NAME: &str = "trimmed-mean";
/// More than the error of a decimal fraction times a number of clients, far less than a client.
const ROUNDING: f64 = 1e-9;

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: NAME,
    title: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    arxiv: "1803.01498",
    summary: "the mean of each value without the extremes, one vote per client",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: true,
    build,
};

fn build(table: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
    let method: TrimmedMean = parameters::parse(NAME, table)?;
    let is_valid = (0.0..0.5).contains(&method.beta);
    parameters::require(NAME, "beta", method.beta, is_valid, "at least 0 and below 0.5")?;
    Ok(Box::new(method))
}

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct TrimmedMean {
    head: HeadPolicy,
    /// Share of the clients whose values are left out on each side, rounded down to whole clients: at least 0 and below
    /// 0.5. Above 0, rounds with too few clients to leave out one are refused; 0 is the plain mean with equal weights.
    beta: f64,
}

impl Default for TrimmedMean {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared, beta: 0.2 }
    }
}

impl TrimmedMean {
    /// Fewest updates of which at least one is left out on each side.
    fn needed(&self) -> usize {
        if self.beta > 0.0 { ((1.0 - ROUNDING) / self.beta).ceil() as usize } else { 0 }
    }

    /// The trimmed mean of each value, in the shape of `previous`.
    fn mean_of(&self, previous: &Tensor, sources: &[TensorSource<'_>]) -> Result<Tensor, AggregationError> {
        let trimmed = (self.beta * sources.len() as f64 + ROUNDING).floor() as usize;
        let mean = |sorted: &[f32]| {
            let kept = &sorted[trimmed..sorted.len() - trimmed];
            (kept.iter().copied().map(f64::from).sum::<f64>() / kept.len() as f64) as f32
        };
        Ok(Tensor::new(previous.shape().to_vec(), pick_each(sources, mean)?)?)
    }
}

impl Strategy for TrimmedMean {
    fn needs_only_mean(&self) -> bool {
        false
    }

    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: self.head }
    }

    fn check_count(&self, updates: usize) -> Result<(), AggregationError> {
        votes::require(NAME, updates, self.needed())
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
        votes::by_tensor(previous, contributions, |previous, sources| self.mean_of(previous, sources))
    }

    fn combine_head(
        &self,
        previous: &Tensor,
        contributions: &[(f64, TensorSource<'_>)],
    ) -> Result<Tensor, AggregationError> {
        self.mean_of(previous, &votes::without_shares(contributions))
    }
}
