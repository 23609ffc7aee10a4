//! Rényi divergence of one step: `ln(A) / (α-1)` with `A = E over Q of (P/Q)^α`, `Q = N(0, s²)`, as in [`crate::loss`].
//!
//! `A` is close to 1 where a step reveals little, so what is summed is `A - 1`, from terms that are never negative.

use crate::{history::Group, loss::privacy_loss};

/// Beyond this many standard deviations the normal density is below 2e-16 of its peak.
const REACH: f64 = 8.5;

/// Below this noise multiplier the quadrature would need too many points; `ε` is in the thousands there.
const LEAST_NOISE: f64 = 0.02;

/// Whether an order takes the closed form.
pub(crate) fn is_whole(order: f64) -> bool {
    order.fract() <= 0.0
}

/// Divergence of all steps of a group.
pub(crate) fn of_group(group: &Group, order: f64) -> f64 {
    let Group { sigma, q, steps } = *group;
    // The Gaussian mechanism in closed form: arXiv 1702.07476, proposition 7.
    if q >= 1.0 {
        return steps * order / (2.0 * sigma * sigma);
    }
    steps * log_moment(sigma, q, order) / (order - 1.0)
}

/// `ln A`.
fn log_moment(sigma: f64, q: f64, order: f64) -> f64 {
    if is_whole(order) {
        return if order > 1.0 { ln_1p_exp(log_excess_whole(sigma, q, order)) } else { 0.0 };
    }
    if sigma >= LEAST_NOISE {
        return ln_1p_exp(log_excess(sigma, q, order));
    }
    // Convex in the order, so a chord is an upper bound: Wang, Balle and Kasiviswanathan, arXiv 1808.00087, corollary 10.
    let (low, high) = (order.floor(), order.ceil());
    (high - order) * log_moment(sigma, q, low) + (order - low) * log_moment(sigma, q, high)
}

/// `ln(A - 1)` at a whole order: arXiv 1908.10530, section 3.3, has
/// `A = sum over k of binomial(α, k) (1-q)^(α-k) q^k exp(k(k-1) / (2s²))`.
///
/// Without the exponential the terms add up to 1, so `A - 1` has `exp(..) - 1` instead, from `k = 2`.
fn log_excess_whole(sigma: f64, q: f64, order: f64) -> f64 {
    let (log_q, log_rest) = (q.ln(), (-q).ln_1p());
    let mut log_binomial = order.ln();
    let mut sum = LogSum::default();
    for k in 2..=order as u64 {
        let k = k as f64;
        log_binomial += ((order - k + 1.0) / k).ln();
        let weight = log_binomial + (order - k) * log_rest + k * log_q;
        sum.add(weight + ln_exp_m1(k * (k - 1.0) / (2.0 * sigma * sigma)));
    }
    sum.log()
}

/// `ln(A - 1)` at any order, by the trapezoidal rule over `t`, `x = s t`, against the standard normal density.
///
/// With `u = P/Q - 1`, which has mean 0, `A - 1 = E[(1+u)^α - 1 - αu]`, and Bernoulli's inequality makes that never
/// negative. The rule converges exponentially for functions that are analytic in a strip (Trefethen and Weideman, "The
/// Exponentially Convergent Trapezoidal Rule", SIAM Review 56, theorem 5.1). The nearest singularity is `P/Q = 0` at a
/// distance of `πs` from the real line, so at a step of `s/3` the error is below `exp(-6π² + π²s²/2)`, 1e-23 for `s <= 1`;
/// from there on the density's own `exp(-2π² 3²)` is what remains.
fn log_excess(sigma: f64, q: f64, order: f64) -> f64 {
    let step = sigma.min(1.0) / 3.0;
    // Modes: 0, α/s where the power is large, and up to 2/s where it is still quadratic in u.
    let (from, to) = (-REACH, order.max(2.0) / sigma + REACH);
    // Where the far mode, at t = α/s, is the higher one it would overflow.
    let shift = (order * (order - 1.0) / (2.0 * sigma * sigma) + order * q.ln()).max(0.0);
    let sum: f64 = (0..=((to - from) / step) as u64)
        .map(|index| {
            let t = from + index as f64 * step;
            let y = (t - 0.5 / sigma) / sigma;
            scaled_excess(y, q, order, -0.5 * t * t - shift)
        })
        .sum();
    (sum * step / std::f64::consts::TAU.sqrt()).ln() + shift
}

/// `((1+u)^α - 1 - αu) e^log_weight` for `u = q (e^y - 1)`.
fn scaled_excess(y: f64, q: f64, order: f64, log_weight: f64) -> f64 {
    let u = q * y.exp_m1();
    if u.abs() < 0.01 {
        return small_excess(u, order) * log_weight.exp();
    }
    let loss = if y > 30.0 { privacy_loss(y, q) } else { u.ln_1p() };
    // The rest is below e^-60 of the power there.
    let rest = if y > 600.0 { 0.0 } else { (1.0 + order * u) * log_weight.exp() };
    (order * loss + log_weight).exp() - rest
}

/// `(1+u)^α - 1 - αu` for `|u| < 0.01` by the binomial series, where the difference itself would cancel.
fn small_excess(u: f64, order: f64) -> f64 {
    let mut term = order * u;
    let mut sum = 0.0;
    for k in 2..12 {
        let k = f64::from(k);
        term *= (order - k + 1.0) / k * u;
        sum += term;
    }
    sum
}

/// `ln(e^x - 1)` for `x > 0`.
fn ln_exp_m1(x: f64) -> f64 {
    if x > 1.0 { x + (-(-x).exp()).ln_1p() } else { x.exp_m1().ln() }
}

/// `ln(1 + e^x)`.
fn ln_1p_exp(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

/// The logarithm of a sum of exponentials, one at a time.
struct LogSum {
    largest: f64,
    /// The sum over `e^largest`.
    scaled: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { largest: f64::NEG_INFINITY, scaled: 0.0 }
    }
}

impl LogSum {
    fn add(&mut self, log: f64) {
        if log <= self.largest {
            // Two infinities would make a NaN; a term that underflows adds nothing.
            self.scaled += if log > f64::NEG_INFINITY { (log - self.largest).exp() } else { 0.0 };
        } else {
            self.scaled = self.scaled * (self.largest - log).exp() + 1.0;
            self.largest = log;
        }
    }

    fn log(&self) -> f64 {
        self.largest + self.scaled.ln()
    }
}
