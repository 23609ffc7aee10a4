//! Without sampling, zCDP by OpenDP is another way from noise to `ε`: `ρ = T/2σ²`, then (ε, δ).

use ::opendp::{
    combinators::make_zCDP_to_approxDP,
    domains::{AtomDomain, VectorDomain},
    measurements::make_gaussian,
    measures::ZeroConcentratedDivergence,
    metrics::L2Distance,
};
use fedlora_privacy::{Accountant, PldAccountant, RdpAccountant};

use crate::table::event;

/// `ε` of `steps` releases of sensitivity 1: they are one release of sensitivity `√steps`.
fn by_opendp(sigma: f64, steps: u64, delta: f64) -> f64 {
    let domain = VectorDomain::new(AtomDomain::<i64>::default());
    let gaussian = make_gaussian::<_, _, ZeroConcentratedDivergence>(domain, L2Distance::<f64>::default(), sigma, None);
    let private = make_zCDP_to_approxDP(gaussian.expect("a scale")).expect("a zCDP measurement");
    let profile = private.map(&(steps as f64).sqrt()).expect("a profile");
    profile.epsilon(delta).expect("an epsilon")
}

/// Both minimise the same bound, `αρ + ln(1 - 1/α) - ln(δα)/(α - 1)`, OpenDP over all orders and we over ours. Between
/// powers of two the best order is off by at most a factor `√2` in `α - 1`; there `(α - 1)ρ + ln(1/δ)/(α - 1)`, which is
/// `2√(ρ·ln(1/δ))` at best, is larger by a share of `(√2 + 1/√2)/2 - 1 = 6.1 %`. Orders below 64 are closer.
#[test]
fn epsilon_by_rdp_is_that_of_opendp_but_for_the_choice_of_orders() {
    for (sigma, steps) in [(0.5, 1), (1.0, 1), (1.0, 30), (4.0, 1), (4.0, 100), (30.0, 10), (100.0, 1), (300.0, 3)] {
        for delta in [1e-3, 1e-5, 1e-8] {
            let ours = RdpAccountant::new().epsilon(&[event(sigma, 1.0, steps)], delta).expect("valid");
            let theirs = by_opendp(sigma, steps, delta);
            // Both ends of their search are rounded upwards, by some steps of f64.
            assert!(ours >= theirs * (1.0 - 1e-9), "sigma {sigma}, {steps} steps: {ours} below {theirs}");
            assert!(ours <= theirs * 1.061, "sigma {sigma}, {steps} steps, delta {delta}: {ours}, {theirs}");
        }
    }
}

/// For the Gaussian mechanism PLD is exact, and conversion from zCDP an upper bound.
#[test]
fn epsilon_by_pld_is_at_most_that_of_opendp() {
    for (sigma, steps) in [(0.5, 1), (1.0, 1), (1.0, 30), (4.0, 1), (4.0, 100), (30.0, 10), (300.0, 3)] {
        for delta in [1e-3, 1e-5, 1e-8] {
            let ours = PldAccountant::new().epsilon(&[event(sigma, 1.0, steps)], delta).expect("valid");
            let theirs = by_opendp(sigma, steps, delta);
            assert!(ours <= theirs, "sigma {sigma}, {steps} steps, delta {delta}: {ours}, {theirs}");
        }
    }
}
