//! The way back from a budget.

use fedlora_privacy::{
    Accountant, AccountantKind, PldAccountant, RdpAccountant, SampledGaussian,
    calibrate::{self, Budget},
};

use crate::table::{event, read};

#[test]
fn noise_by_rdp_equals_that_of_opacus() {
    let accountant = RdpAccountant::with_opacus_orders();
    for row in read("rdp_calibration") {
        let budget = Budget::new(row.number("target"), row.number("delta")).expect("valid");
        let found = calibrate::noise_multiplier(&accountant, budget, row.number("q"), row.steps()).expect("in reach");
        let error = (found - row.number("sigma")).abs();
        // The search ends 1e-8 of the noise above; the table's noise goes up to 200.
        assert!(error <= 1e-6 * found.max(1.0), "found {found} in {row:?}");
        let spent = accountant.epsilon(&[event(found, row.number("q"), row.steps())], budget.delta()).expect("valid");
        assert!(spent <= budget.epsilon(), "{spent} in {row:?}");
    }
}

#[test]
fn noise_by_loss_distributions_equals_that_of_the_reference() {
    let accountant = PldAccountant::new();
    for row in read("pld_calibration") {
        let budget = Budget::new(row.number("target"), row.number("delta")).expect("valid");
        let found = calibrate::noise_multiplier(&accountant, budget, row.number("q"), row.steps()).expect("in reach");
        assert!((found - row.number("sigma")).abs() <= 1e-3, "found {found} in {row:?}");
        let spent = accountant.epsilon(&[event(found, row.number("q"), row.steps())], budget.delta()).expect("valid");
        assert!(spent <= budget.epsilon(), "{spent} in {row:?}");
    }
}

#[test]
fn the_last_step_fits_and_the_next_does_not() {
    for kind in AccountantKind::ALL {
        let accountant = kind.build();
        let budget = Budget::new(1.0, 1e-5).expect("valid");
        let steps = calibrate::steps(&*accountant, budget, 1.0, 0.01).expect("valid");
        let spent = |steps| accountant.epsilon(&[event(1.0, 0.01, steps)], budget.delta()).expect("valid");
        assert!(spent(steps) <= 1.0 && spent(steps + 1) > 1.0, "{kind} {steps}");
    }
}

#[test]
fn steps_by_rdp_equal_those_of_opacus() {
    let accountant = RdpAccountant::with_opacus_orders();
    for row in read("rdp_steps") {
        let budget = Budget::new(row.number("target"), row.number("delta")).expect("valid");
        let found = calibrate::steps(&accountant, budget, row.number("sigma"), row.number("q")).expect("valid");
        // One step either way where the last one lands within 1e-6 of the budget.
        assert!(found.abs_diff(row.steps()) <= 1 + row.steps() / 1_000_000, "found {found} in {row:?}");
    }
}

#[test]
fn delta_and_epsilon_are_inverse() {
    let accountant = RdpAccountant::new();
    for row in read("rdp_epsilon").iter().step_by(5) {
        let epsilon = accountant.epsilon(&[row.event()], row.number("delta")).expect("valid");
        let delta = accountant.delta(&[row.event()], epsilon).expect("valid");
        assert!(delta <= row.number("delta") * (1.0 + 1e-9), "{delta} in {row:?}");
        assert!(epsilon == 0.0 || delta >= row.number("delta") * (1.0 - 1e-9), "{delta} in {row:?}");
    }
}

#[test]
fn impossible_budgets_are_refused() {
    let accountant = RdpAccountant::new();
    for delta in [0.0, 1.0, -1e-5, f64::NAN] {
        let error = Budget::new(1.0, delta).expect_err("not a delta").to_string();
        assert!(error.starts_with("delta is "), "{error}");
        assert!(accountant.epsilon(&[], delta).is_err());
    }
    for epsilon in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(Budget::new(epsilon, 1e-5).is_err());
        assert!(accountant.delta(&[], epsilon).is_err());
    }
    let nothing = Budget::new(0.0, 1e-9).expect("valid");
    let error = calibrate::noise_multiplier(&accountant, nothing, 0.1, 10).expect_err("out of reach");
    assert!(error.to_string().starts_with("epsilon 0 at delta 0.000000001 is out of reach"), "{error}");
}

#[test]
#[expect(clippy::float_cmp, reason = "these values are exact")]
fn budgets_at_the_edges_have_answers() {
    let accountant = RdpAccountant::new();
    let budget = Budget::new(1.0, 1e-5).expect("valid");
    assert_eq!(calibrate::noise_multiplier(&accountant, budget, 0.0, 10).expect("valid"), 0.0);
    assert_eq!(calibrate::noise_multiplier(&accountant, budget, 0.1, 0).expect("valid"), 0.0);
    assert_eq!(calibrate::steps(&accountant, budget, 0.0, 0.1).expect("valid"), 0);
    assert_eq!(calibrate::steps(&accountant, budget, 1.0, 0.0).expect("valid"), calibrate::MOST_STEPS);
    let exposed = [SampledGaussian::new(0.0, 0.1, 1).expect("valid")];
    assert_eq!(accountant.epsilon(&exposed, 1e-5).expect("valid"), f64::INFINITY);
    assert_eq!(accountant.delta(&exposed, 1.0).expect("valid"), 1.0);
    assert_eq!(accountant.epsilon(&[], 1e-5).expect("valid"), 0.0);
}
