//! Private training of one client: samples, clipping and noise (DP-SGD, arXiv 1607.00133, algorithm 1).
//!
//! Everything that the data touch goes through here: one norm over all trained tensors of an example, whether they are
//! sent or kept. A kept factor that was trained without noise would put the data into every later gradient of the factor
//! that is sent.

mod bounding;
mod units;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fedlora_adapter::{
    ClientId, LocalHyperparameters, NoiseLevel, PrivacyTerms, ProtectedUnit, Purpose, RoundPlan, Seed,
};
use fedlora_privacy::{
    NoiseRng, PldAccountant, PoissonSampler, PrivacyError, SampledGaussian, SecureRng, SimulatedRng, calibrate,
};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use self::bounding::Bounding;
pub use self::bounding::noise_mode;
pub(crate) use self::units::{Drawn, Units};
use crate::LearnerError;

/// Where private training takes its samples and its noise from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Randomness {
    /// The operating system: nobody can repeat it.
    #[default]
    OperatingSystem,
    /// The run's seed: an experiment that can be repeated and protects nobody.
    Seed,
}

/// One client's private training in one round.
#[derive(Debug)]
pub(super) struct Private {
    event: SampledGaussian,
    terms: PrivacyTerms,
    sampler: PoissonSampler,
    bounding: Bounding,
    units: Units,
    /// What sums are divided by: the expected size of a batch, or more where a client has fewer units than that. A
    /// divisor that every client has in common does not tell how many.
    batch_size: f64,
    rng: Box<dyn NoiseRng>,
    /// Chooses among a user's own examples; nothing rests on its being secret.
    choice: ChaCha12Rng,
}

/// The release that a plan asks of a client with `units` units (examples, or users), in one round.
///
/// # Errors
/// Terms that do not go with this number of units, or a target that no noise can meet.
fn planned_release(plan: &RoundPlan, terms: PrivacyTerms, units: usize) -> Result<SampledGaussian, PrivacyError> {
    let sample_rate = (plan.local.batch_size as f64 / units.max(1) as f64).min(1.0);
    let steps = super::batches::steps(&plan.local, units);
    let delta = terms.delta();
    if delta * units as f64 >= 1.0 {
        let expected = match terms.unit() {
            ProtectedUnit::Example => "below one over the client's number of examples",
            ProtectedUnit::User => "below one over the client's number of users",
        };
        return Err(PrivacyError::Parameter { name: "target-delta", expected, found: delta });
    }
    let noise_multiplier = match terms.noise() {
        NoiseLevel::Multiplier(multiplier) => multiplier,
        NoiseLevel::Target { epsilon, participations } => {
            let all = steps.saturating_mul(participations.unwrap_or(plan.num_rounds));
            let budget = calibrate::Budget::new(epsilon, delta)?;
            calibrate::noise_multiplier(&PldAccountant::new(), budget, sample_rate, all)?
        }
    };
    SampledGaussian::new(noise_multiplier, sample_rate, steps)
}

/// Releases found so far, by number of units: a target's noise takes a search, and is the same in every round.
#[derive(Debug, Default)]
pub(super) struct Releases(Mutex<BTreeMap<usize, Found>>);

/// A release, and what it was found for.
#[derive(Debug)]
struct Found {
    local: LocalHyperparameters,
    num_rounds: u64,
    event: SampledGaussian,
}

impl Releases {
    /// [`planned_release`], searched for once.
    pub(super) fn find(
        &self,
        plan: &RoundPlan,
        terms: PrivacyTerms,
        units: usize,
    ) -> Result<SampledGaussian, PrivacyError> {
        let is_it = |found: &&Found| found.local == plan.local && found.num_rounds == plan.num_rounds;
        if let Some(found) = self.known().get(&units).filter(is_it) {
            return Ok(found.event);
        }
        let event = planned_release(plan, terms, units)?;
        let found = Found { local: plan.local.clone(), num_rounds: plan.num_rounds, event };
        self.known().insert(units, found);
        Ok(event)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<usize, Found>> {
        // A panic while the lock is held cannot leave half an entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Private {
    /// A client with these units at the start of its round, which amounts to `event`; `sizes` are the numbers of values of
    /// the trained tensors, in the order of a gradient.
    pub(super) fn new(
        plan: &RoundPlan,
        terms: PrivacyTerms,
        event: SampledGaussian,
        (client, units): (ClientId, Units),
        sizes: &[usize],
        randomness: Randomness,
    ) -> Result<Self, PrivacyError> {
        let bounding = Bounding::new(terms, event, units.len(), sizes)?;
        // A sum of all units is finite in f32, so that no data can stop training.
        let bound = bounding.bound().value();
        if units.len() as f64 * bound > f64::from(f32::MAX) / 2.0 {
            let expected = "a number that times the units of a client is far below the largest f32";
            return Err(PrivacyError::Parameter { name: "max-grad-norm", expected, found: bound });
        }
        Ok(Self {
            event,
            terms,
            sampler: PoissonSampler::new(units.len(), event.sample_rate())?,
            bounding,
            units,
            batch_size: plan.local.batch_size.max(1) as f64,
            rng: match randomness {
                Randomness::OperatingSystem => Box::new(SecureRng::from_os()?),
                Randomness::Seed => Box::new(simulated(plan, client)),
            },
            choice: Seed(plan.seed).client(Purpose::Shuffle, plan.round, client),
        })
    }

    /// The release as accountants see it, after `steps` of its steps.
    pub(super) fn spent(&self, steps: u64) -> Result<SampledGaussian, PrivacyError> {
        SampledGaussian::new(self.event.noise_multiplier(), self.event.sample_rate(), steps)
    }

    /// The sample of a step; perhaps none.
    pub(super) fn sample(&mut self, step: u64) -> Result<Vec<Drawn>, PrivacyError> {
        let units = self.sampler.sample(&mut *self.rng)?;
        Ok(units.into_iter().filter_map(|unit| self.units.draw(unit, self.terms, step, &self.choice)).collect())
    }

    /// Clips the gradient of one unit and adds it to a sum. One that is not finite counts as zero: to stop would tell.
    pub(super) fn add_clipped(&mut self, gradient: &mut [f32], sum: &mut [f64]) -> Result<(), PrivacyError> {
        self.bounding.clip(gradient)?;
        sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += f64::from(*value));
        Ok(())
    }

    /// The noised sum over the batch size, which is what may leave this function.
    pub(super) fn release(&mut self, sum: &[f64]) -> Result<Vec<f32>, LearnerError> {
        let mut sum: Vec<f32> = sum.iter().map(|&value| value as f32).collect();
        self.bounding.noise(self.rounding())?.add(&mut [&mut sum], &mut *self.rng)?;
        self.bounding.step(&mut *self.rng)?;
        for value in &mut sum {
            *value = (f64::from(*value) / self.batch_size) as f32;
        }
        Ok(sum)
    }

    /// Neighbouring sums are rounded once to f32, by half a unit in the last place each, after a sum in f64 whose every
    /// term may have been rounded.
    fn rounding(&self) -> f64 {
        let units = self.units.len() as f64;
        let largest = units * self.bounding.bound().value();
        f64::from(f32::EPSILON) * largest * (1.0 + units * 2.0_f64.powi(-29))
    }
}

fn simulated(plan: &RoundPlan, client: ClientId) -> SimulatedRng {
    let mut key = [0; 32];
    Seed(plan.seed).client(Purpose::Privacy, plan.round, client).fill_bytes(&mut key);
    SimulatedRng::from_seed(key)
}
