//! Accounting by privacy loss distributions: as tight as it gets, in a second instead of a millisecond.
//!
//! The loss of a release is how much it changes the odds of two neighbours. Losses of independent steps add up, so their
//! distributions convolve, and `δ(ε)` is the mean of `(1 - e^(ε-L))⁺` over the sum `L`: Sommer, Meiser and Mohammadi, "Privacy
//! Loss Classes", ePrint 2018/820; Koskela, Jälkö and Honkela, arXiv 1906.03049. Distributions are put on a grid
//! ([`discrete`]), tilted and convolved by Fourier transforms ([`composed`], [`spectrum`]). Neighbours have two directions, the
//! unit removed or added; both are computed and the worse one counts.
//!
//! Every approximation is on the safe side except floating-point rounding, which is relative to `δ` and about 1e-16 per step.

mod composed;
mod discrete;
mod grid;
mod moments;
mod spectrum;

use composed::Composed;
use discrete::{Discrete, Step};
use moments::Moments;
use realfft::RealFftPlanner;

use crate::{
    Accountant, PrivacyError, SampledGaussian,
    error::{check_delta, check_epsilon},
    gaussian,
    history::{Group, History},
};

/// Below this noise multiplier a step counts as unprotected: its losses are around `10^6`.
const LEAST_NOISE: f64 = 1e-3;
/// The longest transform. Wider windows get a wider interval, so that memory stays below a few hundred MB.
const LONGEST: f64 = 4_194_304.0;
/// `ln δ` below which releases are not followed: the smallest `δ` that is resolved, far below any use.
const LEAST_LOG_DELTA: f64 = -120.0;
/// `ln` of what releases out of reach may add to `δ`, relative to it.
const LOG_OUT_OF_REACH: f64 = -26.0;

/// How many groups a tilt is found from.
const SAMPLE: usize = 64;

/// Which neighbour is the one that releases come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The one with the unit.
    Remove,
    /// The one without.
    Add,
}

/// On which side of the truth a discrete distribution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// Losses are at least the true ones.
    Up,
    /// At most.
    Down,
}

/// Composes privacy loss distributions on a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct PldAccountant {
    interval: f64,
    rounding: Rounding,
}

impl PldAccountant {
    /// With losses in multiples of 1e-4.
    #[must_use]
    pub fn new() -> Self {
        Self { interval: 1e-4, rounding: Rounding::Up }
    }

    /// With losses in multiples of `interval`, in nats: the smaller, the tighter and the slower.
    ///
    /// # Errors
    /// An interval outside `[1e-7, 1]`.
    pub fn with_interval(interval: f64) -> Result<Self, PrivacyError> {
        if (1e-7..=1.0).contains(&interval) {
            return Ok(Self { interval, rounding: Rounding::Up });
        }
        Err(PrivacyError::Parameter { name: "interval", expected: "a number from 1e-7 to 1", found: interval })
    }

    /// The same, but from below: no accountant can prove less than what this one finds.
    ///
    /// It bounds the error of the guarantee and is none itself. It is further from the truth, up to an interval per step.
    #[must_use]
    pub fn optimistic(self) -> Self {
        Self { rounding: Rounding::Down, ..self }
    }

    /// The worse of two directions, of a history that is not the Gaussian mechanism alone.
    fn worse(&self, groups: &[Group], target: Target) -> f64 {
        // Plans of transforms are kept: directions mostly share a length.
        let mut planner = RealFftPlanner::new();
        let mut value = |direction| {
            let composed = self.compose(groups, direction, target, &mut planner);
            match target {
                Target::Delta(delta) => composed.epsilon(delta),
                Target::Epsilon(epsilon) => composed.delta(epsilon),
            }
        };
        value(Direction::Remove).max(value(Direction::Add))
    }

