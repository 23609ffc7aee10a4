//! Rényi accounting.

use fedlora_privacy::{Accountant, RdpAccountant, renyi_divergence};
use proptest::prelude::*;

use crate::table::{assert_relative, event, read};

/// Rounding of `sum of log terms`: exponents up to 1e3 carry 1e-13, far below what is asked for.
#[test]
fn divergences_equal_their_definition() {
    for row in read("rdp_divergence") {
        let (order, expected) = (row.number("order"), row.number("divergence"));
        let found = renyi_divergence(event(row.number("sigma"), row.number("q"), 1), order).expect("valid");
        let tolerance = if order.fract() == 0.0 { 1e-9 } else { 1e-7 };
        assert_relative(found, expected, tolerance, &row);
        assert!(found >= expected * (1.0 - 1e-9), "below the truth: {found:e} of {expected:e} in {row:?}");
    }
}

#[test]
fn epsilon_at_the_orders_of_opacus_equals_its_own() {
    let accountant = RdpAccountant::with_opacus_orders();
    for row in read("rdp_epsilon") {
        let found = accountant.epsilon(&[row.event()], row.number("delta")).expect("valid");
        assert_relative(found, row.number("epsilon"), 1e-6, &row);
    }
}

#[test]
fn more_orders_never_cost() {
    for row in read("rdp_epsilon") {
        let found = RdpAccountant::new().epsilon(&[row.event()], row.number("delta")).expect("valid");
        assert!(found <= row.number("epsilon") * (1.0 + 1e-6), "{found} in {row:?}");
    }
}

/// The bound over all orders is what skipping must not change.
#[test]
fn skipped_orders_would_not_have_been_better() {
    let orders = (11..110).map(|tenth| f64::from(tenth) / 10.0).chain((12..64).map(f64::from));
    for row in read("rdp_epsilon").iter().step_by(7) {
        let delta = row.number("delta");
        let bound = |order: f64| {
            let divergence = renyi_divergence(row.event(), order).expect("valid");
            divergence + (1.0 - 1.0 / order).ln() - (delta * order).ln() / (order - 1.0)
        };
        let best = orders.clone().map(bound).fold(f64::INFINITY, f64::min).max(0.0);
        let found = RdpAccountant::with_opacus_orders().epsilon(&[row.event()], delta).expect("valid");
        assert_relative(found, best, 1e-12, row);
    }
}

/// A chord takes the place of the quadrature below a noise multiplier of 0.02.
#[test]
fn little_noise_is_bounded_from_above() {
    let divergence = |sigma, order| renyi_divergence(event(sigma, 0.01, 1), order).expect("valid");
    for order in [1.1_f64, 2.5, 10.9] {
        let (chord, truth) = (divergence(0.019_999, order), divergence(0.020_001, order));
        assert!(chord >= truth, "{chord} < {truth} at order {order}");
        assert!(chord <= divergence(0.019_999, order.ceil()), "{chord} at order {order}");
    }
}

#[test]
fn nothing_is_nan_at_the_edges() {
    for sigma in [1e-12, 1e-4, 1e-3, 0.019, 1e4, 1e8, 1e300] {
        for q in [1e-300, 1e-12, 0.5, 1.0 - f64::EPSILON, 1.0] {
            for order in [1.1, 2.0, 10.9, 4096.0] {
                let found = renyi_divergence(event(sigma, q, 1), order).expect("valid");
                assert!(found >= 0.0, "{found} for sigma {sigma}, q {q}, order {order}");
            }
        }
    }
}

#[test]
fn orders_that_mean_nothing_are_refused() {
    for order in [1.0, 0.5, f64::NAN, f64::INFINITY] {
        let error = renyi_divergence(event(1.0, 0.1, 1), order).expect_err("not an order").to_string();
        assert!(error.starts_with("order is "), "{error}");
    }
}

proptest! {
    #[test]
    fn divergence_rises_with_the_order(sigma in 0.3..20.0f64, q in 1e-5..1.0f64, order in 1.05..60.0f64, more in 0.01..5.0f64) {
        let divergence = |order| renyi_divergence(event(sigma, q, 1), order).unwrap();
        let (low, high) = (divergence(order), divergence(order + more));
        prop_assert!(high >= low * (1.0 - 1e-10), "{high} < {low}");
    }

    /// Fractional and whole orders take different ways to the same function.
    #[test]
    fn quadrature_meets_the_closed_form(sigma in 0.3..20.0f64, q in 1e-5..1.0f64, order in 2..30u32) {
        let divergence = |order| renyi_divergence(event(sigma, q, 1), order).unwrap();
        let whole = divergence(f64::from(order));
        let beside = divergence(f64::from(order) * (1.0 + 1e-13));
        prop_assert!((beside / whole - 1.0).abs() < 1e-9, "{beside} beside {whole}");
    }
}
