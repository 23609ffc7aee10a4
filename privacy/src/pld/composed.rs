//! The distribution of the sum of all losses, and what it says about `ε` and `δ`.
//!
//! A Fourier transform is exact to about 1e-16 of the largest mass, and a `δ` of 1e-12 is made of the smallest ones. So the
//! distributions are tilted first, by `e^(θL)` over its mean, with the `θ` that moves the losses that matter to the middle;
//! tilting and composing commute, and rounding is then relative to `δ`. Circular convolution wraps what is outside of the
//! window into it, or drops it: at most [`Window::outside`] of the tilted mass, which [`Composed::error`] turns into `δ`.

use realfft::RealFftPlanner;

use super::{
    Rounding,
    discrete::Discrete,
    moments::{Window, log_largest_part},
    spectrum::Spectrum,
};

/// A tilted distribution of sums of losses.
pub(crate) struct Composed {
    interval: f64,
    rounding: Rounding,
    tilt: f64,
    /// `ln E[e^(θL)]`, from which tilted masses go back.
    log_norm: f64,
    /// Index of the first mass.
    first: f64,
    /// Tilted masses, by index from `first`.
    masses: Vec<f64>,
    /// Probability of an infinite loss.
    infinite: f64,
}

/// `δ` just at an index: the sums above it, by what they count for at that `ε` and there in full.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    /// Sum of `mass (1 - e^(ε-loss))`.
    delta: f64,
    /// Sum of `mass`.
    mass: f64,
}

impl Tail {
    /// `δ` at an `ε` that is `above` the index, with no mass in between.
    fn delta_above(self, above: f64) -> f64 {
        self.mass - above.exp() * (self.mass - self.delta)
    }

    /// How far above the index `δ` falls to a target.
    fn distance_to(self, target: f64) -> f64 {
        ((self.mass - target) / (self.mass - self.delta)).ln()
    }
}

impl Composed {
    /// Composes steps, each with how often it is taken, after tilting by `tilt`.
    pub(crate) fn new(
        steps: impl Iterator<Item = (Discrete, f64)>,
        (tilt, window): (f64, Window),
        interval: f64,
        rounding: Rounding,
        planner: &mut RealFftPlanner<f64>,
    ) -> Self {
        let length = fast_length(window.length() as usize);
        let mut spectrum = Spectrum::new(length, planner);
        let (mut log_norm, mut log_finite) = (0.0, 0.0);
        for (mut step, times) in steps {
            log_norm += times * step.tilt(tilt * interval);
            log_finite += times * (-step.infinite).ln_1p();
            spectrum.multiply(&step.atoms, times);
        }
        let mut masses = spectrum.into_masses();
        masses.rotate_left(window.first.rem_euclid(length as f64) as usize);
        Self { interval, rounding, tilt, log_norm, first: window.first, masses, infinite: -log_finite.exp_m1() }
    }

    /// The smallest `ε >= 0` that `delta` allows for.
    pub(crate) fn epsilon(&self, delta: f64) -> f64 {
        let step = -(-self.interval).exp_m1();
        let mut tail = Tail::default();
        for offset in (0..self.masses.len()).rev() {
            let epsilon = (self.first + offset as f64) * self.interval;
            let target = delta - self.infinite - self.error(epsilon);
            if tail.delta > target {
                return self.between(tail, target, epsilon, offset + 1 == self.masses.len());
            }
            if epsilon <= 0.0 {
                return 0.0;
            }
            self.extend(&mut tail, offset, step);
        }
        // Every index of the window keeps to `delta`, and below it there is nothing to interpolate.
        (self.first * self.interval).max(0.0)
    }

    /// The `ε` between an index that does not keep to a target and the next one that does; infinite where none did.
    fn between(&self, tail: Tail, target: f64, epsilon: f64, is_last: bool) -> f64 {
        if is_last {
            return f64::INFINITY;
        }
        let distance = tail.distance_to(target);
        let distance = if distance >= 0.0 { distance.min(self.interval) } else { self.interval };
        (epsilon + distance).max(0.0)
    }

    /// `δ` at `epsilon >= 0`.
    pub(crate) fn delta(&self, epsilon: f64) -> f64 {
        let step = -(-self.interval).exp_m1();
        let mut tail = Tail::default();
        // The index that the tail is at.
        let mut at = self.first + self.masses.len() as f64 - 1.0;
        for offset in (0..self.masses.len()).rev() {
            if at * self.interval <= epsilon {
                break;
            }
            self.extend(&mut tail, offset, step);
            at -= 1.0;
        }
        let finite = tail.delta_above(epsilon - at * self.interval).max(0.0);
        (finite + self.infinite + self.error(epsilon)).clamp(0.0, 1.0)
    }

    /// Goes one index down, past the mass at `offset`.
    fn extend(&self, tail: &mut Tail, offset: usize, step: f64) {
        let loss = (self.first + offset as f64) * self.interval;
        // Rounding may leave a mass a hair below 0.
        tail.mass += self.masses[offset].max(0.0) * (self.log_norm - self.tilt * loss).exp();
        tail.delta = (1.0 - step) * tail.delta + step * tail.mass;
    }

    /// What sums outside of the window may add to `δ`; taken off where it is a lower bound that is asked for.
    fn error(&self, epsilon: f64) -> f64 {
        let log_bound = self.log_norm - self.tilt * epsilon + log_largest_part(self.tilt);
        let error = Window::outside() * log_bound.exp();
        if self.rounding == Rounding::Up { error } else { -error }
    }
}

/// The smallest of `2^k`, `3/4 2^k` and `5/8 2^k` that is long enough, at least 16: transforms like small factors.
fn fast_length(length: usize) -> usize {
    let power = length.next_power_of_two().max(16);
    [power / 8 * 5, power / 4 * 3].into_iter().find(|candidate| *candidate >= length).unwrap_or(power)
}
