//! What accountants add up: steps of the Gaussian mechanism on a random sample.

use serde::{Deserialize, Serialize};

use crate::PrivacyError;

/// `steps` releases of `sum of clipped contributions + N(0, (noise_multiplier · C)²)`, each over a fresh Poisson sample.
///
/// Units enter each sample independently with probability `sample_rate`. Neighbours differ by one unit, added or removed;
/// where the rate is a batch size over the number of units, that number is taken as known, and the unit's place may be blank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SampledGaussian {
    /// Standard deviation of the noise over the sensitivity `C`. At least 0; 0 protects nobody.
    noise_multiplier: f64,
    /// Probability of a unit to be in a sample, in `[0, 1]`; 1 is the plain Gaussian mechanism.
    sample_rate: f64,
    /// Number of releases.
    steps: u64,
}

impl SampledGaussian {
    /// Checked parameters.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for a value outside its range, NaN included.
    pub fn new(noise_multiplier: f64, sample_rate: f64, steps: u64) -> Result<Self, PrivacyError> {
        let parameter = |name, expected, found| Err(PrivacyError::Parameter { name, expected, found });
        if !(noise_multiplier.is_finite() && noise_multiplier >= 0.0) {
            return parameter("noise-multiplier", "a finite number of at least 0", noise_multiplier);
        }
        if !(0.0..=1.0).contains(&sample_rate) {
            return parameter("sample-rate", "a number from 0 to 1", sample_rate);
        }
        Ok(Self { noise_multiplier, sample_rate, steps })
    }

    /// Adds an event to a history in which equal steps stand together, in the order of their first ones.
    ///
    /// # Errors
    /// None for events that exist; [`SampledGaussian::new`]'s otherwise.
    pub fn book(history: &mut Vec<Self>, event: Self) -> Result<(), PrivacyError> {
        let alike = |one: &&mut Self| {
            one.noise_multiplier.total_cmp(&event.noise_multiplier).is_eq()
                && one.sample_rate.total_cmp(&event.sample_rate).is_eq()
        };
        match history.iter_mut().find(alike) {
            Some(one) => {
                let steps = one.steps.saturating_add(event.steps);
                *one = Self::new(event.noise_multiplier, event.sample_rate, steps)?;
            }
            None => history.push(event),
        }
        Ok(())
    }

    /// Standard deviation of the noise over the sensitivity.
    #[must_use]
    pub fn noise_multiplier(&self) -> f64 {
        self.noise_multiplier
    }

    /// Probability of a unit to be in a sample.
    #[must_use]
    pub fn sample_rate(&self) -> f64 {
        self.sample_rate
    }

    /// Number of releases.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// Turns a history of releases into one privacy guarantee.
pub trait Accountant {
    /// The smallest `ε` it can prove at this `delta` for all of `history` together; infinite where nothing protects.
    ///
    /// # Errors
    /// A `delta` outside `(0, 1)`.
    fn epsilon(&self, history: &[SampledGaussian], delta: f64) -> Result<f64, PrivacyError>;

    /// The smallest `δ` it can prove at this `epsilon` for all of `history` together; at most 1.
    ///
    /// # Errors
    /// An `epsilon` that is negative or not finite.
    fn delta(&self, history: &[SampledGaussian], epsilon: f64) -> Result<f64, PrivacyError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(noise_multiplier: f64, sample_rate: f64, steps: u64) -> SampledGaussian {
        SampledGaussian::new(noise_multiplier, sample_rate, steps).unwrap()
    }

    #[test]
    fn a_history_keeps_steps_apart_that_differ_in_noise_or_in_rate() {
        let mut history = Vec::new();
        for (noise, rate, steps) in [(1.0, 0.1, 5), (2.0, 0.1, 7), (1.0, 0.2, 11), (1.0, 0.1, 13), (1.0, 0.2, u64::MAX)]
        {
            SampledGaussian::book(&mut history, event(noise, rate, steps)).unwrap();
        }
        assert_eq!(history, [event(1.0, 0.1, 18), event(2.0, 0.1, 7), event(1.0, 0.2, u64::MAX)]);
    }
}
