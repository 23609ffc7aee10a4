//! What an attack on one training run proves about it: a lower bound on `ε`, to hold against what accountants claim.
//!
//! Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846. Of `m` canaries, which are
//! units of the data, each is put into the data or left out by a fair coin of its own. The auditor sees what the run
//! released, guesses "in" or "out" for `r` canaries of its choice, and is right for `v` of them. Under `(ε, δ)`-differential
//! privacy `r` guesses are hardly better than `r` coins of probability `e^ε / (1 + e^ε)`; where they were, `ε` is refuted.
//!
//! A lower bound below the claimed `ε` proves nothing: the attack may be poor. One above it proves a bug, or a claim that is
//! wrong, up to the confidence asked for. So an audit is a test of a private step and never its proof.

use crate::{PrivacyError, error};

/// Beyond it the least likely of two outcomes of a coin is below the smallest f64; no audit gets there.
const LARGEST_EPSILON: f64 = 700.0;

/// Halvings of an interval of at most `LARGEST_EPSILON`: it ends below 1e-9.
const HALVINGS: u32 = 40;

/// The result of guessing canaries of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guesses {
    canaries: u32,
    made: u32,
    correct: u32,
}

impl Guesses {
    /// `canaries` units with a fair coin each, guesses `made` about as many of them, and how many were `correct`.
    ///
    /// How many to make, and about which canaries, may follow from what was released, but not from the coins.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for more guesses than canaries or more correct ones than guesses.
    pub fn new(canaries: u32, made: u32, correct: u32) -> Result<Self, PrivacyError> {
        let parameter =
            |name, expected, found: u32| Err(PrivacyError::Parameter { name, expected, found: f64::from(found) });
        if made > canaries {
            return parameter("guesses", "at most the number of canaries", made);
        }
        if correct > made {
            return parameter("correct guesses", "at most the number of guesses", correct);
        }
        Ok(Self { canaries, made, correct })
    }

    /// How likely so many correct guesses are, at most, if the run is `(epsilon, delta)`-differentially private.
    ///
    /// Theorem 5.2 as computed in their appendix D: with `W` the number of heads among `r` coins of probability
    /// `e^ε / (1 + e^ε)`, it is `P[W >= v] + 2mδ · max over i of P[v > W >= v - i] / i`, for `i` from 1 to `v`; more would
    /// not make the maximum larger.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for an `epsilon` that is negative or not finite or a `delta` outside `[0, 1]`.
    pub fn p_value(&self, epsilon: f64, delta: f64) -> Result<f64, PrivacyError> {
        error::check_epsilon(epsilon)?;
        if !(0.0..=1.0).contains(&delta) {
            return Err(PrivacyError::Parameter { name: "delta", expected: "a number from 0 to 1", found: delta });
        }
        Ok(self.probability(epsilon, delta))
    }

    /// The largest `ε` that the guesses refute at this `delta`, to within 1e-9 and from below; 0 where they refute none.
    ///
    /// If the run is `(ε, delta)`-differentially private, a number above that `ε` has probability at most
    /// `1 - confidence`. It is a statement about one audit: among twenty, one may be wrong at 95 %.
    ///
    /// # Errors
    /// [`PrivacyError::Parameter`] for a `delta` outside `[0, 1]` or a `confidence` that is not between 0 and 1.
    pub fn epsilon_lower_bound(&self, delta: f64, confidence: f64) -> Result<f64, PrivacyError> {
        if !(confidence > 0.0 && confidence < 1.0) {
            let expected = "a number between 0 and 1, both excluded";
            return Err(PrivacyError::Parameter { name: "confidence", expected, found: confidence });
        }
        let refutes = |epsilon| Ok::<_, PrivacyError>(self.p_value(epsilon, delta)? < 1.0 - confidence);
        if !refutes(0.0)? {
            return Ok(0.0);
        }
        let (mut low, mut high) = (0.0, LARGEST_EPSILON);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            *(if refutes(middle)? { &mut low } else { &mut high }) = middle;
        }
        Ok(low)
    }

    fn probability(&self, epsilon: f64, delta: f64) -> f64 {
        let heads = heads(self.made, epsilon);
        let (below, reached) = heads.split_at(self.correct as usize);
        // The smallest terms first, so that rounding stays a share of the sum.
        let reached: f64 = reached.iter().rev().sum();
        let (mut sum, mut steepest) = (0.0, 0.0_f64);
        for (count, term) in (1..).zip(below.iter().rev()) {
            sum += term;
            steepest = steepest.max(sum / f64::from(count));
        }
        (reached + 2.0 * f64::from(self.canaries) * delta * steepest).min(1.0)
    }
}

