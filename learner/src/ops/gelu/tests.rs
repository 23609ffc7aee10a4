use super::super::testing::{assert_close, bits, constant, leaf, on_threads, values, weighted_sum};
use super::*;

/// The error function's approximation is off by 1.5e-7 at most; times |x| / 2 for |x| ≤ 8, plus rounding of x.
const TOLERANCE: f32 = 8.0 * 1.5e-7 / 2.0 + 8.0 * f32::EPSILON;

#[test]
fn gelu_and_its_gradient_agree_with_the_composite_form() {
    for shape in [[1, 1], [3, 7], [129, 384]] {
        let (x, reference) = (leaf(shape, 1), leaf(shape, 1));
        let (y, expected) = (gelu(x.clone() * 8.0), composite(reference.clone() * 8.0));
        assert_close(y.clone(), expected.clone(), TOLERANCE);
        let (grads, expected) = (weighted_sum(y).backward(), weighted_sum(expected).backward());
        // The chain rule brings the factor 8 of the line above.
        let gradients = (x.grad(&grads), reference.grad(&expected));
        assert_close(gradients.0.unwrap(), gradients.1.unwrap(), 8.0 * TOLERANCE);
    }
}

#[test]
fn gelu_neither_vanishes_nor_changes_sign_in_the_negative_tail() {
    let x = constant([1, 1], 0) * 0.0 - 5.0;
    // -5 Φ(-5), with Φ(-5) = 2.866515719e-7: the tail form's error there is 0.8 % of it. 1 - Φ(5) in f32 would be 4 %
    // off, and zero from -5.6 on.
    let expected = -1.433_257_9e-6;
    assert!((values(gelu(x))[0] / expected - 1.0).abs() < 0.01);
}

#[test]
fn gelu_is_the_same_bit_for_bit_on_one_and_two_threads() {
    let run = || {
        let x = leaf([257, 300], 3);
        let y = gelu(x.clone());
        let grads = weighted_sum(y.clone()).backward();
        (bits(y), bits(x.grad(&grads).unwrap()))
    };
    assert_eq!(on_threads(1, run), on_threads(2, run));
}

#[test]
fn gelu_leaves_an_input_that_others_hold_unchanged() {
    let x = leaf([4, 5], 2);
    let before = values(x.clone());
    let y = gelu(x.clone()) + x.clone();
    let _ = weighted_sum(y).backward();
    assert_eq!(before, values(x));
}
