//! Accounting backwards: the noise or the number of steps that a budget allows.
//!
//! Whatever is returned has been accounted for: its `ε` is at most the budget's, never nearly so. `ε` from a history and
//! `δ` from an `ε` are the two functions of [`Accountant`].

use crate::{
    Accountant, PrivacyError, SampledGaussian,
    error::{check_delta, check_epsilon},
};

/// Relative width of the bracket that a search for noise ends with.
const TOLERANCE: f64 = 1e-8;
/// Noise multipliers that are tried: far below any protection, and far above what leaves anything to learn from.
const NOISE: (f64, f64) = (1e-2, 1e9);
/// The most steps a search answers with.
pub const MOST_STEPS: u64 = 1 << 40;

/// A privacy guarantee to keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    epsilon: f64,
    delta: f64,
}

impl Budget {
    /// A checked guarantee: `epsilon` at least 0 and finite, `delta` between 0 and 1, both excluded.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for a value outside its range, NaN included.
    pub fn new(epsilon: f64, delta: f64) -> Result<Self, PrivacyError> {
        check_epsilon(epsilon)?;
        check_delta(delta)?;
        Ok(Self { epsilon, delta })
    }

    /// `ε`.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// `δ`.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.delta
    }
}

/// The smallest noise multiplier with which `steps` steps at `sample_rate` keep to the budget, at most 1e-8 of itself
/// above it; 0 where nothing is sampled.
///
/// # Errors
/// A sample rate outside `[0, 1]`; a budget that no noise multiplier up to 1e9 can meet.
pub fn noise_multiplier(
    accountant: &dyn Accountant,
    budget: Budget,
    sample_rate: f64,
    steps: u64,
) -> Result<f64, PrivacyError> {
    let spent = |noise: f64| accountant.epsilon(&[SampledGaussian::new(noise, sample_rate, steps)?], budget.delta);
    if spent(0.0)? <= 0.0 {
        return Ok(0.0);
    }
    let mut high = End::new(1.0, spent(1.0)?);
    let mut low = high;
    while high.epsilon > budget.epsilon {
        if high.noise >= NOISE.1 {
            return Err(out_of_reach("noise-multiplier", high.noise, budget, high.epsilon));
        }
        low = high;
        high = End::new(low.noise * 2.0, spent(low.noise * 2.0)?);
    }
    while low.epsilon <= budget.epsilon && low.noise > NOISE.0 {
        high = low;
        low = End::new(high.noise / 2.0, spent(high.noise / 2.0)?);
    }
    if low.epsilon <= budget.epsilon { Ok(low.noise) } else { narrow(low, high, budget.epsilon, spent) }
}

/// One end of a bracket around the noise that just meets a budget.
#[derive(Debug, Clone, Copy)]
struct End {
    noise: f64,
    epsilon: f64,
}

impl End {
    fn new(noise: f64, epsilon: f64) -> Self {
        Self { noise, epsilon }
    }

    /// How far the logarithm of `ε` is above the target's; 0 has the logarithm of a very small number.
    fn excess(self, target: f64) -> f64 {
        self.epsilon.clamp(1e-12, 1e12).ln() - target.max(1e-12).ln()
    }
}

/// Shrinks a bracket by interpolating `ln ε`, which is nearly linear in `ln σ`; the upper end stays within the target.
///
/// Each guess is moved by half of the tolerance towards the far end, so that the near end soon follows, and every third
/// guess halves the bracket whatever the shape of the curve.
fn narrow(
    mut low: End,
    mut high: End,
    target: f64,
    spent: impl Fn(f64) -> Result<f64, PrivacyError>,
) -> Result<f64, PrivacyError> {
    let mut round = 0;
    while high.noise > low.noise * (1.0 + TOLERANCE) {
        round += 1;
        let (above, below) = (low.excess(target), high.excess(target));
        let width = (high.noise / low.noise).ln();
        let share = if round % 3 == 0 { 0.5 } else { above / (above - below) };
        let nudge = 0.4 * TOLERANCE * if round % 3 == 1 { 1.0 } else { -1.0 };
        let step = (share * width + nudge).clamp(0.3 * TOLERANCE, width - 0.3 * TOLERANCE);
        let noise = low.noise * step.exp();
        let guess = End::new(noise, spent(noise)?);
        if guess.epsilon <= target { high = guess } else { low = guess }
    }
    Ok(high.noise)
}

/// The most steps that keep to the budget, at most [`MOST_STEPS`]; 0 where even one is too many.
///
/// # Errors
/// A noise multiplier or sample rate outside its range.
pub fn steps(
    accountant: &dyn Accountant,
    budget: Budget,
    noise_multiplier: f64,
    sample_rate: f64,
) -> Result<u64, PrivacyError> {
    let fits = |steps| -> Result<bool, PrivacyError> {
        let event = SampledGaussian::new(noise_multiplier, sample_rate, steps)?;
        Ok(accountant.epsilon(&[event], budget.delta)? <= budget.epsilon)
    };
    let (mut within, mut beyond) = (0, 1);
    while fits(beyond)? {
        if beyond == MOST_STEPS {
            return Ok(MOST_STEPS);
        }
        within = beyond;
        beyond *= 2;
    }
    while beyond - within > 1 {
        let middle = within + (beyond - within) / 2;
        if fits(middle)? { within = middle } else { beyond = middle }
    }
    Ok(within)
}

fn out_of_reach(name: &'static str, limit: f64, budget: Budget, found: f64) -> PrivacyError {
    PrivacyError::OutOfReach { name, limit, epsilon: budget.epsilon, delta: budget.delta, found }
}
