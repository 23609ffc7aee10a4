//! Coordinate median: both factors are trained and sent, and each value of the new global adapter is the median of the
//! clients' values.
//!
//! "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (arXiv 1803.01498), definition 1 and
//! option I of algorithm 1, applied to what clients send instead of to gradients: factors are of one gauge because
//! training starts from one broadcast, so their coordinates can be compared. Clients have one vote each, whatever their
//! weights. No value can leave the range of the honest clients' values while these are more than half.
//!
//! What it does not do: of clients that honestly differ it takes the middle and not the mean, which is biased where their
//! values are skewed; and lies that stay within the spread of the honest values ("A Little Is Enough", arXiv 1902.06156)
//! move it within that spread, in every round anew.

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Tensor, TensorSource};
use serde::{Deserialize, Serialize};

use super::{ANY, Method};
use crate::{
    AggregationError, Contribution, Strategy, Updates,
    order::{median, pick_each},
    parameters, votes,
};

const NAME: &str = "coordinate-median";

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: NAME,
    title: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    arxiv: "1803.01498",
    summary: "the median of each value, one vote per client: withstands a minority of liars",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: true,
    build: |table| Ok(Box::new(parameters::parse::<CoordinateMedian>(NAME, table)?)),
};

/// Parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct CoordinateMedian {
    head: HeadPolicy,
}

impl Default for CoordinateMedian {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared }
    }
}

impl Strategy for CoordinateMedian {
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
        votes::by_tensor(previous, contributions, median_of)
    }

    fn combine_head(
        &self,
        previous: &Tensor,
        contributions: &[(f64, TensorSource<'_>)],
    ) -> Result<Tensor, AggregationError> {
        median_of(previous, &votes::without_shares(contributions))
    }
}

/// The median of each value, in the shape of `previous`.
fn median_of(previous: &Tensor, sources: &[TensorSource<'_>]) -> Result<Tensor, AggregationError> {
    Ok(Tensor::new(previous.shape().to_vec(), pick_each(sources, median)?)?)
}
