//! Exponential moments of a composition, and where they say that its mass is.

/// Orders are `2^-20` to `2^17`, with either sign, and 0.
const ORDERS: usize = 38;
const SMALLEST: i32 = -20;
/// Logarithm of the mass that a window may leave out on either side.
const LOG_OUTSIDE: f64 = -30.0;

/// `ln E[e^(θL)]` of the sum `L` of all losses, at fixed orders `θ`.
#[derive(Debug)]
pub(crate) struct Moments {
    /// At `2^SMALLEST` and on.
    positive: [f64; ORDERS],
    /// At `-2^SMALLEST` and on.
    negative: [f64; ORDERS],
    /// The smallest and the largest sum, as indices.
    support: (f64, f64),
}

/// The indices of the sums that matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) first: f64,
    pub(crate) last: f64,
}

impl Window {
    /// How many indices it has.
    pub(crate) fn length(&self) -> f64 {
        self.last - self.first + 1.0
    }

    /// A bound on the mass outside.
    pub(crate) fn outside() -> f64 {
        2.0 * LOG_OUTSIDE.exp()
    }
}

impl Moments {
    pub(crate) fn new() -> Self {
        Self { positive: [0.0; ORDERS], negative: [0.0; ORDERS], support: (0.0, 0.0) }
    }

    /// Composes `steps` steps more.
    pub(crate) fn add(&mut self, atoms: &[(f64, f64)], steps: f64, interval: f64) {
        let (mut positive, mut negative) = ([0.0; ORDERS], [0.0; ORDERS]);
        let mut support = (f64::INFINITY, f64::NEG_INFINITY);
        for &(index, mass) in atoms {
            let (mut factor, mut inverse) = (1.0, 1.0);
            for order in 0..ORDERS {
                (factor, inverse) = (factor * factor, inverse * inverse);
                // Squaring doubles the relative error; it starts anew now and then.
                if order % 8 == 0 {
                    factor = (theta(order) * index * interval).exp();
                    inverse = 1.0 / factor;
                }
                if !(1e-250..1e250).contains(&factor) {
                    // No bound at these orders is of use any more.
                    let side = if factor > 1.0 { &mut positive } else { &mut negative };
                    side[order..].fill(f64::INFINITY);
                    break;
                }
                positive[order] += mass * factor;
                negative[order] += mass * inverse;
            }
            support = (support.0.min(index), support.1.max(index));
        }
        for order in 0..ORDERS {
            self.positive[order] += steps * positive[order].ln();
            self.negative[order] += steps * negative[order].ln();
        }
        self.support = (self.support.0 + steps * support.0, self.support.1 + steps * support.1);
    }

    /// The order that bounds `ε` best at `ln δ`, by Markov's inequality.
    pub(crate) fn tilt_for_delta(&self, log_delta: f64) -> f64 {
        best(|order| (self.positive[order] + log_largest_part(theta(order)) - log_delta) / theta(order))
    }

    /// The order that bounds `ln δ` best at `ε`.
    pub(crate) fn tilt_for_epsilon(&self, epsilon: f64) -> f64 {
        best(|order| self.positive[order] + log_largest_part(theta(order)) - theta(order) * epsilon)
    }

    /// Where all but `2 e^-30` of the mass is, by Chernoff's bound at the best order on either side: Koskela et al., "Tight
    /// Differential Privacy for Discrete-Valued Mechanisms", arXiv 2006.07134, section 6.
    pub(crate) fn window(&self, interval: f64) -> Window {
        let bound = |order: usize, log_moments: &[f64]| (log_moments[order] - LOG_OUTSIDE) / theta(order) / interval;
        let last = (0..ORDERS).map(|order| bound(order, &self.positive)).fold(self.support.1, f64::min).ceil();
        let first = (0..ORDERS).map(|order| -bound(order, &self.negative)).fold(self.support.0, f64::max).floor();
        Window { first, last: last.max(first) }
    }
}

/// The order with the smallest bound.
fn best(bound: impl Fn(usize) -> f64) -> f64 {
    theta((0..ORDERS).min_by(|a, b| bound(*a).total_cmp(&bound(*b))).unwrap_or(0))
}

fn theta(order: usize) -> f64 {
    libm::exp2((SMALLEST + order as i32).into())
}

/// `ln` of the largest `(1 - e^-u) e^-θu` over `u > 0`: what a mass at a loss can add to `δ`, over `e^(θ(loss - ε))`.
pub(crate) fn log_largest_part(theta: f64) -> f64 {
    -theta * (1.0 / theta).ln_1p() - theta.ln_1p()
}
