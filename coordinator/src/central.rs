//! The server's books of client-level differential privacy: what each run has released, and the limit over all of them.
//!
//! A release is booked in the transaction that publishes its adapter. A step that is done again after a crash draws new
//! noise over the same updates; that is no second release, since nobody has seen the first.

use fedlora_adapter::{Adapter, Directive, Factors, HeadPolicy, Purpose, RoundId, Seed};
use fedlora_aggregation::{
    Aggregated, AggregationError, Destination, PrivateMean, Strategy, WeightedUpdate, Weighting, aggregate,
    aggregate_into,
};
use fedlora_privacy::{ClipBound, Epsilon, NoiseRng, Origin, PrivacyError, SampledGaussian, SecureRng, SimulatedRng};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::config::{CentralPlan, CentralRelease};

/// What all runs of a coordinator together may release about one client.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PrivacyLimit {
    /// Limit on `epsilon`.
    pub epsilon_limit: f64,
    /// The `delta` at which it is counted.
    pub delta: f64,
}

/// What a run has released.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) delta: f64,
    /// Equal releases as one.
    pub(crate) releases: Vec<SampledGaussian>,
    /// The bound for the next round.
    pub(crate) clip_bound: Option<ClipBound>,
    pub(crate) epsilon: Epsilon,
    /// Whether the noise came from a seed, and protects nobody.
    pub(crate) origin: Origin,
}

impl Account {
    /// Nothing so far.
    pub(crate) fn open(delta: f64, origin: Origin) -> Self {
        Self { delta, releases: Vec::new(), clip_bound: None, epsilon: Epsilon::default(), origin }
    }

    /// Books one round.
    pub(crate) fn charge(&mut self, release: CentralRelease) -> Result<(), PrivacyError> {
        SampledGaussian::book(&mut self.releases, release.event)?;
        self.clip_bound = Some(release.next_clip_bound);
        self.epsilon = Epsilon::of(&self.releases, self.delta)?;
        Ok(())
    }
}

/// What makes a server step private.
#[derive(Debug, Clone)]
pub struct StepPrivacy {
    /// What each round releases.
    pub plan: CentralPlan,
    /// The bound on a client's change, if rounds before have moved it.
    pub clip_bound: Option<ClipBound>,
    /// Where noise comes from.
    pub origin: Origin,
    /// The run's seed, for simulated noise.
    pub seed: Seed,
}

/// The server step, and what it released where it is private.
///
/// # Errors
/// Those of [`aggregate`] and [`PrivateMean::aggregate`](fedlora_aggregation::PrivateMean::aggregate).
pub fn server_step(
    privacy: Option<&StepPrivacy>,
    strategy: &dyn Strategy,
    round: RoundId,
    previous: &Adapter,
    updates: &[WeightedUpdate<'_>],
) -> Result<(Aggregated, Option<CentralRelease>), AggregationError> {
    let Some(privacy) = privacy else { return Ok((aggregate(strategy, round, previous, updates)?, None)) };
    privacy.release(round, |mean, rng| mean.aggregate(strategy, round, previous, updates, rng))
}

/// As [`server_step`], but the parts of the new adapter go to `destination`; the residual, and what was released.
///
/// # Errors
/// Those of [`aggregate_into`] and
/// [`PrivateMean::aggregate_into`](fedlora_aggregation::PrivateMean::aggregate_into).
pub(crate) fn server_step_into(
    privacy: Option<&StepPrivacy>,
    strategy: &dyn Strategy,
    round: RoundId,
    previous: &Adapter,
    updates: &[WeightedUpdate<'_>],
    destination: &mut dyn Destination,
) -> Result<(Option<f64>, Option<CentralRelease>), AggregationError> {
    let Some(privacy) = privacy else {
        return Ok((aggregate_into(strategy, round, previous, updates, destination)?, None));
    };
    let step = |mean: &mut PrivateMean, rng: &mut dyn NoiseRng| {
        mean.aggregate_into(strategy, round, previous, updates, rng, destination)
    };
    privacy.release(round, step).map(|((), release)| (None, release))
}

/// Weight of an update in the server step: for a private one at most 1.
#[must_use]
pub fn step_weight(privacy: Option<&StepPrivacy>, weighting: Weighting, examples: u64) -> f64 {
    match privacy {
        Some(privacy) => privacy.plan.terms().weight(weighting, examples),
        None => weighting.weight(examples),
    }
}

impl StepPrivacy {
    /// Does a private step, and says what it released.
    fn release<T>(
        &self,
        round: RoundId,
        step: impl FnOnce(&mut PrivateMean, &mut dyn NoiseRng) -> Result<T, AggregationError>,
    ) -> Result<(T, Option<CentralRelease>), AggregationError> {
        let mut mean = self.plan.mean(self.clip_bound)?;
        let (clip_bound, mut rng) = (mean.bound(), self.rng(round)?);
        let done = step(&mut mean, &mut *rng)?;
        Ok((done, Some(CentralRelease { event: self.plan.event(), clip_bound, next_clip_bound: mean.bound() })))
    }

    fn rng(&self, round: RoundId) -> Result<Box<dyn NoiseRng>, PrivacyError> {
        if self.origin == Origin::OperatingSystem {
            return Ok(Box::new(SecureRng::from_os()?));
        }
        // Whoever knows the seed can take this off.
        let mut key = [0; 32];
        self.seed.round(Purpose::Privacy, round).fill_bytes(&mut key);
        Ok(Box::new(SimulatedRng::from_seed(key)))
    }
}

/// Whether clients send anything under a directive, so that there is something to protect.
#[must_use]
pub fn is_released(directive: Directive) -> bool {
    directive.upload != Factors::Neither || directive.head == HeadPolicy::Shared
}
