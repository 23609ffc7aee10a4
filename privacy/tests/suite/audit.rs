//! Lower bounds from guesses, against SciPy.

use fedlora_privacy::audit::Guesses;

use crate::table::{Row, assert_relative, read};

fn guesses(row: &Row) -> Guesses {
    let count = |column| row.text(column).parse().expect("a count");
    Guesses::new(count("canaries"), count("guesses"), count("correct")).expect("counts that go together")
}

/// Up to 3000 guesses at `ε` up to 4: a share of 3000² · 5 · 2⁻⁵³ = 5e-9 by our own rounding.
#[test]
fn probabilities_of_guesses_equal_those_of_scipy() {
    for row in read("audit_p_value") {
        let found = guesses(&row).p_value(row.number("epsilon"), row.number("delta")).expect("valid");
        assert_relative(found, row.number("p_value"), 1e-8, &row);
    }
}

/// A bisection to 1e-9, and p-values off by 1e-8 of 0.05 or 0.01 where they rise by 0.02 or more for 1 of `ε`.
#[test]
fn lower_bounds_equal_those_of_scipy() {
    for row in read("audit_bound") {
        let found = guesses(&row).epsilon_lower_bound(row.number("delta"), row.number("confidence")).expect("valid");
        let expected = row.number("epsilon");
        assert!((found - expected).abs() <= 2.6e-8, "found {found}, expected {expected} in {row:?}");
    }
}

#[test]
fn the_example_of_the_paper_comes_out() {
    // arXiv 2305.08846, appendix D, prints three digits.
    let guesses = Guesses::new(1000, 100, 75).expect("valid");
    let found = guesses.epsilon_lower_bound(1e-4, 0.95).expect("valid");
    assert!((found - 0.673).abs() < 5e-4, "{found}");
}
