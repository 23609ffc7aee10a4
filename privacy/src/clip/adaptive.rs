//! A clip bound that follows a quantile of the norms.
//!
//! Andrew et al., Differentially Private Learning with Adaptive Clipping, arXiv 1905.03871, Algorithm 1. Each step
//! releases, besides the noised sum, a noised count of the units within the bound; the bound moves by
//! `C ← C · exp(−η(b̃ − γ))`, where `b̃` is the noised share of units within the bound and `γ` the wanted quantile.
//!
//! A unit moves the count by `b − 1/2`, so by 1/2 in length, whether it is within the bound or not. Sum and count
//! together cost as much as one sum with multiplier `σ` when the sum alone has `(σ⁻² − (2σ_b)⁻²)^(−1/2)` (Theorem 1).

use super::ClipBound;
use crate::{GaussianNoise, NoiseMode, NoiseRng, PrivacyError};

/// Share of the norms that the bound should leave alone.
const QUANTILE: f64 = 0.5;
/// How fast the bound moves, in logarithm per unit of share.
const RATE: f64 = 0.2;
/// The most that one step may move the bound, in logarithm: tiny batches have noise far beyond shares from 0 to 1.
const LARGEST_MOVE: f64 = 1.0;
/// Where the bound stops, so that it can be used in f32 arithmetic.
const RANGE: (f64, f64) = (1e-20, 1e20);
/// Half of this many units, and all smaller halves, are exact in f32.
const MAX_UNITS: usize = 1 << 23;

/// The state of an adaptive bound: quantile 0.5, rate 0.2.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptiveClip {
    bound: ClipBound,
    expected_units: f64,
    count_noise: GaussianNoise,
    gradient_noise_multiplier: f64,
}

impl AdaptiveClip {
    /// A `σ_b` for most uses: a twentieth of the expected units, as in the paper (section 3.1), or twice the noise
    /// multiplier where that is more. There the count costs a sixteenth of the step.
    #[must_use]
    pub fn usual_count_deviation(noise_multiplier: f64, expected_units: f64) -> f64 {
        (expected_units / 20.0).max(2.0 * noise_multiplier)
    }

    /// Starts at `bound`.
    ///
    /// `noise_multiplier` is `σ`, what is to be accounted for one step as a whole; `count_deviation` is `σ_b`, the
    /// standard deviation of the noise on the count of units; `expected_units` is `q·n`, the expected size of a sample.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for values outside their ranges, and when `σ ≥ 2σ_b`: the count alone would then cost
    /// more than the step may.
    pub fn new(
        bound: ClipBound,
        noise_multiplier: f64,
        count_deviation: f64,
        expected_units: f64,
        mode: NoiseMode,
    ) -> Result<Self, PrivacyError> {
        let parameter = |name, expected, found| Err(PrivacyError::Parameter { name, expected, found });
        if !(noise_multiplier > 0.0 && noise_multiplier < 2.0 * count_deviation) {
            return parameter("noise-multiplier", "a number above 0, below twice count-deviation", noise_multiplier);
        }
        if !(expected_units.is_finite() && expected_units > 0.0) {
            return parameter("expected-units", "a finite number above 0", expected_units);
        }
        let count_noise = GaussianNoise::new(mode, 2.0 * count_deviation, ClipBound::new(0.5)?)?;
        let share = noise_multiplier / (2.0 * count_deviation);
        let gradient_noise_multiplier = noise_multiplier / ((1.0 - share) * (1.0 + share)).sqrt();
        if !gradient_noise_multiplier.is_finite() {
            return parameter("noise-multiplier", "a number clearly below twice count-deviation", noise_multiplier);
        }
        Ok(Self { bound: clamp(bound.value())?, expected_units, count_noise, gradient_noise_multiplier })
    }

    /// The bound for the next step. Public once the steps before are.
    #[must_use]
    pub fn bound(&self) -> ClipBound {
        self.bound
    }

    /// Noise multiplier of the sum, above the accounted one.
    #[must_use]
    pub fn gradient_noise_multiplier(&self) -> f64 {
        self.gradient_noise_multiplier
    }

    /// Moves the bound after a step in which `within` of the `units` in the sample were not longer than it.
    ///
    /// Both counts are private; what becomes of them here is not. Dropped units are not within the bound.
    ///
    /// # Errors
    /// [`PrivacyError::NoRandomness`]; [`PrivacyError::Parameter`] when more units are within the bound than there are, or
    /// more than `2²³` in the sample.
    pub fn update(&mut self, within: usize, units: usize, rng: &mut dyn NoiseRng) -> Result<ClipBound, PrivacyError> {
        if within > units {
            let expected = "at most the number of units in the sample";
            return Err(PrivacyError::Parameter { name: "within", expected, found: within as f64 });
        }
        if units > MAX_UNITS {
            return Err(PrivacyError::Parameter { name: "units", expected: "at most 2^23", found: units as f64 });
        }
        let mut centred = [(within as f64 - units as f64 / 2.0) as f32];
        self.count_noise.add(&mut [&mut centred], rng)?;
        let share = 0.5 + f64::from(centred[0]) / self.expected_units;
        let step = (-RATE * (share - QUANTILE)).clamp(-LARGEST_MOVE, LARGEST_MOVE);
        self.bound = clamp(self.bound.value() * step.exp())?;
        Ok(self.bound)
    }
}

fn clamp(bound: f64) -> Result<ClipBound, PrivacyError> {
    ClipBound::new(bound.clamp(RANGE.0, RANGE.1))
}
