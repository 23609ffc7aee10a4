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

/// Both minimise the same bound, `αρ + ln(1 - 1/α) - ln(δα)/(α - 1)`, OpenDP over all orders and we over ours, of which
/// those above 64 are powers of two. With `L = ln(1/δα) - 1` the bound is about `αρ + L/α`, at best `(2L + 1)/α`, and `h`
/// times the best order it is larger by the factor `((L + 1)·h + (L - ln h)/h) / (2L + 1)`. Some power of two has `h` from
/// `1/√2` to `√2`, so that for `L >= 4` the factor is at most 1.076. Lower orders are closer to each other than that.
#[test]
fn epsilon_by_rdp_is_that_of_opendp_but_for_the_choice_of_orders() {
    // Best orders above 64 come with a smaller `δ` only: at 1e-3 `L` would be below 1.
    let few = [(0.5, 1), (1.0, 1), (1.0, 30), (4.0, 1), (4.0, 100), (30.0, 10)].map(|(s, t)| (s, t, 1e-3));
    let many = [(0.5, 1), (4.0, 1), (4.0, 100), (30.0, 10), (100.0, 1), (300.0, 3)];
    let many = [1e-5, 1e-8].into_iter().flat_map(|delta| many.map(|(s, t)| (s, t, delta)));
    for (sigma, steps, delta) in few.into_iter().chain(many) {
        let ours = RdpAccountant::new().epsilon(&[event(sigma, 1.0, steps)], delta).expect("valid");
        let theirs = by_opendp(sigma, steps, delta);
        // Their search ends at two neighbouring numbers, and its sums are rounded upwards.
        assert!(ours >= theirs * (1.0 - 1e-9), "sigma {sigma}, {steps} steps, delta {delta}: {ours} below {theirs}");
        assert!(ours <= theirs * 1.076, "sigma {sigma}, {steps} steps, delta {delta}: {ours}, {theirs}");
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
