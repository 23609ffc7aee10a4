//! Which units take part in a step.
//!
//! Accounting for a sample is right only for the sampling it assumes: every unit by its own coin, whatever the others
//! do. So the number of units varies, may be 0, and is never cut: a batch cut at 1.1 times its expected size has been
//! seen to raise `ε` from 1.8 to 7.7. Sums are divided by the *expected* size, since the true one is private.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{NoiseRng, PrivacyError};

/// Poisson sampling: each of `n` units with probability `q`, independently.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoissonSampler {
    units: usize,
    sample_rate: f64,
}

impl PoissonSampler {
    /// Samples of `units` units at rate `sample_rate`.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] unless the rate is from 0 to 1.
    pub fn new(units: usize, sample_rate: f64) -> Result<Self, PrivacyError> {
        if (0.0..=1.0).contains(&sample_rate) {
            return Ok(Self { units, sample_rate });
        }
        Err(PrivacyError::Parameter { name: "sample-rate", expected: "a number from 0 to 1", found: sample_rate })
    }

    /// Number of units to choose from.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }

    /// Probability of a unit to be chosen.
    #[must_use]
    pub fn sample_rate(&self) -> f64 {
        self.sample_rate
    }

    /// Expected number of units in a sample, `q·n`: what sums may be divided by, unlike the true number.
    #[must_use]
    pub fn expected_units(&self) -> f64 {
        self.sample_rate * self.units as f64
    }

    /// Indices of one step's units, ascending; perhaps none. Private data.
    ///
    /// The probability is `q` exactly for every `q ≥ 2⁻⁷⁵`, and off by less than `2⁻¹²⁸` below. Costs one random word a
    /// unit, whatever `q` is: skipping by logarithms would be faster and not exact.
    ///
    /// # Errors
    /// [`PrivacyError::NoRandomness`].
    pub fn sample(&self, rng: &mut dyn NoiseRng) -> Result<Vec<usize>, PrivacyError> {
        let mut stream = ChaCha20Rng::from_seed(rng.key()?);
        if self.sample_rate >= 1.0 {
            return Ok((0..self.units).collect());
        }
        let threshold = threshold(self.sample_rate);
        Ok((0..self.units).filter(|_| chosen(threshold, &mut stream)).collect())
    }
}

/// `q · 2¹²⁸` in two words, the first one first.
fn threshold(sample_rate: f64) -> [u64; 2] {
    // Both products and the difference are exact: scaling by a power of two, then taking off the leading bits.
    const WORD: f64 = 18_446_744_073_709_551_616.0;
    let scaled = sample_rate * WORD;
    [scaled as u64, ((scaled - scaled.floor()) * WORD) as u64]
}

/// Whether a uniform number below 1 falls below the threshold; its second word is drawn only if the first ties.
fn chosen(threshold: [u64; 2], stream: &mut impl Rng) -> bool {
    let word = stream.next_u64();
    word < threshold[0] || (word == threshold[0] && stream.next_u64() < threshold[1])
}

#[cfg(test)]
mod tests;
