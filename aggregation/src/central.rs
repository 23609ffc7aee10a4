//! Client-level differential privacy on the server: the mean of clipped changes, with noise.
//!
//! "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963), algorithm 1, `DP-FedAvg`, with the
//! fixed-denominator estimator: client `k` changed the adapter by `D_k`, all tensors that it sent as one vector, and the
//! server installs
//!
//! ```text
//! X' = X + (sum_k w_k D_k min(1, C/‖D_k‖) + N(0, (sigma C)²)) / expected,    0 <= w_k <= 1
//! ```
//!
//! The whole change of a client moves the sum by at most `C`. The denominator is a public number, never the realised one.
//! A method sees nothing of the clients but this mean, as the update of one client that counts for all: averaging it,
//! or factoring it anew, is post-processing and costs nothing. Methods that ask more of the clients are
//! [refused](crate::Strategy::needs_only_mean).
//!
//! Sums are in f64 and in client order, so that without noise they depend on neither arrival nor threads.

mod change;

use fedlora_adapter::{Adapter, ClientId, RoundId};
use fedlora_privacy::{AdaptiveClip, ClipBound, GaussianNoise, NoiseMode, NoiseRng, PrivacyError};

use self::change::Changes;
use crate::{
    Aggregated, AggregationError, Destination, Strategy, WeightedUpdate, aggregate_into, cohort, parts::whole,
};

/// How clients' changes become one private change.
#[derive(Debug, Clone, PartialEq)]
pub struct PrivateMean {
    clipping: Clipping,
    noise_multiplier: f64,
    expected: f64,
    mode: NoiseMode,
}

/// Where the bound on a client's change comes from.
#[derive(Debug, Clone, PartialEq)]
enum Clipping {
    Fixed(ClipBound),
    Adaptive(AdaptiveClip),
}

impl PrivateMean {
    /// A bound that stays. `noise_multiplier` is `sigma`; `expected` is what sums are divided by, the expected sum of the
    /// weights.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for values outside their ranges.
    pub fn fixed(
        bound: ClipBound,
        noise_multiplier: f64,
        expected: f64,
        mode: NoiseMode,
    ) -> Result<Self, PrivacyError> {
        check_expected(expected)?;
        GaussianNoise::new(mode, noise_multiplier, bound)?;
        Ok(Self { clipping: Clipping::Fixed(bound), noise_multiplier, expected, mode })
    }

    /// A bound that follows the median of the norms ([`AdaptiveClip`], arXiv 1905.03871). `noise_multiplier` is what is
    /// accounted for sum and count together; `count_deviation` is the standard deviation of the noise on the count.
    ///
    /// # Errors
    /// As [`PrivateMean::fixed`] and [`AdaptiveClip::new`].
    pub fn adaptive(
        bound: ClipBound,
        noise_multiplier: f64,
        count_deviation: f64,
        expected: f64,
        mode: NoiseMode,
    ) -> Result<Self, PrivacyError> {
        let clip = AdaptiveClip::new(bound, noise_multiplier, count_deviation, expected, mode)?;
        let gradient_noise = clip.gradient_noise_multiplier();
        let mean = Self::fixed(clip.bound(), gradient_noise, expected, mode)?;
        Ok(Self { clipping: Clipping::Adaptive(clip), ..mean })
    }

    /// The bound for the next round. Public once the rounds before are.
    #[must_use]
    pub fn bound(&self) -> ClipBound {
        match &self.clipping {
            Clipping::Fixed(bound) => *bound,
            Clipping::Adaptive(clip) => clip.bound(),
        }
    }

    /// Combines a round's updates into the next global adapter as [`aggregate`] does, but privately. No updates at all
    /// give noise; a bound that adapts moves.
    ///
    /// Weights are from 0 to 1. There is no residual, which would be a second question to the clients.
    ///
    /// # Errors
    /// As [`aggregate`]; [`AggregationError::NotFromMean`] for a method that needs more than the mean; a weight above 1;
    /// no randomness.
    ///
    /// [`aggregate`]: crate::aggregate()
    pub fn aggregate(
        &mut self,
        strategy: &dyn Strategy,
        round: RoundId,
        previous: &Adapter,
        updates: &[WeightedUpdate<'_>],
        rng: &mut dyn NoiseRng,
    ) -> Result<Aggregated, AggregationError> {
        let step = |to: &mut dyn Destination| self.aggregate_into(strategy, round, previous, updates, rng, to);
        let (adapter, ()) = whole(previous.spec(), step)?;
        Ok(Aggregated { adapter, residual: None })
    }

    /// As [`PrivateMean::aggregate`], but gives the parts of the new adapter away. The noisy sum is in memory as a whole,
    /// since noise is drawn for all of it at once; the updates are not.
    ///
    /// # Errors
    /// As [`PrivateMean::aggregate`] and [`aggregate_into`].
    pub fn aggregate_into(
        &mut self,
        strategy: &dyn Strategy,
        round: RoundId,
        previous: &Adapter,
        updates: &[WeightedUpdate<'_>],
        rng: &mut dyn NoiseRng,
        destination: &mut dyn Destination,
    ) -> Result<(), AggregationError> {
        if !strategy.needs_only_mean() {
            return Err(AggregationError::NotFromMean);
        }
        let updates = sorted(updates)?;
        let directive = strategy.directive(round).of_kind(previous.spec().kind);
        let changes = Changes::new(previous, directive, &updates)?;
        let (mut sum, within) = changes.clipped_sum(self.bound())?;
        let noise = GaussianNoise::new(self.mode, self.noise_multiplier, self.bound())?
            .with_extra_sensitivity(rounding(updates.len(), self.bound()))?;
        let mut parts: Vec<&mut [f32]> = sum.iter_mut().map(Vec::as_mut_slice).collect();
        noise.add(&mut parts, rng)?;
        if let Clipping::Adaptive(clip) = &mut self.clipping {
            clip.update(within, updates.len(), rng)?;
        }
        let mean = changes.add_to_previous(sum, self.expected)?;
        // One client that counts for all: whatever the method makes of it is post-processing.
        let single = WeightedUpdate { client: ClientId(0), weight: 1.0, update: &mean };
        aggregate_into(strategy, round, previous, &[single], destination).map(drop)
    }
}

fn check_expected(expected: f64) -> Result<(), PrivacyError> {
    if expected.is_finite() && expected > 0.0 {
        return Ok(());
    }
    Err(PrivacyError::Parameter { name: "expected", expected: "a finite number above 0", found: expected })
}

/// In client order, whose weights are from 0 to 1: a larger one would move the sum by more than the bound.
fn sorted<'a>(updates: &'a [WeightedUpdate<'a>]) -> Result<Vec<&'a WeightedUpdate<'a>>, AggregationError> {
    let mut sorted: Vec<_> = updates.iter().collect();
    sorted.sort_by_key(|update| update.client);
    cohort::refuse_duplicates(sorted.iter().map(|update| update.client))?;
    match sorted.iter().find(|update| !(0.0..=1.0).contains(&update.weight)) {
        Some(bad) => Err(AggregationError::WeightAboveOne { client: bad.client, weight: bad.weight }),
        None => Ok(sorted),
    }
}

/// How much rounding may move neighbouring sums apart: each is rounded to f32 once, by half a unit in the last place, and
/// no longer than `K·C`. Roundings in f64 before that are a share of `2⁻²⁹` of it for each client.
fn rounding(clients: usize, bound: ClipBound) -> f64 {
    let largest = clients as f64 * bound.value();
    f64::from(f32::EPSILON) * largest * (1.0 + clients as f64 * 2.0_f64.powi(-29))
}