/// `P[W = k]` for `k` from 0 to `coins`, each by its logarithm: `(1 - p)^coins` alone may be below the smallest f64.
///
/// Neighbouring logarithms differ by `ln((coins - k) / (k + 1)) + ε`. They are at most `coins · (ε + 1)` in size and each
/// addition errs by at most `2⁻⁵³` of that, so that a probability is off by at most a share of `coins² · (ε + 1) · 2⁻⁵³`:
/// 1e-9 for a thousand coins and `ε = 8`.
fn heads(coins: u32, epsilon: f64) -> Vec<f64> {
    let tail = -epsilon - (-epsilon).exp().ln_1p();
    let mut logarithm = f64::from(coins) * tail;
    let mut heads = Vec::with_capacity(coins as usize + 1);
    for k in 0..=coins {
        heads.push(logarithm.exp());
        logarithm += f64::from(coins - k).ln() - f64::from(k + 1).ln() + epsilon;
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Guesses = Guesses { canaries: 1000, made: 200, correct: 160 };

    fn bound(made: u32, correct: u32, delta: f64) -> f64 {
        Guesses::new(1000, made, correct).unwrap().epsilon_lower_bound(delta, 0.95).unwrap()
    }

    #[test]
    fn chance_refutes_nothing() {
        // 112 of 200 is the largest number that a fair coin passes with more than 5 %.
        for (made, correct) in [(0, 0), (1, 1), (4, 4), (200, 0), (200, 100), (200, 112)] {
            assert_eq!(bound(made, correct, 1e-5).to_bits(), 0, "{correct} of {made}");
        }
        // 113 heads and more of 200, and five of five, have 4 % and 3 %.
        assert!(bound(200, 113, 0.0) > 0.0 && bound(5, 5, 0.0) > 0.0);
    }

    #[test]
    fn without_delta_all_correct_is_a_power() {
        // q^r = 1 - confidence, so ε = -ln(0.05^(-1/r) - 1); a share of 1e-10 of p-values is far below the 1e-9 of ε.
        for made in [5, 10, 100, 1000] {
            let expected = -(0.05_f64.powf(-1.0 / f64::from(made)) - 1.0).ln();
            assert!((bound(made, made, 0.0) - expected).abs() < 2e-9, "{made}: {}", bound(made, made, 0.0));
        }
    }

    #[test]
    fn more_correct_guesses_refute_more() {
        for delta in [0.0, 1e-5, 1e-3] {
            let bounds: Vec<f64> = (0..=200).map(|correct| bound(200, correct, delta)).collect();
            assert!(bounds.windows(2).all(|pair| pair[0] <= pair[1]), "{bounds:?}");
            assert!(bounds[120..].windows(2).all(|pair| pair[0] < pair[1]) || delta > 1e-4, "{bounds:?}");
        }
    }

    #[test]
    fn a_larger_delta_and_more_canaries_refute_less() {
        let bounds = [0.0, 1e-6, 1e-5, 1e-4, 1e-3].map(|delta| bound(200, 160, delta));
        assert!(bounds.windows(2).all(|pair| pair[0] > pair[1]), "{bounds:?}");
        let of = |canaries| Guesses::new(canaries, 200, 160).unwrap().epsilon_lower_bound(1e-5, 0.95).unwrap();
        assert!(of(200) > of(1000) && of(1000) > of(10_000));
        assert_eq!(bound(200, 200, 1.0).to_bits(), 0, "at delta 1 everything is private");
    }

    #[test]
    fn what_is_refuted_has_a_smaller_p_value_than_what_is_not() {
        for delta in [0.0, 1e-5, 1e-4] {
            let bound = MANY.epsilon_lower_bound(delta, 0.95).unwrap();
            let p = |epsilon| MANY.p_value(epsilon, delta).unwrap();
            // The bisection would be no answer if the p-value fell again before it.
            let refuted = (0..=1000).map(|k| p(bound * f64::from(k) / 1000.0));
            assert!(refuted.clone().all(|p| p < 0.05) && refuted.is_sorted(), "delta {delta}");
            assert!(p(bound + 1e-8) >= 0.05, "delta {delta}");
        }
    }

    #[test]
    fn probabilities_sum_to_one_where_their_parts_leave_the_range_of_floats() {
        for epsilon in [0.0, 1.0, 20.0, LARGEST_EPSILON] {
            let sum: f64 = heads(5000, epsilon).iter().sum();
            // Logarithms of up to 5000 · 700, each rounded 5000 times at worst: 3.5e6 · 2^-53 · 5000.
            assert!((sum - 1.0).abs() < 2e-6, "{epsilon}: {sum}");
        }
    }

    #[test]
    fn impossible_counts_and_levels_are_refused() {
        Guesses::new(10, 11, 0).unwrap_err();
        Guesses::new(10, 5, 6).unwrap_err();
        for (delta, confidence) in
            [(-1e-9, 0.95), (1.1, 0.95), (f64::NAN, 0.95), (0.0, 0.0), (0.0, 1.0), (0.0, f64::NAN)]
        {
            MANY.epsilon_lower_bound(delta, confidence).unwrap_err();
        }
        for epsilon in [-1.0, f64::NAN, f64::INFINITY] {
            MANY.p_value(epsilon, 0.0).unwrap_err();
        }
    }
}
