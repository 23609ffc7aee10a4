//! The Gaussian mechanism without sampling, in closed form.
//!
//! Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", arXiv 1805.06530, theorem 8:
//! `δ = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ)`, where `μ` is the sensitivity over the noise. `T` steps of it are one step with
//! `μ² = sum of 1/s_t²`: the mean of their releases, weighted by `1/s_t²`, is all that they say about a unit.

/// `δ` at `epsilon >= 0`, for `mu > 0`.
pub(crate) fn delta(mu: f64, epsilon: f64) -> f64 {
    let (upper, lower) = (0.5 * mu - epsilon / mu, -0.5 * mu - epsilon / mu);
    // Exponents go first: e^ε overflows where the product is small.
    (ln_normal_cdf(upper).exp() - (epsilon + ln_normal_cdf(lower)).exp()).max(0.0)
}

/// The smallest `ε` at `delta`, from above by at most 1e-13 of itself.
pub(crate) fn epsilon(mu: f64, target: f64) -> f64 {
    if delta(mu, 0.0) <= target {
        return 0.0;
    }
    // The tail bound of the normal distribution of losses, mean μ²/2 and standard deviation μ.
    let (mut low, mut high) = (0.0, 0.5 * mu * mu + mu * (-2.0 * target.ln()).sqrt());
    while high - low > 1e-13 * high {
        let middle = 0.5 * (low + high);
        *(if delta(mu, middle) <= target { &mut high } else { &mut low }) = middle;
        if middle <= 1e-300 {
            break;
        }
    }
    high
}

/// `Φ(z)` of the standard normal distribution.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

/// `ln Φ(z)`; by its asymptotic series where `Φ` is about to underflow: Abramowitz and Stegun, 26.2.12.
fn ln_normal_cdf(z: f64) -> f64 {
    if z > -30.0 {
        return normal_cdf(z).ln();
    }
    let inverse = 1.0 / (z * z);
    let series = 1.0 - inverse * (1.0 - 3.0 * inverse * (1.0 - 5.0 * inverse * (1.0 - 7.0 * inverse)));
    -0.5 * z * z - (-z * std::f64::consts::TAU.sqrt()).ln() + series.ln()
}
