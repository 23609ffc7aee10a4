//! What holds for every accountant and every history.

use fedlora_privacy::{Accountant, AccountantKind, PldAccountant, RdpAccountant, SampledGaussian};
use proptest::prelude::*;

use crate::table::{assert_relative, event, read};

const DELTA: f64 = 1e-5;

/// Numerical noise of an `ε`, absolute: rounding is relative to `δ`, and `ε` moves by that over the tilt.
const NOISE: f64 = 1e-9;

fn epsilon(accountant: &dyn Accountant, history: &[SampledGaussian]) -> f64 {
    accountant.epsilon(history, DELTA).expect("valid")
}

/// Steps that take little time to account for.
fn step() -> impl Strategy<Value = (f64, f64, u64)> {
    (0.6..8.0f64, 1e-4..0.1f64, 1..200u64)
}

#[test]
fn without_sampling_epsilon_is_exact() {
    let accountant = PldAccountant::new();
    for row in read("gaussian") {
        let event = event(row.number("sigma"), 1.0, row.steps());
        let (delta, expected) = (row.number("delta"), row.number("epsilon"));
        let found = accountant.epsilon(&[event], delta).expect("valid");
        assert!((-1e-9..=1e-3).contains(&(found - expected)), "{found} in {row:?}");
        let back = accountant.delta(&[event], found).expect("valid");
        assert!(back <= delta * (1.0 + 1e-9) && (expected == 0.0 || back >= delta * 0.999), "{back} in {row:?}");
    }
}

/// The way through grid and transforms, which a rate just below 1 takes.
#[test]
fn nearly_full_sampling_is_nearly_the_gaussian_mechanism() {
    let accountant = PldAccountant::new();
    for row in read("gaussian") {
        let (sigma, expected) = (row.number("sigma"), row.number("epsilon"));
        // A billionth less sampling lowers ε by at most a billionth of its slope in q, which is about ε.
        let slack = 1e-8 * (1.0 + expected);
        if expected > 200.0 || sigma > 1000.0 {
            continue;
        }
        let found = accountant.epsilon(&[event(sigma, 1.0 - 1e-9, row.steps())], row.number("delta")).expect("valid");
        assert!(found >= expected - slack, "{found} in {row:?}");
        // 1e-8 / 8 per step is what an interval of 1e-4 adds to the mean loss.
        let pessimism = 2e-3 + 2e-4 * expected + 2e-9 * row.steps() as f64;
        assert!(found <= expected + pessimism, "{found} in {row:?}");
    }
}

#[test]
fn edges_are_0_or_infinite_and_never_nan() {
    for kind in AccountantKind::ALL {
        let accountant = kind.build();
        let epsilon = |sigma, q, steps| epsilon(&*accountant, &[event(sigma, q, steps)]).to_bits();
        for (sigma, q, steps) in [(1.0, 0.0, 10), (1.0, 0.1, 0), (0.0, 0.0, 10), (0.0, 0.5, 0)] {
            assert_eq!(epsilon(sigma, q, steps), 0.0_f64.to_bits(), "{kind} {sigma} {q} {steps}");
        }
        for q in [1e-6, 0.5, 1.0] {
            assert_eq!(epsilon(0.0, q, 1), f64::INFINITY.to_bits(), "{kind} {q}");
        }
        for sigma in [1e-4, 0.01, 0.1, 1e4, 1e6, 1e12] {
            for q in [1e-12, 0.01, 0.999, 1.0] {
                for steps in [1, 1000] {
                    assert!(f64::from_bits(epsilon(sigma, q, steps)) >= 0.0, "{kind} {sigma} {q} {steps}");
                }
            }
        }
    }
}

#[test]
fn much_noise_costs_next_to_nothing() {
    for kind in AccountantKind::ALL {
        let found = epsilon(&*kind.build(), &[event(1e4, 0.01, 100)]);
        // The floor of Rényi accounting at order 4096 and this δ.
        assert!(found <= 1e-3, "{kind} {found}");
    }
}

