//! The privacy loss of one step of the sampled Gaussian mechanism.
//!
//! One unit is in the sample with probability `q` and then moves the sum by 1, so the released value has the density of
//! `P = (1-q) N(0, s²) + q N(1, s²)` with the unit and of `Q = N(0, s²)` without it. With `y(x) = (2x-1) / (2s²)`, the loss of
//! the Gaussian mechanism itself, `ln P(x)/Q(x) = ln(1 - q + q e^y)`: Mironov, Talwar and Zhang, "Rényi Differential Privacy
//! of the Sampled Gaussian Mechanism", arXiv 1908.10530, section 3.

/// `ln(1 - q + q e^y)` for `0 < q <= 1`, to a few units in the last place; from `ln(1-q)` up.
pub(crate) fn privacy_loss(y: f64, q: f64) -> f64 {
    if y > 30.0 { y + ((1.0 - q) * (-y).exp() + q).ln() } else { (q * y.exp_m1()).ln_1p() }
}

/// The `y` of a loss; not a number for losses below `ln(1-q)`, which there are none of.
pub(crate) fn inverse_loss(loss: f64, q: f64) -> f64 {
    if loss > 1.0 { loss + (-(1.0 - q) * (-loss).exp()).ln_1p() - q.ln() } else { (loss.exp_m1() / q).ln_1p() }
}
