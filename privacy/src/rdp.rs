//! Accounting by Rényi differential privacy: fast, and never far off where steps are many.
//!
//! `(α, R)`-RDP composes by adding `R` at every order `α`: Mironov, "Rényi Differential Privacy", arXiv 1702.07476,
//! proposition 1. It becomes `(ε, δ)` by the best order of
//! `ε = R + ln((α-1)/α) - (ln δ + ln α) / (α-1)`: Balle et al., "Hypothesis Testing Interpretations and Rényi Differential
//! Privacy", arXiv 1905.09982, theorem 21; Canonne, Kamath and Steinke, arXiv 2004.00010, proposition 12.

mod divergence;

use crate::{
    Accountant, PrivacyError, SampledGaussian,
    error::{check_delta, check_epsilon},
    history::{Group, History},
};

/// Orders beyond Opacus', for much noise: without them `ε` has a floor of about 0.1 at `δ = 1e-5`.
const HIGH_ORDERS: [f64; 6] = [128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// Adds up Rényi divergences at fixed orders.
#[derive(Debug, Clone, PartialEq)]
pub struct RdpAccountant {
    /// Whole numbers first: they cost less, and what they find spares most of the others.
    orders: Vec<f64>,
}

impl RdpAccountant {
    /// Orders 1.1 to 10.9 in tenths, 12 to 63 in ones, and the powers of two from 128 to 4096.
    #[must_use]
    pub fn new() -> Self {
        Self::with_orders(opacus_orders().chain(HIGH_ORDERS))
    }

    /// Only the orders that Opacus 1.6 uses by default, to compare with it: 1.1 to 10.9 in tenths, 12 to 63 in ones.
    #[must_use]
    pub fn with_opacus_orders() -> Self {
        Self::with_orders(opacus_orders())
    }

    fn with_orders(orders: impl Iterator<Item = f64>) -> Self {
        let (mut whole, fractional): (Vec<f64>, Vec<f64>) = orders.partition(|order| divergence::is_whole(*order));
        whole.extend(fractional);
        Self { orders: whole }
    }

    /// The smallest `objective(order, divergence)` of a history, for an objective that rises in the divergence.
    ///
    /// The divergence rises in the order, so the one at a lower order bounds it from below; most orders are out of
    /// question by that bound alone.
    fn minimum(&self, groups: &[Group], objective: impl Fn(f64, f64) -> f64) -> f64 {
        let mut best = f64::INFINITY;
        let mut known: Vec<(f64, f64)> = Vec::with_capacity(self.orders.len());
        for &order in &self.orders {
            let below = known.iter().filter(|(other, _)| *other < order);
            let floor = below.map(|(_, divergence)| *divergence).fold(0.0, f64::max);
            if objective(order, floor) < best {
                let divergence = groups.iter().map(|group| divergence::of_group(group, order)).sum();
                best = best.min(objective(order, divergence));
                known.push((order, divergence));
            }
        }
        best
    }
}

impl Default for RdpAccountant {
    fn default() -> Self {
        Self::new()
    }
}

impl Accountant for RdpAccountant {
    fn epsilon(&self, history: &[SampledGaussian], delta: f64) -> Result<f64, PrivacyError> {
        check_delta(delta)?;
        let epsilon = |order: f64, divergence: f64| {
            divergence + (-1.0 / order).ln_1p() - (delta.ln() + order.ln()) / (order - 1.0)
        };
        Ok(match History::new(history) {
            History::Silent => 0.0,
            History::Exposed => f64::INFINITY,
            History::Noisy(groups) => self.minimum(&groups, epsilon).max(0.0),
        })
    }

    fn delta(&self, history: &[SampledGaussian], epsilon: f64) -> Result<f64, PrivacyError> {
        check_epsilon(epsilon)?;
        let log_delta =
            |order: f64, divergence: f64| (order - 1.0) * (divergence - epsilon + (-1.0 / order).ln_1p()) - order.ln();
        Ok(match History::new(history) {
            History::Silent => 0.0,
            History::Exposed => 1.0,
            History::Noisy(groups) => self.minimum(&groups, log_delta).exp().min(1.0),
        })
    }
}

/// Rényi divergence of `order` between neighbours after all steps of `event`, in nats; infinite without noise.
///
/// Of the two directions this is the larger one, with the unit against without it: arXiv 1908.10530, theorem 5.
///
/// # Errors
/// An `order` that is not a finite number above 1.
pub fn renyi_divergence(event: SampledGaussian, order: f64) -> Result<f64, PrivacyError> {
    if !(order > 1.0 && order.is_finite()) {
        return Err(PrivacyError::Parameter { name: "order", expected: "a finite number above 1", found: order });
    }
    Ok(match History::new(&[event]) {
        History::Silent => 0.0,
        History::Exposed => f64::INFINITY,
        History::Noisy(groups) => groups.iter().map(|group| divergence::of_group(group, order)).sum(),
    })
}

fn opacus_orders() -> impl Iterator<Item = f64> {
    let tenths = (11..110).map(|tenth| f64::from(tenth) / 10.0);
    tenths.chain((12..64).map(f64::from))
}