/// Many orders of magnitude, and each still inverts the other.
#[test]
fn delta_and_epsilon_are_inverse() {
    let accountant = PldAccountant::new();
    for delta in [1e-2, 1e-5, 1e-9, 1e-15, 1e-25] {
        let history = [event(0.8, 0.01, 500), event(1.5, 0.1, 10)];
        let found = accountant.epsilon(&history, delta).expect("valid");
        let back = accountant.delta(&history, found).expect("valid");
        assert_relative(back, delta, 1e-7, &found);
    }
}

#[test]
fn kinds_have_the_names_of_the_configuration() {
    for kind in AccountantKind::ALL {
        assert_eq!(kind.name().parse::<AccountantKind>().expect("its own name"), kind);
        assert_eq!(serde_json::to_string(&kind).expect("serialisable"), format!("\"{kind}\""));
    }
    let error = "prv".parse::<AccountantKind>().expect_err("unknown").to_string();
    assert_eq!(error, "accountant is \"prv\", expected one of rdp, pld");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn less_noise_more_sampling_and_more_steps_cost((sigma, q, steps) in step(), factor in 1.01..2.0f64) {
        for kind in AccountantKind::ALL {
            let accountant = kind.build();
            let base = epsilon(&*accountant, &[event(sigma, q, steps)]);
            let more_noise = epsilon(&*accountant, &[event(sigma * factor, q, steps)]);
            let more_sampling = epsilon(&*accountant, &[event(sigma, q * factor, steps)]);
            let more_steps = epsilon(&*accountant, &[event(sigma, q, steps + 1)]);
            let more_delta = accountant.delta(&[event(sigma, q, steps)], base + 0.01).unwrap();
            prop_assert!(more_noise <= base + NOISE, "{kind}: {more_noise} with more noise than {base}");
            prop_assert!(more_sampling >= base - NOISE, "{kind}: {more_sampling} with more sampling than {base}");
            prop_assert!(more_steps >= base - NOISE, "{kind}: {more_steps} with more steps than {base}");
            prop_assert!(more_delta <= DELTA, "{kind}: {more_delta}");
        }
    }

    #[test]
    fn only_the_sum_of_steps_counts(first in step(), second in step(), part in 0.0..1.0f64) {
        let [a, b] = [first, second].map(|(sigma, q, steps)| event(sigma, q, steps));
        let early = (first.2 as f64 * part) as u64;
        let split = [event(first.0, first.1, early), b, event(first.0, first.1, first.2 - early)];
        for kind in AccountantKind::ALL {
            let accountant = kind.build();
            let whole = epsilon(&*accountant, &[a, b]).to_bits();
            prop_assert_eq!(whole, epsilon(&*accountant, &[b, a]).to_bits());
            prop_assert_eq!(whole, epsilon(&*accountant, &split).to_bits());
        }
    }

    #[test]
    fn tighter_accounting_is_never_looser((sigma, q, steps) in step()) {
        let history = [event(sigma, q, steps)];
        let coarse = epsilon(&PldAccountant::with_interval(2e-4).unwrap(), &history);
        let default = epsilon(&PldAccountant::new(), &history);
        let fine = epsilon(&PldAccountant::with_interval(5e-5).unwrap(), &history);
        prop_assert!(default <= coarse + NOISE, "{default} above {coarse}");
        prop_assert!(fine <= default + NOISE, "{fine} above {default}");
        let optimistic = epsilon(&PldAccountant::with_interval(1.25e-5).unwrap().optimistic(), &history);
        prop_assert!(optimistic <= fine + NOISE, "{optimistic} above {fine}");
        // Rounding down loses an interval per step, and rounding up adds what the tolerance against the reference allows for.
        let gap = 1.25e-5 * steps as f64 + f64::max(2e-3, 2e-4 * fine);
        prop_assert!(fine <= optimistic + gap, "{fine} far above {optimistic}");
        let rdp = epsilon(&RdpAccountant::new(), &history);
        prop_assert!(fine <= rdp + 1e-3, "{fine} above {rdp} by Rényi accounting");
    }
}