    fn compose(
        &self,
        groups: &[Group],
        direction: Direction,
        target: Target,
        planner: &mut RealFftPlanner<f64>,
    ) -> Composed {
        let total: f64 = groups.iter().map(|group| group.steps).sum();
        // P(|z| > r) <= e^(-r²/2).
        let reach = (-2.0 * (target.log_delta() - total.ln() + LOG_OUT_OF_REACH)).sqrt();
        let steps = |interval: f64, stride: usize| {
            let step = move |group: &Group| Step::new(group, direction, reach).discretise(interval, self.rounding);
            groups.iter().step_by(stride).map(move |group| -> (Discrete, f64) { (step(group), group.steps) })
        };
        let mut interval = self.interval;
        loop {
            // Any tilt is right and a good one only precise, so a sample of many groups will do; they are sorted.
            let stride = groups.len().div_ceil(SAMPLE);
            let mut moments = Moments::new();
            for (step, times) in steps(interval, stride) {
                moments.add(&step.atoms, times * stride as f64, interval);
            }
            let tilt = target.tilt(&moments);
            let mut moments = Moments::new();
            for (mut step, times) in steps(interval, 1) {
                step.tilt(tilt * interval);
                moments.add(&step.atoms, times, interval);
            }
            let window = moments.window(interval);
            if window.length() <= LONGEST {
                return Composed::new(steps(interval, 1), (tilt, window), interval, self.rounding, planner);
            }
            interval *= libm::exp2((window.length() / LONGEST).log2().ceil().max(1.0));
        }
    }
}

impl Default for PldAccountant {
    fn default() -> Self {
        Self::new()
    }
}

/// What is given, of `ε` and `δ`.
#[derive(Debug, Clone, Copy)]
enum Target {
    Delta(f64),
    Epsilon(f64),
}

impl Target {
    /// The least `ln δ` that has to be resolved.
    fn log_delta(self) -> f64 {
        match self {
            Self::Delta(delta) => delta.ln().max(LEAST_LOG_DELTA),
            Self::Epsilon(_) => LEAST_LOG_DELTA,
        }
    }

    fn tilt(self, moments: &Moments) -> f64 {
        match self {
            Self::Delta(_) => moments.tilt_for_delta(self.log_delta()),
            Self::Epsilon(epsilon) => moments.tilt_for_epsilon(epsilon),
        }
    }
}

impl Accountant for PldAccountant {
    fn epsilon(&self, history: &[SampledGaussian], delta: f64) -> Result<f64, PrivacyError> {
        check_delta(delta)?;
        Ok(match Mixed::new(history) {
            Mixed::Silent => 0.0,
            Mixed::Exposed => f64::INFINITY,
            Mixed::Gaussian { mu } => gaussian::epsilon(mu, delta),
            Mixed::Sampled(groups) => self.worse(&groups, Target::Delta(delta)),
        })
    }

    fn delta(&self, history: &[SampledGaussian], epsilon: f64) -> Result<f64, PrivacyError> {
        check_epsilon(epsilon)?;
        Ok(match Mixed::new(history) {
            Mixed::Silent => 0.0,
            Mixed::Exposed => 1.0,
            Mixed::Gaussian { mu } => gaussian::delta(mu, epsilon),
            Mixed::Sampled(groups) => self.worse(&groups, Target::Epsilon(epsilon)),
        })
    }
}

/// A history in which all steps without sampling are one.
enum Mixed {
    Silent,
    Exposed,
    Gaussian { mu: f64 },
    Sampled(Vec<Group>),
}

impl Mixed {
    fn new(history: &[SampledGaussian]) -> Self {
        let groups = match History::new(history) {
            History::Silent => return Self::Silent,
            History::Exposed => return Self::Exposed,
            History::Noisy(groups) => groups,
        };
        let (full, mut sampled): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.q >= 1.0);
        let mu = full.iter().map(|group| group.steps / (group.sigma * group.sigma)).sum::<f64>().sqrt();
        if sampled.is_empty() {
            return Self::Gaussian { mu };
        }
        if mu > 0.0 {
            sampled.push(Group { sigma: 1.0 / mu, q: 1.0, steps: 1.0 });
        }
        if sampled.iter().any(|group| group.sigma < LEAST_NOISE) { Self::Exposed } else { Self::Sampled(sampled) }
    }
}
