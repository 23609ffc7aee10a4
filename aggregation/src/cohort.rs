//! Who counts how much: weights of clients, turned into shares.

use std::fmt;

use fedlora_adapter::ClientId;
use serde::{Deserialize, Serialize};

use crate::{AggregationError, WeightedUpdate};

/// How much a client counts in a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// By its number of training examples (`FedAvg`, arXiv 1602.05629, algorithm 1).
    Examples,
    /// Every client the same. Numbers of examples are data too: under differential privacy use this.
    Uniform,
}

impl Weighting {
    /// The weight of a client that trained on this many examples.
    #[must_use]
    pub fn weight(self, examples: u64) -> f64 {
        match self {
            Self::Examples => examples as f64,
            Self::Uniform => 1.0,
        }
    }
}

/// The updates of a round in client order, each with its share `p_k`.
pub(crate) struct Cohort<'a>(Vec<(f64, &'a WeightedUpdate<'a>)>);

impl<'a> Cohort<'a> {
    /// Sorts by client, divides by the sum of the weights and leaves out what weighs nothing.
    ///
    /// Order matters: floating-point sums depend on it, and updates arrive in any order.
    pub(crate) fn new(updates: &'a [WeightedUpdate<'a>]) -> Result<Self, AggregationError> {
        if updates.is_empty() {
            return Err(AggregationError::NoUpdates);
        }
        let mut sorted: Vec<_> = updates.iter().collect();
        sorted.sort_by_key(|update| update.client);
        refuse_duplicates(sorted.iter().map(|update| update.client))?;
        if let Some(bad) = sorted.iter().find(|update| !(update.weight.is_finite() && update.weight >= 0.0)) {
            return Err(AggregationError::BadWeight { client: bad.client, weight: bad.weight });
        }
        let sum: f64 = sorted.iter().map(|update| update.weight).sum();
        if !(sum.is_finite() && sum > 0.0) {
            return Err(AggregationError::BadWeightSum { sum });
        }
        let shares: Vec<f64> = sorted.iter().map(|update| update.weight / sum).collect();
        Ok(Self(sorted.into_iter().map(|update| (0.0, update)).collect()).reweighed(&shares))
    }

    /// The updates whose new share is above 0; one share for each, in client order.
    pub(crate) fn reweighed(self, shares: &[f64]) -> Self {
        let reweighed = shares.iter().zip(self.0).map(|(&share, (_, update))| (share, update));
        Self(reweighed.filter(|(share, _)| *share > 0.0).collect())
    }

    /// Number of updates.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Shares and updates, in client order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (f64, &'a WeightedUpdate<'a>)> {
        self.0.iter().copied()
    }
}

impl fmt::Debug for Cohort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(share, update)| (share, update.client))).finish()
    }
}

/// Clients that are sorted must be different.
pub(crate) fn refuse_duplicates(mut sorted: impl Iterator<Item = ClientId>) -> Result<(), AggregationError> {
    let Some(mut last) = sorted.next() else { return Ok(()) };
    for client in sorted {
        if client == last {
            return Err(AggregationError::DuplicateClient { client });
        }
        last = client;
    }
    Ok(())
}
