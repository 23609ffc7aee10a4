//! Accounting by privacy loss distributions.

use fedlora_privacy::{Accountant, PldAccountant, SampledGaussian};

use crate::table::{Row, event, read};

/// Steps written as `sigma:q:steps`, with blanks between.
fn history(row: &Row) -> Vec<SampledGaussian> {
    let step = |text: &str| {
        let numbers: Vec<f64> = text.split(':').map(|number| number.parse().expect("a number")).collect();
        event(numbers[0], numbers[1], numbers[2] as u64)
    };
    row.text("history").split(' ').map(step).collect()
}

/// `dp_accounting` 0.6 at the same interval is itself an upper bound, so ours may be below it, by a little.
fn compare(table: &str) {
    let accountant = PldAccountant::new();
    for row in read(table) {
        let (delta, expected) = (row.number("delta"), row.number("epsilon"));
        let error = accountant.epsilon(&history(&row), delta).expect("valid") - expected;
        assert!((-1e-4..=f64::max(2e-3, 2e-4 * expected)).contains(&error), "off by {error:e} in {row:?}");
    }
}

#[test]
fn epsilon_equals_the_reference() {
    compare("pld_epsilon");
}

#[test]
fn epsilon_of_mixed_histories_equals_the_reference() {
    compare("pld_heterogeneous");
}
