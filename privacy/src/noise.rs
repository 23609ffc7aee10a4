//! Gaussian noise on sums of clipped contributions.
//!
//! Textbook noise is a real number; a computer's is not, and its last bits tell inputs apart (Mironov, On Significance of
//! the Least Significant Bits for Differential Privacy, CCS 2012). So [`NoiseMode::Grid`] rounds the sum to multiples of
//! a public power of two `2^k`, adds an integer from the discrete Gaussian distribution, and only then goes back to f32:
//! whatever the input, the same outputs are possible, and their probabilities are those that were accounted.
//!
//! **Sizes.** `2^k` is at most `σC · 2⁻²⁴`. Rounding moves each of two neighbouring sums of `d` values by at most
//! `√d · 2^(k−1)`, so that the sensitivity is `C + √d · 2^k`; the noise is made larger by as much, and stays `σ` times
//! the sensitivity. For a million values and `σ = 1` that is 0.006 %.
//!
//! **Accounting.** For inputs on the grid the discrete Gaussian's privacy loss is the same function of the noise as the
//! continuous one's, and `E[exp(a·noise)]` is never larger (Canonne, Kamath, Steinke, The Discrete Gaussian for
//! Differential Privacy, arXiv 2004.00010, Section 2). At `2²⁴` grid steps a standard deviation the two
//! distributions differ by less than `exp(−2π²·2⁴⁸)`, so accountants for the Gaussian mechanism hold.
//!
//! **Not covered.** Sums are the caller's. An f32 sum of `B` contributions may be off by rounding, differently for
//! neighbours; sum in f64, or give a bound on the difference to [`GaussianNoise::with_extra_sensitivity`]. Nor is the
//! time covered that sampling takes: it depends on the noise, not on the data.

mod add;
mod coins;
mod discrete;
mod opendp;
mod source;

use serde::{Deserialize, Serialize};

pub use source::{NoiseRng, Origin, SecureRng, SimulatedRng};

use crate::{CLIP_SLACK, ClipBound, PrivacyError};

/// How noise is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoiseMode {
    /// Integer discrete Gaussian on a grid: what is released has the accounted distribution to the last bit.
    Grid,
    /// Floating-point normal numbers. Ten times as fast, but without protection against reading the last bits.
    Fast,
    /// As [`Grid`](Self::Grid), with integers of the OpenDP library, and its own proof that they are enough. For the one
    /// vector of a round rather than for every step: some twenty times as slow. In builds with the cargo feature `opendp`.
    #[serde(rename = "opendp")]
    OpenDp,
}

/// Noise of standard deviation `σ · sensitivity` for every value of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianNoise {
    mode: NoiseMode,
    noise_multiplier: f64,
    bound: ClipBound,
    extra_sensitivity: f64,
}

/// What was added to a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseReport {
    /// How.
    pub mode: NoiseMode,
    /// Where the randomness came from.
    pub origin: Origin,
    /// Number of values, `d`.
    pub values: usize,
    /// Standard deviation of the noise on every value, at least `σ·C`.
    pub standard_deviation: f64,
    /// The grid's `k`: every value is now a multiple of `2^k`. None in fast mode.
    pub grid_exponent: Option<i32>,
    /// `√d · 2^k`, what rounding to the grid adds to the sensitivity; it is in `standard_deviation` already.
    pub grid_sensitivity: f64,
}

impl GaussianNoise {
    /// Noise for sums of contributions clipped to `bound`; for [`LayerBounds`](crate::LayerBounds), to their total.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] unless `noise_multiplier` is finite and above 0, and `σ·C` from `2⁻¹⁰⁰` to `2¹⁰⁰`:
    /// beyond, f32 cannot hold the noise. [`PrivacyError::NoiseNotBuilt`] for a mode that the build does not have.
    pub fn new(mode: NoiseMode, noise_multiplier: f64, bound: ClipBound) -> Result<Self, PrivacyError> {
        if mode == NoiseMode::OpenDp && !cfg!(feature = "opendp") {
            return Err(PrivacyError::NoiseNotBuilt { mode });
        }
        if !(noise_multiplier.is_finite() && noise_multiplier > 0.0) {
            let expected = "a finite number above 0";
            return Err(PrivacyError::Parameter { name: "noise-multiplier", expected, found: noise_multiplier });
        }
        let deviation = noise_multiplier * bound.value();
        if !(2.0_f64.powi(-100)..=2.0_f64.powi(100)).contains(&deviation) {
            let expected = "a number from 2^-100 to 2^100, so that f32 can hold the noise";
            return Err(PrivacyError::Parameter {
                name: "noise-multiplier times clip-bound",
                expected,
                found: deviation,
            });
        }
        Ok(Self { mode, noise_multiplier, bound, extra_sensitivity: CLIP_SLACK * bound.value() })
    }

    /// Noise for sums that neighbours may move by `extra` more than the clip bound, because norms or sums are not exact.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] unless `extra` is at least 0 and at most the clip bound: an engine that is off by more
    /// does not clip.
    pub fn with_extra_sensitivity(self, extra: f64) -> Result<Self, PrivacyError> {
        if !(0.0..=self.bound.value()).contains(&extra) {
            let expected = "a number from 0 to clip-bound";
            return Err(PrivacyError::Parameter { name: "extra-sensitivity", expected, found: extra });
        }
        Ok(Self { extra_sensitivity: self.extra_sensitivity + extra, ..self })
    }

    /// How noise is made.
    #[must_use]
    pub fn mode(&self) -> NoiseMode {
        self.mode
    }

    /// Standard deviation of the noise over the sensitivity.
    #[must_use]
    pub fn noise_multiplier(&self) -> f64 {
        self.noise_multiplier
    }

    /// Adds fresh noise to every value of a sum, in place. An empty batch's sum is all zeros, and gets noise as well.
    ///
    /// The slices are the tensors of one release: give all of them at once, since the size of the noise depends on their
    /// number of values. Blocks of values have random streams of their own and are done in parallel; the result does not
    /// depend on the number of threads.
    ///
    /// # Errors
    /// [`PrivacyError::NotFinite`] for a sum that is not finite, with nothing changed; [`PrivacyError::NoRandomness`];
    /// [`PrivacyError::Parameter`] when `σ√d` is beyond what the grid can carry, about `2³⁰`; in mode
    /// [`OpenDp`](NoiseMode::OpenDp) [`PrivacyError::NoSeed`] for simulated randomness, and [`PrivacyError::OpenDp`].
    pub fn add(&self, sums: &mut [&mut [f32]], rng: &mut dyn NoiseRng) -> Result<NoiseReport, PrivacyError> {
        add::add(self, sums, rng)
    }
}

#[cfg(test)]
mod tests;
