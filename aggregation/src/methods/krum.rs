//! Krum and Multi-Krum: both factors are trained and sent, and only the updates that are nearest to their neighbours
//! count.
//!
//! "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (arXiv 1703.02757), section 4: with `f` of `n`
//! clients malicious, an update's score is the sum of its squared distances to its `n - f - 2` nearest neighbours. Krum
//! returns the update of the lowest score, Multi-Krum the mean of the `m` lowest, each with one vote whatever its weight;
//! of equal scores that of the lower client counts as the lower one. `n >= 2 f + 3`.
//!
//! Distances are those of whole updates as a model sees them: of the products `s·B·A` of all modules and of the shared
//! head; for VeRA of `lambda_b lambda_dᵀ`, on which its weight change depends linearly. So Krum's choice does not depend
//! on the gauge, in which `(B G, G⁻¹ A)` is the same update as `(B, A)`. The chosen factors are returned as they are, and
//! an update of an honest product and an absurd gauge may be chosen: bounds on factors are for those who accept updates.
//! Multi-Krum averages factors, and a mean of factors is at the mercy of the gauge. So its distances also count what the
//! product loses when two updates are averaged: next to nothing for two that trained from one broadcast in its gauge.
//!
//! With `h = n - f` and `t = n - 2 f - 1`, Krum's choice is within `sqrt(2 h (h - 2) / ((h - 1) t)) + sqrt(h / t)` root mean
//! square distances of the honest updates from their mean, whatever malicious clients send: 2.9 for two of ten. What it
//! does not do: the result is one client's, with the noise and the bias of that one; and malicious clients that agree on
//! one lie are each other's nearest neighbours, so a lie within the spread of the honest updates ("A Little Is Enough",
//! arXiv 1902.06156) may well be the choice.

mod distances;

use fedlora_adapter::{Directive, Factors, HeadPolicy, LoraFactors, RoundId, Side};
use serde::{Deserialize, Serialize};

use self::distances::{Measure, squared};
use super::{ANY, Method, fedavg};
use crate::{AggregationError, Contribution, Strategy, Updates, low_rank::Matrix, parameters, votes};

const KRUM: &str = "krum";
const MULTI_KRUM: &str = "multi-krum";

/// The registry's row.
pub(super) const METHOD: Method = Method {
    name: KRUM,
    title: "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    arxiv: "1703.02757",
    summary: "the one update whose product B A is nearest to the others'",
    kinds: ANY,
    use_rslora: None,
    init: None,
    is_reference: false,
    is_robust: true,
    build: build_krum,
};

/// The mean of several.
pub(super) const MULTI: Method = Method {
    name: MULTI_KRUM,
    summary: "the mean of the updates that are nearest to the others, one vote per client",
    build: build_multi_krum,
    ..METHOD
};

/// Parameters of Krum.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Krum {
    head: HeadPolicy,
    /// `f`: updates of a round that may be malicious. A round needs `2 f + 3` of them, and at least five.
    num_malicious_nodes: usize,
}

impl Default for Krum {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared, num_malicious_nodes: 1 }
    }
}

fn build_krum(table: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
    let Krum { head, num_malicious_nodes: malicious } = parameters::parse(KRUM, table)?;
    Ok(Box::new(Nearest { method: KRUM, head, malicious, selected: Some(1), measure: Measure::Products }))
}

/// Parameters of Multi-Krum.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct MultiKrum {
    head: HeadPolicy,
    /// `f`, as for Krum.
    num_malicious_nodes: usize,
    /// `m`: updates that are averaged; 0 for all but `f`. A round needs `f` updates more than these.
    num_nodes_to_select: usize,
}

impl Default for MultiKrum {
    fn default() -> Self {
        Self { head: HeadPolicy::Shared, num_malicious_nodes: 1, num_nodes_to_select: 0 }
    }
}

fn build_multi_krum(table: &toml::Table) -> Result<Box<dyn Strategy>, AggregationError> {
    let MultiKrum { head, num_malicious_nodes: malicious, num_nodes_to_select } = parameters::parse(MULTI_KRUM, table)?;
    let selected = (num_nodes_to_select > 0).then_some(num_nodes_to_select);
    Ok(Box::new(Nearest { method: MULTI_KRUM, head, malicious, selected, measure: Measure::ProductsAndLoss }))
}

/// Both methods.
#[derive(Debug)]
struct Nearest {
    method: &'static str,
    head: HeadPolicy,
    /// `f`.
    malicious: usize,
    /// `m`; all but `f` if there is none.
    selected: Option<usize>,
    measure: Measure,
}

impl Nearest {
    /// Whether each update is among the `m` with the lowest scores.
    fn select(&self, squared_distances: &Matrix) -> Vec<bool> {
        let scores = scores(squared_distances, self.malicious);
        let selected = self.selected.unwrap_or(scores.len().saturating_sub(self.malicious));
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // A stable sort: of equal scores the lower client is first.
        order.sort_by(|&first, &second| scores[first].total_cmp(&scores[second]));
        let mut is_selected = vec![false; scores.len()];
        order.into_iter().take(selected).for_each(|client| is_selected[client] = true);
        is_selected
    }
}

/// Each update's sum of squared distances to its `n - f - 2` nearest neighbours.
fn scores(squared_distances: &Matrix, malicious: usize) -> Vec<f64> {
    let count = squared_distances.ncols();
    let neighbours = count.saturating_sub(malicious.saturating_add(2));
    let score = |client: usize| {
        let others = (0..count).filter(|&other| other != client);
        let mut distances: Vec<f64> = others.map(|other| squared_distances[(client, other)]).collect();
        distances.sort_unstable_by(f64::total_cmp);
        distances.into_iter().take(neighbours).sum()
    };
    (0..count).map(score).collect()
}

impl Strategy for Nearest {
    fn needs_only_mean(&self) -> bool {
        false
    }

    fn directive(&self, _: RoundId) -> Directive {
        Directive { train: Factors::Both, upload: Factors::Both, download: Factors::Both, head: self.head }
    }

    fn check_count(&self, updates: usize) -> Result<(), AggregationError> {
        let Self { method, malicious, .. } = *self;
        let by_paper = malicious.saturating_mul(2).saturating_add(3);
        let needed = by_paper.max(malicious.saturating_add(self.selected.unwrap_or(1))).max(votes::FEWEST);
        if updates < needed {
            return Err(AggregationError::TooFewForMalicious { method, found: updates, malicious, needed });
        }
        Ok(())
    }

    fn shares(&self, updates: &Updates<'_>) -> Result<Vec<f64>, AggregationError> {
        let is_selected = self.select(&squared(updates, self.measure)?);
        let selected = is_selected.iter().filter(|&&is_selected| is_selected).count() as f64;
        Ok(is_selected.into_iter().map(|is_selected| if is_selected { selected.recip() } else { 0.0 }).collect())
    }

    /// The mean of what was selected: of one update, that update.
    fn combine(
        &self,
        _: RoundId,
        previous: &LoraFactors,
        contributions: &[Contribution<'_>],
    ) -> Result<LoraFactors, AggregationError> {
        let mean = |side| fedavg::mean(previous, contributions, side);
        Ok(LoraFactors { a: mean(Side::A)?, b: mean(Side::B)? })
    }
}
